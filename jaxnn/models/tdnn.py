"""The time-delay neural network: units that see a few frames of a sequence at a time, the same units at every time.

Source: Waibel, Hanazawa, Hinton, Shikano, Lang 1989, Phoneme recognition using time-delay neural networks, IEEE Trans. ASSP
37(3):328-339, doi:10.1109/29.21701; lecture row 98. It is theirs and not Hinton's alone (erratum E26).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import activations, initializers
from jaxnn.models.arithmetic import Window, least_size, output_size
from jaxnn.types import InputError


def delayed(x: Float[Array, "*batch T D"], kernel: Float[Array, "k D O"]) -> Float[Array, "*batch P O"]:
    """y_po = Σ_dc x_{p+d, c} w_dco for d = 0 … k-1: a convolution along time, P = T - k + 1; lecture row 98.

    Raises `InputError` where the window is longer than the sequence. `jaxnn.models.conv.conv` gives the same numbers; as one product
    of the frames that a unit sees at once it trains quicker where channels are few, and members of a sweep stay one product.

    >>> delayed(jnp.arange(4.0)[:, None], jnp.array([-1.0, 1.0])[:, None, None])[:, 0]  # the difference of a frame and the next
    Array([1., 1., 1.], dtype=float32)
    """
    frames = output_size(x.shape[-2], len(kernel))
    seen = jnp.concatenate([x[..., delay : delay + frames, :] for delay in range(len(kernel))], axis=-1)
    return seen @ kernel.reshape(-1, kernel.shape[-1])


def frames_through(windows: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Frames behind each layer, its windows of so many frames; `shape` is the batch's (B, T, D).

    Raises `InputError` for a sequence that is too short, naming the layer at which it runs out and the least number of frames.

    >>> frames_through((3, 5), (1, 15, 16))
    [13, 9]
    """
    if len(shape) != 3:
        raise InputError(f"TDNN takes sequences (B, T, D), got an array of shape {tuple(shape)}")
    layers = [Window(f"delays_{number}", size) for number, size in enumerate(windows, 1)]
    start = now = shape[-2]
    behind = []
    for layer in layers:
        if now < layer.size:
            what = f"{layer.name}, a window of {layer.size} frames, does not fit into {now}"
            raise InputError(f"TDNN: {what}; the least sequence has {least_size(layers)} frames, got {start}")
        now = output_size(now, layer.size)
        behind.append(now)
    return behind


class Delays(nn.Module):
    """y = x * w + b along time, `features` units with windows of `window` frames: `kernel` (k, D, O) and `bias` (O,)."""

    features: int
    window: int
    kernel_init: Initializer = initializers.lecun_normal
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B P O"]:
        kernel = self.param("kernel", self.kernel_init, (self.window, x.shape[-1], self.features))
        return delayed(x, kernel) + self.param("bias", self.bias_init, (self.features,))[None, None]


def summed_squares(y: Float[Array, "B T K"]) -> Float[Array, "B K"]:
    """o_k = Σ_t y_tk²: from 0 to T for sigmoid units. A unit that is sure for a moment outweighs one that is unsure all the time."""
    return jnp.sum(jnp.square(y), axis=-2)


class TDNN(nn.Module):
    """o_k = Σ_t y_tk², y = f(b² + w² * f(b¹ + w¹ * x)) with convolutions along time: what each class found, wherever it was.

    | layer | sees | gives of 15 frames of 16 channels | shape of its kernel | parameters |
    |---|---|---|---|---|
    | `delays_1` | 3 frames | 13 frames of 8 units | (3, 16, 8) | 392 |
    | `delays_2` | 5 frames | 9 frames of 3 units | (5, 8, 3) | 123 |

    515 parameters, none of them in the outputs. `features` and `windows` go layer by layer, the last one's units are the classes; `layers`
    of `jaxnn.models` gives their weighted sums. A shifted sequence shifts every layer's answer, and leaves the outputs as they are while
    what is told apart lies inside: all that comes in and goes out at the ends is alike.

    Returns (B, K), evidence from 0 to the frames of the last layer: the class is the one of the most. Nothing is divided by the number
    of frames, and no further sigmoid follows; so they can be taken as logits, which of 9 frames are never surer than .99975.
    `integrate` takes another way to sum up over time. Weights start as this library's others do, N(0, 1/F), F the
    numbers that a unit sees.

    Raises `InputError` for a sequence shorter than the 7 frames that an answer needs, naming the layer.

    Source: Waibel et al. 1989, doi:10.1109/29.21701, whose loss is the squared error; lecture row 98, erratum E26.
    """

    features: Sequence[int] = (8, 3)
    windows: Sequence[int] = (3, 5)
    activation: Callable[[Array], Array] = activations.sigmoid
    integrate: Callable[[Array], Array] = summed_squares
    kernel_init: Initializer = initializers.lecun_normal
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, train: bool = False) -> Float[Array, "B K"]:
        if len(self.features) != len(self.windows) or min((*self.features, *self.windows), default=0) < 1:
            raise InputError(f"TDNN: a layer has units and a window of at least 1, got {tuple(self.features)} and {tuple(self.windows)}")
        frames_through(self.windows, x.shape)
        for number, (features, window) in enumerate(zip(self.features, self.windows, strict=True), 1):
            layer = Delays(features, window, self.kernel_init, self.bias_init, name=f"delays_{number}")
            x = self.activation(layer(x))
        return self.integrate(x)
