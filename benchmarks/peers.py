"""The nets elsewhere, for `benchmarks.throughput`: the multilayer perceptron in NumPy by hand; MiniSom. `torch_peers` has PyTorch's.

All nets do the work that `jaxnn.train.fit` does: softmax and cross-entropy, plain gradient descent, rows drawn by a permutation an epoch
out of uint8 pixels, divided by 255 as float32 in every step, and the loss of every step kept. The perceptron's hidden layers are sigmoid.
A peer is a step and the few things that differ between array libraries.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.types import Batch, Learner

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
"""Kernel (n_in, n_out), or (k, k, C, O) of a convolution, and bias of every layer, float32: where training starts."""


class Peer(NamedTuple):
    step: Callable[[Any, Any], Any]
    """`(images, labels) -> loss` of one batch, measured before the update, which happens in place."""
    put: Callable[[np.ndarray], Any]
    """An array as the library's own, on its device."""
    layers: Callable[[], Layers]
    """The weights as they are now."""
    fetch: Callable[[list], np.ndarray]
    """The losses of many steps as one array, once they are computed."""


def layers_of(net: Learner, data: Batch) -> Layers:
    """The weights that a learner's training starts from."""
    params = net.init(jax.random.key(0), {name: jnp.asarray(rows[:1]) for name, rows in data.items()}).variables["params"]
    return [(np.array(layer["kernel"]), np.array(layer["bias"])) for layer in params.values()]


def advance(made: Peer, data: Batch, batch_size: int) -> Callable[[int], np.ndarray]:
    """A peer's `advance(num_steps)`, which gives the losses."""
    data = {key: made.put(rows) for key, rows in data.items()}
    return lambda num_steps: train(made, data, batch_size, num_steps, np.random.default_rng(0))


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
