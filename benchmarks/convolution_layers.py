"""The layers of `benchmarks.convolution`, and what is timed of them: passes in each way of `jaxnn.models.conv` and in PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from benchmarks import torch_peers
from jaxnn.models import conv
from jaxnn.program import Compiled, quick


class Layer(NamedTuple):
    """A convolution of `below` square maps of `size`² pixels to `above` maps, by windows of `window`²."""

    size: int
    below: int
    above: int
    window: int
    stride: int = 1
    padding: int = 0

    @property
    def zeros(self) -> conv.Zeros:
        return ((self.padding, self.padding),) * 2

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        return self.window, self.window, self.below, self.above

    def output(self, batch_size: int) -> tuple[int, int, int, int]:
        side = (self.size + 2 * self.padding - self.window) // self.stride + 1
        return batch_size, side, side, self.above

    def flops(self, batch_size: int) -> int:
        """2BP²k²CO of a pass forward; each gradient takes as many."""
        return 2 * int(np.prod(self.output(batch_size))) * self.window**2 * self.below


LAYERS = {
    "lenet_c1": Layer(28, 1, 6, 5, padding=2),
    "lenet_c3": Layer(14, 6, 16, 5),
    "3x3_3to16": Layer(32, 3, 16, 3, padding=1),
    "3x3_16to16": Layer(32, 16, 16, 3, padding=1),
    "3x3_16to32_stride2": Layer(32, 16, 32, 3, 2, 1),
    "3x3_32to32": Layer(16, 32, 32, 3, padding=1),
    "3x3_64to64": Layer(8, 64, 64, 3, padding=1),
    "5x5_32to32": Layer(16, 32, 32, 5, padding=2),
}
"""LeNet-5's two; those of a residual net on images of 32×32; one of Krizhevsky's size of window."""
PASSES = {"forward": "forward", "kernel": "forward and the kernel's gradient", "both": "forward and both gradients"}


def way_taken(layer: Layer) -> str:
    """What `jaxnn.models.conv.conv` does with it here."""
    if jax.default_backend() != "cpu":
        return "plain"
    return "tiled" if layer.stride == 1 and conv.tiles_pay(layer.kernel) else "direct"


def ways(layer: Layer) -> dict[str, Callable[[Array, Array], Array]]:
    """The convolutions (x, kernel) -> y by their names in `jaxnn.models.conv`."""

    def of(function: Callable[..., Array], *how: Any) -> Callable[[Array, Array], Array]:
        return lambda x, kernel: function(x, kernel, *how)

    how = (layer.stride, layer.zeros, 1)
    found = {"plain": of(conv.plain, *how), "direct": of(conv.direct, *how)}
    return found | ({"tiled": of(conv.tiled, layer.zeros)} if layer.stride == 1 else {})


class Arrays(NamedTuple):
    x: Float[np.ndarray, "B H W C"]
    kernel: Float[np.ndarray, "k k C O"]
    delta: Float[np.ndarray, "B P Q O"]
    """∂E/∂y."""


def drawn(layer: Layer, batch_size: int) -> Arrays:
    rng = np.random.default_rng(0)
    shapes = (batch_size, layer.size, layer.size, layer.below), layer.kernel, layer.output(batch_size)
    return Arrays(*(rng.standard_normal(shape, dtype=np.float32) for shape in shapes))


def computed(function: Callable[[Array, Array], Array], kind: str, x: Array, kernel: Array, delta: Array) -> tuple[Array, ...]:
    """y; with the kernel's gradient behind it; with x's and the kernel's."""
    if kind == "forward":
        return (function(x, kernel),)
    y, back = jax.vjp(partial(function, x), kernel) if kind == "kernel" else jax.vjp(function, x, kernel)
    return y, *back(delta)


def looped(compute: Callable[..., tuple[Array, ...]], *args: Any) -> Callable[[int], Any]:
    """`advance(times)` of `compute(*args)` in one compiled loop; it gives the arguments and results as they are then.

    The first number of each argument moves by 1e-9 of the first numbers of the results, which all are kept: so no part of `compute`
    can leave the loop or be left out. It is compiled as `jaxnn.train` compiles.
    """

    def move(arg: Array, by: Array) -> Array:
        origin = (0,) * arg.ndim
        return lax.dynamic_update_slice(arg, (arg[origin] + by).reshape((1,) * arg.ndim), origin)

    @partial(Compiled, options=quick)
    def loop(times: int, args: tuple[Array, ...]) -> Any:
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), jax.eval_shape(compute, *args))

        def body(_: Array, carry: tuple) -> tuple:
            results = compute(*carry[0])
            by = 1e-9 * sum(leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(results))
            return jax.tree.map(lambda arg: move(arg, by), carry[0]), results

        return lax.fori_loop(0, times, body, (args, nothing))

    args = jax.tree.map(jnp.asarray, args)
    return lambda times: jax.block_until_ready(loop(times, args))


def torch_passes(layer: Layer, kind: str, arrays: Arrays) -> Callable[[int], Any]:
    """`advance(times)` of PyTorch, with the better of two numbers of threads."""
    once = torch_pass(layer, kind, arrays, torch_peers.torch_device(jax.default_backend()))

    def advance(times: int) -> None:
        for _ in range(times):
            y, *_ = once()
        y.flatten()[0].item()  # waits for an accelerator

    return torch_peers.in_threads(advance, torch_peers.faster_threads(advance, 5))


def torch_pass(layer: Layer, kind: str, arrays: Arrays, device: str) -> Callable[[], tuple[Any, ...]]:
    """`computed` in PyTorch, in its layouts NCHW and OIHW."""
    import torch

    x, delta = (torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(device) for array in (arrays.x, arrays.delta))
    kernel = torch.from_numpy(arrays.kernel.transpose(3, 2, 0, 1).copy()).to(device)
    wanted = {"forward": [], "kernel": [kernel], "both": [x, kernel]}[kind]
    for tensor in wanted:
        tensor.requires_grad_()

    def once() -> tuple[Any, ...]:
        y = torch.nn.functional.conv2d(x, kernel, stride=layer.stride, padding=layer.padding)
        return y, *(torch.autograd.grad(y, wanted, delta) if wanted else ())

    return once
