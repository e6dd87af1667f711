"""Linen modules as the pure functions that learners take. The one place that deals with `mutable`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
from jaxtyping import Array

Variables = Mapping[str, Any]


class Functional(NamedTuple):
    """`init(key, x) -> variables` and `apply(variables, x, train=, rngs=) -> (outputs, new_variables)`."""

    init: Callable[..., Variables]
    apply: Callable[..., tuple[Array, Variables]]


def functional(module: nn.Module) -> Functional:
    """(init, apply) of a Linen module whose `__call__` is `(x, *, train)`.

    In training, collections other than `params` (BatchNorm's running averages, say) may change, and come back in
    `new_variables`; otherwise `new_variables` is `variables`.

    >>> from jaxnn.models import MLP
    >>> init, apply = functional(MLP((30, 10)))
    """

    def init(key: Array, x: Array) -> Variables:
        params_key, dropout_key = jax.random.split(key)
        return module.init({"params": params_key, "dropout": dropout_key}, x, train=False)

    def apply(variables: Variables, x: Array, *, train: bool, rngs: dict[str, Array] | None = None) -> tuple[Array, Variables]:
        if not train:
            return cast(Array, module.apply(variables, x, train=False, rngs=rngs)), variables
        state = [name for name in variables if name != "params"]
        outputs, changed = module.apply(variables, x, train=True, rngs=rngs, mutable=state)
        return outputs, {**variables, **changed}

    return Functional(init, apply)
