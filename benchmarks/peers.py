"""The nets elsewhere, for `benchmarks.throughput`: the multilayer perceptron in NumPy by hand, PyTorch eager and torch.compile; MiniSom.

All perceptrons do the work that `jaxnn.train.fit` does: sigmoid hidden layers, softmax and cross-entropy, plain gradient descent, rows
drawn by a permutation an epoch out of uint8 pixels, divided by 255 as float32 in every step, and the loss of every step kept.
A peer is a step and the few things that differ between array libraries; PyTorch is imported where it is used.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnn.types import Batch

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
"""Kernel (n_in, n_out) and bias (n_out,) of every layer, float32: where training starts."""


class Peer(NamedTuple):
    step: Callable[[Any, Any], Any]
    """`(images, labels) -> loss` of one batch, measured before the update, which happens in place."""
    put: Callable[[np.ndarray], Any]
    """An array as the library's own, on its device."""
    layers: Callable[[], Layers]
    """The weights as they are now."""
    fetch: Callable[[list], np.ndarray]
    """The losses of many steps as one array, once they are computed."""


def train(peer: Peer, data: Batch, batch_size: int, num_steps: int, rng: np.random.Generator) -> np.ndarray:
    """The losses (num_steps,). `data` is what `peer.put` gave, and a batch of its size is all of it, as it stands."""
    images, labels = data["image"], data["label"]
    drawn = rows(len(labels), batch_size, num_steps, rng, peer.put)
    return peer.fetch([peer.step(images[index], labels[index]) for index in drawn])


def rows(count: int, batch_size: int, num_steps: int, rng: np.random.Generator, put: Callable) -> Iterator[Any]:
    """The rows of every step: a permutation an epoch, cut into batches, the last partial one dropped."""
    if batch_size == count:
        yield from itertools.repeat(..., num_steps)
        return
    per_epoch = count // batch_size
    for first in range(0, num_steps, per_epoch):
        order = rng.permutation(count)[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        yield from put(order[: num_steps - first])


def numpy_mlp(layers: Layers, learning_rate: float) -> Peer:
    """Backpropagation by hand: δ^L = softmax(z) - t, δ^l = δ^(l+1) Wᵀ y(1 - y); lecture rows 45 and 46."""
    params = [(kernel.copy(), bias.copy()) for kernel, bias in layers]

    def step(images: np.ndarray, labels: np.ndarray) -> np.float32:
        outputs, log_probabilities = _forward(params, images.reshape(len(images), -1).astype(np.float32) / 255)
        target = np.arange(len(labels)), labels
        delta = np.exp(log_probabilities)
        delta[target] -= 1
        delta /= len(labels)
        for number in reversed(range(len(params))):
            (kernel, bias), y = params[number], outputs[number]
            gradients = y.T @ delta, delta.sum(0)
            if number:  # nothing lies below the first layer
                delta = (delta @ kernel.T) * (y * (1 - y))
            kernel -= learning_rate * gradients[0]
            bias -= learning_rate * gradients[1]
        return -log_probabilities[target].mean()

    return Peer(step, np.asarray, lambda: params, np.array)


def _forward(params: Layers, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """What each layer gets, and log softmax of what the last gives."""
    outputs = [x]
    for kernel, bias in params[:-1]:
        outputs.append(1 / (1 + np.exp(-(outputs[-1] @ kernel + bias))))
    logits = outputs[-1] @ params[-1][0] + params[-1][1]
    logits -= logits.max(1, keepdims=True)
    return outputs, logits - np.log(np.exp(logits).sum(1, keepdims=True))


def in_blas_threads(advance: Callable[[int], Any], threads: int | None) -> Callable[[int], Any]:
    """`advance(num_steps)` with NumPy's products on so many threads; None leaves them alone."""
    # It comes with scikit-learn, and that with mlxtend.
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()

    def advance_there(num_steps: int) -> Any:
        with controller.limit(limits=threads, user_api="blas"):
            return advance(num_steps)

    return advance_there


TORCH_OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
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
    """`nn.Sequential` under `torch.optim`; `compiled` puts `torch.compile` over the mean loss, and so over its gradient."""
    import torch

    modules: list[torch.nn.Module] = [torch.nn.Flatten()]
    for kernel, bias in layers:
        linear = torch.nn.Linear(*kernel.shape)
        linear.load_state_dict({"weight": torch.tensor(kernel.T), "bias": torch.tensor(bias)})
        modules += [linear, torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*modules[:-1]).to(device)
    name, settings = TORCH_OPTIMIZERS[optimizer]
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
        return [(m.weight.detach().cpu().numpy().T, m.bias.detach().cpu().numpy()) for m in model if isinstance(m, torch.nn.Linear)]

    def put(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.int64)).to(device)

    return Peer(step, put, now, lambda losses: torch.stack(losses).cpu().numpy())


def torch_device(backend: str) -> str:
    """Where PyTorch must compute to stand beside JAX on `backend`."""
    import torch

    if backend == "cpu":
        return "cpu"
    if backend == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise RuntimeError(f"this PyTorch finds no {backend.upper()}")


def in_torch_threads(advance: Callable[[int], Any], threads: int) -> Callable[[int], Any]:
    """`advance(num_steps)` on so many CPU threads."""
    import torch

    def advance_there(num_steps: int) -> Any:
        torch.set_num_threads(threads)
        return advance(num_steps)

    return advance_there


@functools.cache
def torch_default_threads() -> int:
    import torch

    return torch.get_num_threads()


def minisom(codebook: np.ndarray, rows: int, radius: float, learning_rate: float) -> Any:
    """A MiniSom of a rectangular grid, with Gaussian neighbourhood, its own decay, and this codebook (M, D); it computes in float64."""
    from minisom import MiniSom

    columns = len(codebook) // rows
    made = MiniSom(columns, rows, codebook.shape[1], sigma=radius, learning_rate=learning_rate)
    made._weights = codebook.reshape(rows, columns, -1).transpose(1, 0, 2).astype(float)  # its first index is the place in a row
    return made


def minisom_online(made: Any, pixels: np.ndarray) -> Callable[[int], None]:
    """`advance(samples)`: one sample after the other, in their order."""
    return lambda samples: made.train(pixels, samples)


def minisom_batch(made: Any, pixels: np.ndarray) -> Callable[[int], None]:
    """`advance(samples)`: passes over all, and a last one over what is left."""

    def advance(samples: int) -> None:
        passes, rest = divmod(samples, len(pixels))
        if passes:
            made.train_batch_offline(pixels, passes)
        if rest:
            made.train_batch_offline(pixels[:rest], 1)

    return advance
