"""The nets in PyTorch, eager and compiled, for `benchmarks.throughput`: the multilayer perceptron and LeNet-5, as `benchmarks.peers` asks.

Each starts at our weights and gives them back in our layouts. PyTorch is imported where it is used.
"""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.peers import Layers, Peer, advance
from benchmarks.race import faster
from jaxnn.types import Batch

OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {"eps": 1e-8}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "eps": 1e-8}),
    "adadelta": ("Adadelta", {"rho": 0.95, "eps": 1e-6}),
    "adam": ("Adam", {"eps": 1e-8}),
}
"""Name in `jaxnn.optimizers` -> class in torch.optim and the settings at which it does the same work."""


def torch_mlp(layers: Layers, learning_rate: float, device: str = "cpu", compiled: bool = False, optimizer: str = "sgd") -> Peer:
    """Dense layers with sigmoid units between, on grey images."""
    from torch import nn

    weighted = [nn.Linear(*kernel.shape) for kernel, _ in layers]
    modules = [nn.Flatten(), *(module for linear in weighted for module in (linear, nn.Sigmoid()))]
    return _peer(modules[:-1], weighted, layers, learning_rate, device, compiled, optimizer)


def torch_lenet(layers: Layers, learning_rate: float, device: str = "cpu", compiled: bool = False, optimizer: str = "sgd") -> Peer:
    """`jaxnn.models.LeNet5` of square images, with ReLU and max pooling, channels first as PyTorch has them."""
    from torch import nn

    convs = [nn.Conv2d(kernel.shape[2], kernel.shape[3], 5, padding=p) for (kernel, _), p in zip(layers, (2, 0), strict=False)]
    linears = [nn.Linear(*kernel.shape) for kernel, _ in layers[2:]]
    modules: list[nn.Module] = [module for conv in convs for module in (conv, nn.ReLU(), nn.MaxPool2d(2))]
    modules += [nn.Flatten(), *(module for linear in linears for module in (linear, nn.ReLU()))]
    return _peer(modules[:-1], [*convs, *linears], layers, learning_rate, device, compiled, optimizer)


def _peer(
    modules: Sequence[Any], weighted: Sequence[Any], layers: Layers, learning_rate: float, device: str, compiled: bool, optimizer: str
) -> Peer:
    """`nn.Sequential` under `torch.optim`, whose `weighted` modules start as `layers`.

    `compiled` puts `torch.compile` over the mean loss, and so over its gradient.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False  # float32 convolutions in float32, as on our side
    inputs = [_input_shape(kernel, below) for (kernel, _), (below, _) in zip(layers, [layers[0], *layers], strict=False)]
    for module, (kernel, bias), shape in zip(weighted, layers, inputs, strict=True):
        weight = _outputs_first(kernel.reshape(shape)).reshape(module.weight.shape)
        module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    model = torch.nn.Sequential(*modules).to(device)
    name, settings = OPTIMIZERS[optimizer]
    update = getattr(torch.optim, name)(model.parameters(), lr=learning_rate, **settings)

    def mean_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(images.float() / 255), labels)

    measured = torch.compile(mean_loss, dynamic=False) if compiled else mean_loss

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        update.zero_grad()
        loss = measured(images, labels)
        loss.backward()
        update.step()
        return loss.detach()

    def now() -> Layers:
        return [_in_our_layout(module, kernel, shape) for module, (kernel, _), shape in zip(weighted, layers, inputs, strict=True)]

    return Peer(step, partial(put, device), now, lambda losses: torch.stack(losses).cpu().numpy())


def _input_shape(kernel: np.ndarray, below: np.ndarray) -> tuple[int, ...]:
    """A kernel's shape; of a dense layer that stands on maps, that of a window which covers them all, (P, P, C, n_out)."""
    if kernel.ndim == 4 or below.ndim == 2:
        return kernel.shape
    maps = below.shape[-1]
    side = math.isqrt(len(kernel) // maps)
    return side, side, maps, kernel.shape[-1]


def _outputs_first(kernel: np.ndarray) -> np.ndarray:
    """(n_in, n_out) as (n_out, n_in), and HWIO as OIHW."""
    return np.moveaxis(kernel, (-1, -2), (0, 1)).copy()


def _in_our_layout(module: Any, kernel: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = module.weight.detach().cpu().numpy(), module.bias.detach().cpu().numpy()
    there = (shape[-1], shape[-2], *shape[:-2])
    return np.moveaxis(weight.reshape(there), (0, 1), (-1, -2)).reshape(kernel.shape), bias


def put(device: str, array: np.ndarray) -> Any:
    """Images (N, H, W, C) channels first, written anew: PyTorch chooses its convolution by the strides."""
    import torch

    if array.dtype == np.uint8:
        return torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(device)
    return torch.from_numpy(array.astype(np.int64)).to(device)


def start(make: Callable[..., Peer], data: Batch, batch_size: int, *, compiled: bool) -> Callable[[int], Any]:
    """`advance(num_steps)` of `make(device=, compiled=)` with PyTorch's default number of threads or one, whichever is faster eagerly."""
    device = torch_device(jax.default_backend())
    eager = advance(make(device=device), data, batch_size)
    threads = faster_threads(eager)
    return in_threads(advance(make(device=device, compiled=True), data, batch_size) if compiled else eager, threads)


def faster_threads(advance: Callable[[int], Any], steps: int = 20) -> int:
    """Two wait for each other on a busy machine."""
    return faster({threads: in_threads(advance, threads) for threads in (default_threads(), 1)}, steps)


def in_threads(advance: Callable[[int], Any], threads: int) -> Callable[[int], Any]:
    """`advance(num_steps)` on so many CPU threads."""
    import torch

    def advance_there(num_steps: int) -> Any:
        torch.set_num_threads(threads)
        return advance(num_steps)

    return advance_there


@functools.cache
def default_threads() -> int:
    import torch

    return torch.get_num_threads()


def torch_device(backend: str) -> str:
    """Where PyTorch must compute to stand beside JAX on `backend`."""
    import torch

    if backend == "cpu":
        return "cpu"
    if backend == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise RuntimeError(f"this PyTorch finds no {backend.upper()}")
