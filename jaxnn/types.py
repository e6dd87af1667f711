"""What everything shares: the contract of a learner, and the error for a caller's mistake."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

PyTree = Any
"""Nested containers with arrays at the leaves."""
Batch = PyTree
"""A dict of arrays with a leading axis B, as stored; None for a learner that makes its own data."""
Metrics = dict[str, jax.Array]


class Learner(NamedTuple):
    """How a network learns: three pure functions, and one for its use; none of them jitted.

    `state` is a NamedTuple of arrays only. `step` keeps its tree, shapes and dtypes, so that a run can be scanned,
    vmapped over seeds and hyper-parameters, sharded and saved by the one loop in `jaxnn.train`.
    """

    init: Callable[[jax.Array, Batch], Any]
    """`(key, batch) -> state`; the batch gives shapes and dtypes."""
    step: Callable[[jax.Array, Any, Batch], tuple[Any, Metrics]]
    """`(key, state, batch) -> (state, metrics)`; metrics are a flat dict of arrays of fixed shape, mostly scalars."""
    evaluate: Callable[[jax.Array, Any, Batch], Metrics]
    """`(key, state, batch) -> metrics`, a flat dict of (B,) arrays, one value an example."""
    predict: Callable[[Any, Batch], Any] | None = None
    """`(state, batch) -> outputs`, what the trained network gives, (B, ...); None for a learner that predicts nothing."""


class Trained(NamedTuple):
    """A learner with the state that training left: ready to predict."""

    learner: Learner
    state: Any

    def predict(self, batch: Batch) -> Any:
        """The outputs for a batch, compiled once for each shape. Raises `InputError` for a learner that predicts nothing."""
        if self.learner.predict is None:
            raise InputError("this learner has no `predict`")
        return jax.jit(self.learner.predict)(self.state, batch)


class InputError(ValueError):
    """What the caller gave cannot be used; the message says what was wrong, where, and what would be right."""


def num_examples(data: PyTree) -> int:
    """B of arrays (B, ...) that share their leading axis."""
    return jax.tree.leaves(data)[0].shape[0]


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a table, with the nearest one that is.

    >>> unknown("activation", "sigmod", ["relu", "sigmoid"])
    InputError("unknown activation 'sigmod'; did you mean 'sigmoid'? Known: relu, sigmoid")
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return InputError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")
