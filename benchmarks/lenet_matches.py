"""LeNet-5 for `benchmarks.throughput`: batch 128, inside the loop's scan, step by step from Python, and beside PyTorch.

`lenet_batch128` is what `fit` does, many steps in one compiled scan. `lenet_batch128_stepped` calls the learner's compiled step once a
batch, which is no faster: the slow path that XLA has for convolutions inside loops (jax issue 12868) is not taken (`models/conv.py`).
`lenet_batch128_bf16`, on accelerators
alone, computes the net in bfloat16, beside PyTorch in float32. Everyone has ReLU, max pooling and plain gradient descent.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from benchmarks import peers, torch_peers
from benchmarks.race import Match, ours, peer
from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.models import LeNet5, functional
from jaxnn.train import Run, fit
from jaxnn.types import Batch, Learner

BATCH = 128
LEARNING_RATE = 0.1


def matches(data: Batch) -> list[Match]:
    flops = lenet_flops(data["image"].shape[1:], BATCH)
    guess = 1e-4 + flops / 30e9
    net = lenet_learner()
    works = {
        f"lenet_batch{BATCH}": ours(partial(train, net, data), 1, guess),
        f"lenet_batch{BATCH}_stepped": peer(lambda: stepped(net, data, BATCH)),
    }
    if jax.default_backend() != "cpu":
        works[f"lenet_batch{BATCH}_bf16"] = ours(partial(train, lenet_learner(jnp.bfloat16), data), 1, guess)
    theirs = {f"torch_{how}": peer(partial(start_torch, net, data, compiled=how == "compile")) for how in ("eager", "compile")}
    return [Match(works, theirs, flops)]


def lenet_learner(compute_dtype: DTypeLike | None = None) -> Learner:
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(LeNet5()), loss, optax.sgd(LEARNING_RATE), compute_dtype=compute_dtype)


def lenet_flops(image: tuple[int, ...], batch_size: int) -> int:
    """2B(3 Σ_l p_l m_l - p_1 m_1) of a training step on images (H, W, C), for layers of m_l weights, each used at p_l places.

    Forward, for the weights' gradients, and for the inputs', which the first layer does without. Elementwise work is not counted; the
    zeros around c1's input are.
    """
    rows, columns, channels = image
    c3 = rows // 2 - 4, columns // 2 - 4
    covered = c3[0] // 2 * (c3[1] // 2)
    products = [rows * columns * 25 * channels * 6, math.prod(c3) * 25 * 6 * 16, covered * 16 * 120, 120 * 84, 84 * 10]
    return 2 * batch_size * (3 * sum(products) - products[0])


def train(net: Learner, data: Batch, num_steps: int) -> Run:
    return fit(net, jax.random.key(0), data, batch_size=BATCH, num_steps=num_steps, label=None)


def stepped(net: Learner, data: Batch, batch_size: int) -> Callable[[int], np.ndarray]:
    """`advance(num_steps)` by one call of the compiled step a batch, from the start each time; it gives the losses."""
    placed = {name: jnp.asarray(rows) for name, rows in data.items()}
    start, count = net.init(jax.random.key(0), placed), len(data["label"])

    @jax.jit
    def step(state: Any, placed: Batch, t: int, rows: Any) -> tuple[Any, jax.Array]:
        state, metrics = net.step(jax.random.fold_in(jax.random.key(1), t), state, {name: values[rows] for name, values in placed.items()})
        return state, metrics["loss"]

    def advance(num_steps: int) -> np.ndarray:
        state, measured = start, []
        for t, rows in enumerate(peers.rows(count, batch_size, num_steps, np.random.default_rng(0), np.asarray)):
            state, loss = step(state, placed, t, np.arange(count) if rows is ... else rows)
            measured.append(loss)
        return np.array(jax.device_get(measured))

    return advance


def start_torch(net: Learner, data: Batch, *, compiled: bool) -> Callable[[int], object]:
    make = partial(torch_peers.torch_lenet, peers.layers_of(net, data), LEARNING_RATE)
    return torch_peers.start(make, data, BATCH, compiled=compiled)
