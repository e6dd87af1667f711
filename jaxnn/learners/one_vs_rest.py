"""c nets for c classes: each says yes or no to its own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.coding import are_classes
from jaxnn.types import Batch, InputError, Learner, Metrics, num_examples


class OneVsRest(NamedTuple):
    """The state of `one_vs_rest`."""

    nets: Any
    """That of the binary learner, each leaf with a leading axis of c nets."""


def one_vs_rest(binary: Learner, classes: int) -> Learner:
    """Net i learns the label 1 for class i and 0 for all others; the class is that of the largest output (lecture row 25, S2:527).

    `binary` is a learner of `label` 0 or 1 (B,), with one output; its c copies start from keys of their own and train side by side.
    Metrics are means over the nets; `predict` gives the c outputs (B, c), of which `coding.decode_one_of_c` takes the largest.
    A label outside 0 ≤ label < `classes` makes them NaN.
    """
    if classes < 2:
        raise InputError(f"one_vs_rest needs at least 2 classes, got {classes}")

    def against_rest(batch: Batch, number: Array) -> Batch:
        return {**batch, "label": (batch["label"] == number).astype(batch["label"].dtype)}

    def init(key: PRNGKeyArray, batch: Batch) -> OneVsRest:
        one = lambda key, number: binary.init(key, against_rest(batch, number))  # noqa: E731
        return OneVsRest(jax.vmap(one)(jax.random.split(key, classes), jnp.arange(classes)))

    def step(key: PRNGKeyArray, state: OneVsRest, batch: Batch) -> tuple[OneVsRest, Metrics]:
        one = lambda key, net, number: binary.step(key, net, against_rest(batch, number))  # noqa: E731
        nets, metrics = jax.vmap(one)(jax.random.split(key, classes), state.nets, jnp.arange(classes))
        poison = jnp.where(are_classes(batch["label"], classes).all(), 0.0, jnp.nan)
        return OneVsRest(nets), {name: values.mean(0) + poison for name, values in metrics.items()}

    def evaluate(key: PRNGKeyArray, state: OneVsRest, batch: Batch) -> Metrics:
        one = lambda key, net, number: binary.evaluate(key, net, against_rest(batch, number))  # noqa: E731
        metrics = jax.vmap(one)(jax.random.split(key, classes), state.nets, jnp.arange(classes))
        poison = jnp.where(are_classes(batch["label"], classes), 0.0, jnp.nan)
        return {name: values.mean(0) + poison for name, values in metrics.items()}

    def predict(state: OneVsRest, batch: Batch) -> Float[Array, "B c"]:
        assert binary.predict is not None
        unlabelled = {**batch, "label": jnp.zeros(num_examples(batch), jnp.int32)}  # those of c classes are none of a binary learner's
        outputs = jax.vmap(binary.predict, (0, None))(state.nets, unlabelled)
        if outputs.shape[2:] != (1,):
            raise InputError(f"one_vs_rest: the binary learner's predict must give one output an example, (B, 1), got {outputs.shape[1:]}")
        return jnp.moveaxis(outputs[..., 0], 0, -1)

    return Learner(init, step, evaluate, predict if binary.predict else None)
