"""Where a training step of LeNet-5 goes, for `benchmarks.convolution`: the whole step, and its parts that are no convolutions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from benchmarks.convolution_layers import LAYERS, computed, looped, way_taken
from benchmarks.lenet_matches import lenet_learner
from benchmarks.race import Match, peer
from jaxnn import activations, losses
from jaxnn.models import MLP, functional
from jaxnn.models.pooling import max_pool
from jaxnn.program import Compiled, quick

C1, C3 = ("lenet_c1", "kernel"), ("lenet_c3", "both")
"""What a training step asks of LeNet-5's convolutions: nothing lies below the first."""


def profile_match(batch_size: int) -> Match:
    """A whole step of LeNet-5, and the parts of it that are no convolutions."""
    works = {"whole step": whole_step, "ReLU and pooling": poolings, "dense layers and loss": dense_layers}
    return Match({name: peer(partial(make, batch_size)) for name, make in works.items()}, {}, float("nan"))


def whole_step(batch_size: int, batches: int = 8) -> Callable[[int], Any]:
    """`advance(times)` of the learner that `benchmarks.throughput` trains, on random digits that lie on the device."""
    net, rng, count = lenet_learner(), np.random.default_rng(0), batches * batch_size
    images, labels = rng.integers(0, 256, (count, 28, 28, 1), np.uint8), rng.integers(0, 10, count, np.int32)
    data = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}

    @partial(Compiled, options=quick)
    def loop(times: int, state: Any, data: Mapping[str, Array]) -> Any:
        def body(t: Array, state: Any) -> Any:
            batch = {name: lax.dynamic_slice_in_dim(rows, t % batches * batch_size, batch_size) for name, rows in data.items()}
            return net.step(jax.random.fold_in(jax.random.key(1), t), state, batch)[0]

        return lax.fori_loop(0, times, body, state)

    start = net.init(jax.random.key(0), data)
    return lambda times: jax.block_until_ready(loop(times, start, data))


def poolings(batch_size: int) -> Callable[[int], Any]:
    """max_pool(ReLU(maps + bias)) behind c1 and c3, with the gradients of maps and bias."""
    rng, args = np.random.default_rng(0), []
    for name in (C1[0], C3[0]):
        maps, side, _, features = LAYERS[name].output(batch_size)
        shapes = (maps, side, side, features), (features,), (maps, side // 2, side // 2, features)
        args += [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]

    def pooled(maps: Array, bias: Array) -> Array:
        return max_pool(activations.relu(maps + bias[None, None, None]))

    def compute(*args: Array) -> tuple[Array, ...]:
        return (*computed(pooled, "both", *args[:3]), *computed(pooled, "both", *args[3:]))

    return looped(compute, *args)


def dense_layers(batch_size: int) -> Callable[[int], Any]:
    """c5, f6 and output on flat maps, softmax and cross-entropy, with the gradients of the weights and of the maps."""
    rng, (init, apply) = np.random.default_rng(0), functional(MLP((120, 84, 10), activations.relu))
    maps, labels = rng.standard_normal((batch_size, 400), dtype=np.float32), jnp.asarray(rng.integers(0, 10, batch_size, np.int32))

    def loss(params: Any, maps: Array) -> Array:
        outputs, _ = apply({"params": params}, maps, train=True)
        return losses.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

    params = init(jax.random.key(0), jnp.asarray(maps))["params"]
    return looped(jax.value_and_grad(loss, argnums=(0, 1)), params, maps)


def shares(history: Mapping[str, np.ndarray], pieces: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ms of each part of a step and of the `rest`, in medians, and of the whole step, (repeats,)."""
    parts = {name.removeprefix("lenet_"): history[f"ms/{name}/{kind}/{way_taken(LAYERS[name])}"] for name, kind in (C1, C3)}
    parts |= {name: values for name, values in pieces.items() if name != "whole step"}
    rest = np.median(pieces["whole step"]) - sum(np.median(values) for values in parts.values())
    return {**parts, "rest": np.array([rest]), "whole step": pieces["whole step"]}
