"""The multilayer perceptron [784,30,30,10] for `benchmarks.throughput`: alone, in sweeps, in optimizer grids, and elsewhere."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import peers, torch_peers, workloads
from benchmarks.race import Match, faster, ours, peer
from jaxnn import losses, optimizers
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.train import Run, fit, sweep
from jaxnn.types import Batch, Learner

BATCHES = (1, 10, 100, 1000)
FULL_BATCH = 1000
LEARNING_RATE = 0.1
GRID_RATES = (0.001, 0.01, 0.1)
"""What PyTorch trains of a grid; ours has 16 rates between the first and the last."""


def matches(models: Iterable[int], data: Batch) -> list[Match]:
    """Every batch size alone and in sweeps of so many `models`, then the grids."""
    mlps = [mlp(batch_size, models, data) for batch_size in BATCHES]
    return mlps + [optimizer_grid(name, batch_size, data) for batch_size in (10, 100) for name in torch_peers.OPTIMIZERS]


def mlp(batch_size: int, sizes: Iterable[int], data: Batch) -> Match:
    """[784,30,30,10] with sigmoid units: alone, in sweeps over learning rates, and elsewhere."""
    if batch_size == FULL_BATCH:
        data = {name: rows[:FULL_BATCH] for name, rows in data.items()}
    net = mlp_learner(LEARNING_RATE)
    layers = peers.layers_of(net, data)
    flops = mlp_flops(layers, batch_size)
    guess = 15e-6 + flops / 30e9

    def alone(num_steps: int) -> Run:
        return fit(net, jax.random.key(0), data, batch_size=batch_size, num_steps=num_steps, label=None)

    def swept(models: int, num_steps: int) -> Run:
        rates = {"learning_rate": np.geomspace(LEARNING_RATE / 10, LEARNING_RATE, models)}
        return sweep(mlp_learner, jax.random.key(0), data, seeds=1, axes=rates, batch_size=batch_size, num_steps=num_steps, label=None)

    works = {f"mlp_batch{batch_size}": ours(alone, 1, guess)}
    works |= {f"mlp_sweep{models}_batch{batch_size}": ours(partial(swept, models), models, models * guess) for models in sizes}
    theirs = {name: peer(partial(start, layers, data, batch_size)) for name, start in PEERS.items()}
    return Match(works, theirs, flops)


def optimizer_grid(name: str, batch_size: int, data: Batch) -> Match:
    """The tuning grid of `benchmarks.optimizer_family`, 16 rates × 3 seeds as one program; PyTorch trains one model after the other."""
    make_optimizer = optimizers.by_name(name)
    layers = peers.layers_of(mlp_learner(LEARNING_RATE), data)
    rates = {"learning_rate": np.geomspace(GRID_RATES[0], GRID_RATES[-1], 16)}

    def learner(learning_rate: Any) -> Learner:
        return workloads.WORKLOADS["sigmoid_30_30"].learner(make_optimizer, learning_rate)

    def swept(num_steps: int) -> Run:
        return sweep(learner, jax.random.key(0), data, seeds=3, axes=rates, batch_size=batch_size, num_steps=num_steps, label=None)

    flops = mlp_flops(layers, batch_size)
    theirs = {"torch_eager": peer(partial(start_torch_grid, layers, data, batch_size, name))}
    return Match({f"optimizer_grid_batch{batch_size}.{name}": ours(swept, 48, 48 * (50e-6 + flops / 60e9))}, theirs, flops)


def mlp_learner(learning_rate: float) -> Learner:
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(MLP((30, 30, 10))), loss, optax.sgd(learning_rate))


def mlp_flops(layers: peers.Layers, batch_size: int) -> int:
    """2B(3 Σ_l m_l n_l - m_1 n_1) of a training step, for kernels m_l × n_l.

    A product of B × m by m × n is 2Bmn operations: one a layer forward, one for its kernel's gradient, and one for its input's, which
    the first layer does without. Elementwise work is not counted.
    """
    products = [kernel.size for kernel, _ in layers]
    return 2 * batch_size * (3 * sum(products) - products[0])


def start_numpy(layers: peers.Layers, data: Batch, batch_size: int) -> Callable[[int], object]:
    """NumPy with its default number of threads, or with one where that is faster: two wait for each other on a busy machine."""
    by_hand = peers.advance(peers.numpy_mlp(layers, LEARNING_RATE), data, batch_size)
    candidates = {threads: peers.in_blas_threads(by_hand, threads) for threads in (None, 1)}
    return candidates[faster(candidates)]


def start_torch(layers: peers.Layers, data: Batch, batch_size: int, *, compiled: bool) -> Callable[[int], object]:
    return torch_peers.start(partial(torch_peers.torch_mlp, layers, LEARNING_RATE), data, batch_size, compiled=compiled)


def start_torch_grid(layers: peers.Layers, data: Batch, batch_size: int, optimizer: str) -> Callable[[int], object]:
    """A third of the steps at each of three rates, one model after the other, with PyTorch's default number of threads or one."""
    device = torch_peers.torch_device(jax.default_backend())
    models = [peers.advance(torch_peers.torch_mlp(layers, rate, device, optimizer=optimizer), data, batch_size) for rate in GRID_RATES]

    def one_after_the_other(num_steps: int) -> None:
        for number, model in enumerate(models):
            if steps := (num_steps + number) // len(models):
                model(steps)

    return torch_peers.in_threads(one_after_the_other, torch_peers.faster_threads(one_after_the_other))


PEERS: dict[str, Callable[..., Callable[[int], object]]] = {
    "numpy": start_numpy,
    "torch_eager": partial(start_torch, compiled=False),
    "torch_compile": partial(start_torch, compiled=True),
}
