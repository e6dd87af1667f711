"""Linen modules as the pure functions that learners take, and what their layers give. The one place that deals with `mutable`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from jaxnn.types import InputError, unknown

Variables = Mapping[str, Any]
AUXILIARY = "auxiliary"
"""The collection of outputs beside a net's own, which have a part in its training alone."""
Module: TypeAlias = nn.Module
"""Flax Linen's, under a name for those who must not import flax: all but `models/`."""


class Functional(NamedTuple):
    """`init(key, x) -> variables` and `apply(variables, x, train=, rngs=) -> (outputs, new_variables)`."""

    init: Callable[..., Variables]
    apply: Callable[..., tuple[Array, Variables]]


def functional(module: nn.Module) -> Functional:
    """(init, apply) of a Linen module whose `__call__` is `(x, *, train)`.

    In training, collections other than `params` (BatchNorm's running averages, say) may change, and come back in `new_variables`, with
    what the module sows under `auxiliary` (the logits of GoogLeNet's heads); otherwise `new_variables` is `variables`.

    >>> from jaxnn.models import MLP
    >>> init, apply = functional(MLP((30, 10)))
    """

    def init(key: Array, x: Array) -> Variables:
        params_key, dropout_key = jax.random.split(key)
        variables = module.init({"params": params_key, "dropout": dropout_key}, x, train=False)
        return {name: values for name, values in variables.items() if name != AUXILIARY}

    def apply(variables: Variables, x: Array, *, train: bool, rngs: dict[str, Array] | None = None) -> tuple[Array, Variables]:
        if not train:
            return cast(Array, module.apply(variables, x, train=False, rngs=rngs)), variables
        state = [name for name in variables if name != "params"]
        outputs, changed = module.apply(variables, x, train=True, rngs=rngs, mutable=[*state, AUXILIARY])
        return outputs, {**variables, **changed}

    return Functional(init, apply)


def layers(module: nn.Module, variables: Variables, x: Array) -> dict[str, Array]:
    """What every named layer of the module gives for x, by its name; of a layer that is called several times, what it gave first.

    A net that applies its activations itself, as those of this library do, gives its weighted sums. A layer inside another one has
    both names, `block/conv`. It can be jitted, and differentiated from x to any layer.
    """
    _, seen = module.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
    given = flatten_dict(seen["intermediates"], sep="/")
    return {name.removesuffix("/__call__"): calls[0] for name, calls in given.items() if name.endswith("/__call__")}


def apply_changed(module: nn.Module, variables: Variables, x: Array, layer: str, change: Callable[[Array], Array]) -> Array:
    """The outputs for x where the layer of that name gives `change(y)` in place of y.

    `lambda y: y + shift` differentiates with respect to a layer, `lambda y: maps` is the net above it. Raises `InputError` for a layer
    that there is none of, and for one that is called several times: all its calls would change, where `layers` gives the first.
    """
    met = []

    def intercept(call: Callable, args: tuple, how: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        y = call(*args, **how)
        if context.method_name != "__call__":
            return y
        met.append("/".join(context.module.path))
        return change(y) if met[-1] == layer else y

    with nn.intercept_methods(intercept):
        outputs = module.apply(variables, x, train=False)
    if not layer or layer not in met:
        raise unknown("layer", layer, filter(None, met))
    if (calls := met.count(layer)) > 1:
        raise InputError(
            f"layer {layer!r} is called {calls} times, and which call is meant cannot be said; a layer of its own for each can"
        )
    return cast(Array, outputs)
