"""LeNet-5: the net as it was printed, with its table of connections and its output of distances, and the usual modern form of it.

Source: LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition, Proc. IEEE 86(11):2278-2324,
doi:10.1109/5.726791, section II.B; lecture rows 99-106. It is of 1998: the net of 1989 (erratum E28) is another.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Real

from jaxnn import initializers
from jaxnn.activations import relu, scaled_tanh
from jaxnn.initializers import fan_in_uniform, uniform_of_fan_in
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.conv import Conv, conv
from jaxnn.models.dense import dense
from jaxnn.models.locally_connected import LocallyConnected
from jaxnn.models.pooling import max_pool, mean_pool
from jaxnn.types import InputError

C3_LINKS = (
    (0, 4, 5, 6, 9, 10, 11, 12, 14, 15),
    (0, 1, 5, 6, 7, 10, 11, 12, 13, 15),
    (0, 1, 2, 6, 7, 8, 11, 13, 14, 15),
    (1, 2, 3, 6, 7, 8, 9, 12, 14, 15),
    (2, 3, 4, 7, 8, 9, 10, 12, 13, 15),
    (3, 4, 5, 8, 9, 10, 11, 13, 14, 15),
)
"""The maps of C3 that each map of S2 is joined to: Table I of the paper, row 102."""

DIGITS = """
..###.. ...##.. .#####. .#####. ....##. ####### ....##. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... ...##.. ##...## ##...## ##...##
##...## .####.. ##...## .....## ...###. ##..... ..##... .....## ##...## ##...##
##...## ...##.. .....## .....## ..####. ##..... .##.... ....##. ##...## ##...##
##...## ...##.. .....## .....## ..#.##. ##..... .##.... ....##. .##.##. ##...##
##...## ...##.. ....##. ..####. .##.##. ######. ##..... ...##.. ..###.. .######
##...## ...##.. ...##.. ..####. .#..##. .....## ######. ...##.. ..###.. .....##
##...## ...##.. ..##... .....## ##..##. .....## ##...## ..##... .##.##. ....##.
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## ....##.
##...## ...##.. ##..... .....## ....##. .....## ##...## .##.... ##...## ...##..
.##.##. ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ..##...
..###.. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .##....
"""
"""The ten classes as bitmaps of 12 rows and 7 columns; drawn anew, after the paper's figure 3. Any two differ in 18 places or more."""


def bitmaps(picture: str, width: int = 7) -> np.ndarray:
    """+1 for #, -1 for ., of glyphs that stand side by side; one row of values a glyph.

    >>> bitmaps("#. ..\\n.# ##", width=2)
    array([[ 1., -1., -1.,  1.],
           [-1., -1.,  1.,  1.]], dtype=float32)
    """
    ink = np.array([[mark == "#" for mark in line.replace(" ", "")] for line in picture.split("\n") if line])
    glyphs = ink.reshape(len(ink), -1, width).swapaxes(0, 1)
    return np.where(glyphs, 1, -1).reshape(len(glyphs), -1).astype(np.float32)


CODES = bitmaps(DIGITS)
"""(10, 84): what F6 should say for each class. Constants: they are not learnt."""


def as_printed(images: Real[Array, "B H W 1"]) -> Float[Array, "B 32 32 1"]:
    """Digits of 28×28 pixels in 0 … 1 as LeNet-5 takes them: the background at -0.1, ink at 1.175, two pixels of background around.

    The mean of MNIST's pixels comes to 0.03, near 0 as the paper wants it; their variance to 0.12.
    Raises `InputError` for images of another size, for bytes, and for numbers outside 0 … 1 where they can be seen, which is not in jit.
    """
    if images.shape[1:] != (28, 28, 1):
        raise InputError(f"LeNet-5's images are digits (B, 28, 28, 1) with two pixels around, got an array of shape {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"LeNet-5's images are floats from 0 to 1, got {images.dtype}; of bytes, take images / 255")
    if not isinstance(images, jax.core.Tracer) and images.size and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(f"LeNet-5's images are floats from 0 to 1, got some from {images.min():.4g} to {images.max():.4g}")
    return jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))) * (1.175 + 0.1) - 0.1


class SubSampling(nn.Module):
    """y = w_c Σ x + b_c over the window's entries, one coefficient and one bias a map; the squashing is the caller's. Row 101.

    The error δ of y gives each entry w_c δ, the coefficient Σ_pq δ Σ x, and the bias Σ_pq δ (row 92). Both start as a unit of
    window² inputs does, by U(±2.4/F).
    """

    window: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B P Q C"]:
        inputs, maps = self.window**2, x.shape[-1]
        coefficient, bias = (self.param(name, uniform_of_fan_in(inputs), (maps,)) for name in ("coefficient", "bias"))
        return inputs * mean_pool(x, self.window) * coefficient[None, None, None] + bias[None, None, None]


class LinkedConv(nn.Module):
    """y_j = b_j + Σ_{i joined to j} x_i * K_ij: a convolution by a table, whose row i holds the maps j that map i is joined to. Row 102.

    `kernel` (k, k, number of links) holds what there is to learn, link by link along the table's rows; pairs that are not joined have no
    weights, and stand as zeros in the kernel (k, k, C, O) of the convolution that is computed. F counts the inputs of joined maps alone.
    """

    links: tuple[tuple[int, ...], ...]
    features: int
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B P Q O"]:
        below, above = np.array([(i, j) for i, maps in enumerate(self.links) for j in maps]).T
        fan_in = self.window**2 * np.bincount(above, minlength=self.features)
        weights = self.param("kernel", uniform_of_fan_in(fan_in[above]), (self.window, self.window, len(above)))
        bias = self.param("bias", uniform_of_fan_in(fan_in), (self.features,))
        full = jnp.zeros((self.window, self.window, len(self.links), self.features), weights.dtype)
        kernel = full.at[:, :, below, above].set(weights, unique_indices=True)
        return conv(x, kernel) + bias[None, None, None]


class LeNet5Original(nn.Module):
    """y_i = Σ_j (x_j - w_ij)²: the distances of F6's 84 units to the ten codes, (B, 10). The class is the one of the least distance.

    | layer | maps | what it does | parameters | connections |
    |---|---|---|---|---|
    | `c1` | 6 of 28×28 | 5×5 convolution | 156 | 122,304 |
    | `s2` | 6 of 14×14 | trainable sub-sampling | 12 | 5,880 |
    | `c3` | 16 of 10×10 | 5×5 convolution by the table of 60 links | 1,516 | 151,600 |
    | `s4` | 16 of 5×5 | trainable sub-sampling | 32 | 2,000 |
    | `c5` | 120 of 1×1 | 5×5 convolution | 48,120 | 48,120 |
    | `f6` | 84 units | fully connected | 10,164 | 10,164 |
    | output | 10 distances | to fixed codes of ±1, 7×12 bitmaps | 0 | 840 |

    60,000 parameters in 340,908 connections. Every layer but the output ends in 1.7159 tanh(2a/3); `capture_intermediates` gives its
    weighted sums a. All weights, coefficients and biases start by U(±2.4/F), F the inputs of the unit.

    Takes what `as_printed` makes of digits, (B, 32, 32, 1). To learn, `losses.distance_of_label` (the paper's eq. 8) or
    `losses.discriminative_distance` (eq. 9); the accuracy is `losses.accuracy(-y, label)`.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B 10"]:
        if x.shape[1:] != (32, 32, 1):
            raise InputError(
                f"LeNet5Original takes images (B, 32, 32, 1) alone, got an array of shape {x.shape}; "
                "jaxnn.models.lenet.as_printed makes them of digits (B, 28, 28, 1)"
            )
        x = scaled_tanh(_convolution(6, 25, "c1")(x))
        x = scaled_tanh(SubSampling(name="s2")(x))
        x = scaled_tanh(LinkedConv(C3_LINKS, 16, 5, name="c3")(x))
        x = scaled_tanh(SubSampling(name="s4")(x))
        x = scaled_tanh(_convolution(120, 25 * 16, "c5")(x))
        f6 = nn.Dense(84, kernel_init=fan_in_uniform, bias_init=uniform_of_fan_in(120), name="f6")
        return distances(scaled_tanh(f6(x.reshape(len(x), -1))))


def _convolution(features: int, fan_in: int, name: str) -> Conv:
    return Conv(features, 5, kernel_init=fan_in_uniform, bias_init=uniform_of_fan_in(fan_in), name=name)


def distances(x: Float[Array, "*batch D"], codes: Float[np.ndarray, "K D"] = CODES) -> Float[Array, "*batch K"]:
    """y_i = Σ_j (x_j - w_ij)², the squared distance to each code: the output of LeNet-5's RBF units; row 105.

    >>> distances(jnp.array([1.0, 0.0]), np.array([[1.0, 1.0], [-1.0, 1.0]], np.float32))
    Array([1., 5.], dtype=float32)
    """
    apart = x[..., None, :] - codes.reshape((1,) * (x.ndim - 1) + codes.shape)
    return jnp.sum(jnp.square(apart), axis=-1)


class LeNet5(nn.Module):
    """The usual modern form: logits (B, K) of 28×28 digits by two convolutions, two poolings and three dense layers.

    | layer | behind it, of 28×28 pixels | shape of its kernel | parameters |
    |---|---|---|---|
    | `c1`, padded by 2 | 6 of 28×28 | (5, 5, 1, 6) | 156 |
    | pooling | 6 of 14×14 | | |
    | `c3` | 16 of 10×10 | (5, 5, 6, 16) | 2,416 |
    | pooling | 16 of 5×5 | | |
    | `c5` | 120 units | (400, 120) | 48,120 |
    | `f6` | 84 units | (120, 84) | 10,164 |
    | `output` | 10 logits | (84, 10) | 850 |

    61,706 parameters. What it does not take from the paper: the table of connections, the trainable sub-sampling, the tanh, the
    distances. It takes images of any size from 12×12 and of any number of channels; `c5` takes what is left of them.
    `capture_intermediates` gives the weighted sums of the layers, before the activation. `pool` is one of `jaxnn.models.pooling`.
    """

    classes: int = 10
    activation: Callable[[Array], Array] = relu
    pool: Callable[[Array], Array] = max_pool
    kernel_init: Initializer = initializers.he_normal
    layer: Callable[..., nn.Module] = Conv
    """Of `c1` and `c3`: `Conv`, or `LocallyConnected`, which shares nothing."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        windows = [Window("c1", 5, padding=2), Window("pooling after c1", 2, 2), Window("c3", 5), Window("pooling after c3", 2, 2)]
        check_images("LeNet5", windows, x.shape)
        for name, features, padding in (("c1", 6, 2), ("c3", 16, 0)):
            x = self.layer(features, 5, padding=padding, kernel_init=self.kernel_init, name=name)(x)
            x = self.pool(self.activation(x))
        x = x.reshape(len(x), -1)
        for name, units in (("c5", 120), ("f6", 84)):
            x = self.activation(dense(units, name, kernel_init=self.kernel_init)(x))
        return dense(self.classes, "output", kernel_init=self.kernel_init)(x)


LocallyConnectedLeNet5 = partial(LeNet5, layer=LocallyConnected)
"""`LeNet5` whose windows keep their places and share nothing: `c1` has 122,304 parameters for 156, `c3` 241,600 for 2,416; row 162."""
