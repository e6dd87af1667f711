"""What in the data may have made a run diverge: numbers that are not finite, and labels outside the classes."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.coding import check_labels
from jaxnn.types import Batch, InputError, Learner


def in_words(learner: Learner, state: Any, data: Mapping[str, Batch]) -> str:
    """A sentence for each suspect in these data, by the names that their arrays go by; nothing where there is none."""
    found = [sentence for name, batch in data.items() for sentence in (*_not_finite(name, batch), *_labels(learner, state, name, batch))]
    return "".join(f"{sentence} " for sentence in found)


def _not_finite(name: str, batch: Batch) -> Iterator[str]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and not (finite := np.isfinite(leaf)).all():
            first = int(np.argwhere(~np.asarray(finite))[0][0])
            yield f"{name}{jax.tree_util.keystr(path)} is not finite, first in example {first}."


def _labels(learner: Learner, state: Any, name: str, batch: Batch) -> Iterator[str]:
    label = batch.get("label") if isinstance(batch, Mapping) else None
    if label is None or not jnp.issubdtype(label.dtype, jnp.integer):
        return
    classes = _classes(learner, state, batch)
    if classes is None:
        yield f"The labels of {name} run from {int(label.min())} to {int(label.max())}: one outside the classes makes a loss NaN."
        return
    try:
        check_labels(np.asarray(label), classes)
    except InputError as error:
        yield f"In {name}, {error}: such a label makes a loss NaN."


def _classes(learner: Learner, state: Any, batch: Batch) -> int | None:
    """K of outputs (B, K) for labels (B,); None where the learner has no such outputs, or only one."""
    if learner.predict is None:
        return None
    outputs = jax.eval_shape(learner.predict, state, jax.tree.map(lambda x: jnp.asarray(x[:1]), batch))
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    return shape[-1] if len(shape) == batch["label"].ndim + 1 and shape[-1] > 1 else None
