"""What we look at while a network learns."""

import re

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.types import InputError, Metrics, PyTree


def layer_gradient_norms(gradients: PyTree) -> Metrics:
    """‖δ^l‖ = ‖∂C/∂b^l‖₂ of every layer l with a bias, from the input to the output, as `gradient_norm` (L,).

    For C the mean loss over a batch, δ^l is the mean over the batch of the layer's error ∂C/∂z^l: the speed at which the
    layer learns. Layers are ordered by their names with numbers read as numbers, so that `hidden_10` follows
    `hidden_9`; `output` comes after `hidden`.

    Source: Nielsen, Neural Networks and Deep Learning, ch. 5; lecture row 68.
    """
    biases = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(gradients) if getattr(path[-1], "key", None) == "bias"]
    if not biases:
        raise InputError("layer_gradient_norms needs gradients with leaves named 'bias'; this net has none")
    ordered = sorted(biases, key=lambda item: _natural(jax.tree_util.keystr(item[0])))
    return {"gradient_norm": _norms([leaf for _, leaf in ordered])}


def _norms(leaves: list[Float[Array, "..."]]) -> Float[Array, "L"]:
    return jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in leaves])


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
