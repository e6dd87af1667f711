"""Residual nets for `benchmarks.throughput`: ResNet-20 on any device, ResNet-18 and ResNet-50 in bfloat16 on accelerators.

`resnet20_batch64` is the net of 32×32 pixels in float32, inside the loop's scan. On accelerators there are `resnet18_batch256_bf16`, of
32×32 pixels too, and `resnet50_batch128_bf16`, of 224×224, both computed in bfloat16 with float32 parameters; PyTorch has autocast and
channels last there. Everyone has momentum of .9 and BatchNorm in training, and starts from weights of their own. The images are noise:
no rate hangs on what they show.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from benchmarks import torch_peers, torch_resnets
from benchmarks.race import Match, Start, ours, peer
from jaxnn import losses, optimizers
from jaxnn.learners import supervised
from jaxnn.models import CifarResNet20, ResNet18, ResNet50, functional
from jaxnn.train import Run, fit
from jaxnn.types import Batch, Learner, PyTree

LEARNING_RATE = 0.1


def matches() -> list[Match]:
    found = [match("resnet20_batch64", CifarResNet20(), torch_resnets.cifar_resnet20, side=32, batch_size=64)]
    if jax.default_backend() != "cpu":
        small, half = ResNet18(classes=10, small_images=True), jnp.bfloat16
        found.append(match("resnet18_batch256_bf16", small, torch_resnets.small_resnet18, side=32, batch_size=256, dtype=half))
        found.append(match("resnet50_batch128_bf16", ResNet50(), torch_resnets.resnet50, side=224, batch_size=128, dtype=half))
    return found


def match(work: str, net: Any, theirs: Callable[[], Any], *, side: int, batch_size: int, dtype: DTypeLike | None = None) -> Match:
    """One net in the loop's scan, beside the same in PyTorch, eager and compiled."""
    flops = residual_flops(net, (side, side, 3), batch_size)
    start = partial(start_torch, theirs, side=side, batch_size=batch_size, half=dtype is not None)
    peer_works: dict[str, Start] = {f"torch_{how}": peer(partial(start, compiled=how == "compile")) for how in ("eager", "compile")}
    rate = 1e11 if jax.default_backend() == "cpu" else 5e13
    works = {work: ours(partial(train, net, side, batch_size, dtype), 1, flops / rate)}
    return Match(works, peer_works, flops, dtype=jnp.dtype(dtype or jnp.float32).name)


def noise(side: int, batch_size: int) -> Batch:
    """Eight batches of images in three colours, of ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8 * batch_size, side, side, 3), np.uint8)
    return {"image": images, "label": rng.integers(0, 10, len(images)).astype(np.int32)}


def learner(net: Any, dtype: DTypeLike | None = None) -> Learner:
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(net), loss, optimizers.momentum(LEARNING_RATE), compute_dtype=dtype)


def train(net: Any, side: int, batch_size: int, dtype: DTypeLike | None, num_steps: int) -> Run:
    data = noise(side, batch_size)
    return fit(learner(net, dtype), jax.random.key(0), data, batch_size=batch_size, num_steps=num_steps, label=None)


def start_torch(make: Callable[[], Any], *, side: int, batch_size: int, half: bool, compiled: bool) -> Callable[[int], object]:
    made = partial(torch_resnets.residual_peer, make, LEARNING_RATE, half=half)
    return torch_peers.start(made, noise(side, batch_size), batch_size, compiled=compiled)


def residual_flops(net: Any, image: tuple[int, ...], batch_size: int) -> int:
    """2B(3 Σ_l p_l m_l - p_1 m_1) of a training step, for layers of m_l weights, each used at p_l places of the maps above them.

    As `lenet_flops` counts them: forward, for the weights' gradients and for the inputs', which the first layer does without.
    """
    x = jnp.zeros((1, *image))
    variables = jax.eval_shape(functional(net).init, jax.random.key(0), x)
    show = partial(net.apply, capture_intermediates=True, mutable=["intermediates"])
    above = jax.eval_shape(show, variables, x)[1]["intermediates"]
    products = list(_products(variables["params"], above))
    return 2 * batch_size * (3 * sum(products) - products[0])


def _products(params: PyTree, above: PyTree) -> Iterator[int]:
    """p_l m_l of every layer with a kernel; of BatchNorm nothing is counted."""
    for name, below in params.items():
        if "kernel" in below:
            yield math.prod(above[name]["__call__"][0].shape[1:-1]) * below["kernel"].size
        elif "scale" not in below:
            yield from _products(below, above[name])
