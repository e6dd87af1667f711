"""The self-organising map for `benchmarks.throughput`: 10 × 10 units on the pixels of digits, online and batch, beside MiniSom.

A model-step is one sample. `som_online` does what MiniSom does, with the same schedules and the same neighbourhood, from uint8 pixels,
which it shuffles, in float32; MiniSom has them ready in float64. `som_batch` is Kohonen's batch rule, another algorithm than
MiniSom's online one, which it is compared with for its speed: `quality` tells what quantization errors they come to.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from benchmarks.race import Match, ours, peer
from jaxnn.learners import Competitive, batch_competitive, competitive
from jaxnn.models.som import rectangular
from jaxnn.schedules import inverse_time
from jaxnn.train import Run, fit
from jaxnn.types import Batch, Learner

SIDE = 10
RADIUS = 3.0
LEARNING_RATE = 0.5
BATCH = 128
"""Samples that a step of `som_online` presents, one after the other."""
PASSES = 10
"""Passes over the data in which `som_batch` is trained for its quality; online one is enough."""


def matches(data: Batch) -> list[Match]:
    data, pixels, units = {"image": data["image"]}, flat(data), SIDE * SIDE
    product = 2 * units * pixels.shape[1]  # w·x of every unit; to move them all is as much, their own sums are not counted
    batch_size = min(BATCH, len(pixels))
    online = partial(peers.minisom_online, pixels=pixels)
    in_batches = partial(peers.minisom_batch, pixels=pixels)
    theirs = {"minisom_online": prepared(online, pixels)}
    alone = partial(train, online_map(len(pixels)), data, batch_size)
    by_batch = partial(train, batch_map(), data, None)
    return [
        Match({"som_online": ours(alone, batch_size, batch_size * 8e-6)}, theirs, 2 * product, partial(online_quality, data, pixels)),
        Match(
            {"som_batch": ours(by_batch, len(pixels), len(pixels) * 3e-6)},
            theirs | {"minisom_batch": prepared(in_batches, pixels)},
            product,
            partial(batch_quality, data, pixels),
        ),
    ]


def flat(data: Batch) -> np.ndarray:
    """Pixels from 0 to 1 in float64, which MiniSom computes in."""
    return data["image"].reshape(len(data["image"]), -1) / 255


def start(pixels: np.ndarray) -> np.ndarray:
    """The codebook that all begin with for their quality, (M, D)."""
    return np.random.default_rng(0).random((SIDE * SIDE, pixels.shape[1])).astype(np.float32)


def online_map(samples: int) -> Learner:
    """MiniSom's schedules over so many samples."""
    decay = 2 / samples
    return competitive(rectangular(SIDE, SIDE), learning_rate=inverse_time(LEARNING_RATE, decay), radius=inverse_time(RADIUS, decay))


def batch_map() -> Learner:
    return batch_competitive(rectangular(SIDE, SIDE), radius=inverse_time(RADIUS, 2 / PASSES))


def train(learner: Learner, data: Batch, batch_size: int | None, num_steps: int, **more: Any) -> Run:
    return fit(learner, jax.random.key(0), data, batch_size=batch_size, num_steps=num_steps, label=None, **more)


def prepared(advance: Callable[[Any], Callable[[int], object]], pixels: np.ndarray) -> Callable:
    """MiniSom, ready to take samples."""
    return peer(lambda: advance(peers.minisom(start(pixels), SIDE, RADIUS, LEARNING_RATE)))


def error_of_ours(learner: Learner, data: Batch, batch_size: int | None, num_steps: int, codebook: np.ndarray) -> np.ndarray:
    begin = 0, Competitive(jnp.asarray(codebook), jnp.zeros((), jnp.int32))
    run = train(learner, data, batch_size, num_steps, start=begin, eval_data=data)
    return np.asarray(run.history.evaluation["quantization_error"][-1])


def online_quality(data: Batch, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """After one pass each, from the same codebook; ours without what is left over of the last batch, and in an order of its own."""
    batch_size = min(BATCH, len(pixels))
    error = error_of_ours(online_map(len(pixels)), data, batch_size, len(pixels) // batch_size, start(pixels))
    return {"quantization error, online, 1 pass": error} | quality_of_minisom(pixels)


def batch_quality(data: Batch, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """After `PASSES` passes; MiniSom online after one, which takes it longer."""
    error = error_of_ours(batch_map(), data, None, PASSES, start(pixels))
    return {f"quantization error, batch, {PASSES} passes": error} | quality_of_minisom(pixels)


def quality_of_minisom(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Nothing where it is not installed."""
    try:
        made = peers.minisom(start(pixels), SIDE, RADIUS, LEARNING_RATE)
    except ModuleNotFoundError:
        return {}
    peers.minisom_online(made, pixels)(len(pixels))
    return {"quantization error, MiniSom online, 1 pass": np.asarray(made.quantization_error(pixels))}
