"""Images drawn anew on the device, one draw an image: moved by random affine maps, or cut out at random and turned over.

`distorted` is for digits, `cropped_and_flipped` for photographs; a digit turned over is another or none, `cropped` alone leaves it one.

`distorted` is an affine map about the image's centre, in two passes of linear interpolation, rows before columns: a pixel (i, j) of the
new image, counted from the centre, comes from

row i / v + t, column (j - h·i) / u - s,

with the factors v = a·q down and u = a/q across, a the scale and q the squeeze, h the shear, and t and s the shifts up and to the right.
What comes from outside is background. Two passes are two neighbours each in place of four; to gather them takes a third of the time of a
product with the matrix of their weights on a CPU.

Source: LeCun et al. 1998, doi:10.1109/5.726791, section III.B, whose 540,000 distorted digits are planar affine maps: "translation",
scale, squeeze (a compression one way with an elongation the other) and horizontal shear; lecture row 106. The paper gives no ranges.
Cut out and turned over: Krizhevsky, Sutskever and Hinton 2012, NIPS, section 4.1; with the border of He et al. 2016, arXiv:1512.03385,
section 4.2; lecture rows 107 and 108.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.types import InputError


class Ranges(NamedTuple):
    """Each amount is drawn evenly from -r … r, scale and squeeze as logarithms: e^±r. Zero leaves it out."""

    shift: float = 2.0
    """Pixels, right and up."""
    scale: float = 0.15
    squeeze: float = 0.1
    shear: float = 0.25
    """Pixels to the right for each pixel down."""


RANGES = Ranges()


def distorted(
    key: PRNGKeyArray, images: Float[Array, "B H W C"], ranges: Ranges = RANGES, background: float = 0.0
) -> Float[Array, "B H W C"]:
    """Every image under a map of its own, drawn within `ranges`; lecture row 106.

    Raises `InputError` for a range below 0 or without an end, and for an array that is no batch of images.
    """
    if images.ndim != 4:
        raise InputError(f"images (B, H, W, C) are wanted, got an array of shape {images.shape}")
    for name, reach in ranges._asdict().items():
        if not 0 <= reach < math.inf:
            raise InputError(f"{name} must be a range from 0, and finite, got {reach}")
    amounts = jax.random.uniform(key, (5, len(images)), minval=-1.0)
    reach = jnp.array([ranges.shift, ranges.shift, ranges.scale, ranges.squeeze, ranges.shear])[:, None]
    right, up, scale, squeeze, shear = amounts * reach
    return moved(images, right, up, jnp.exp(scale + squeeze), jnp.exp(scale - squeeze), shear, background)


def moved(
    images: Float[Array, "B H W C"],
    right: Float[Array, "B"],
    up: Float[Array, "B"],
    tall: Float[Array, "B"],
    wide: Float[Array, "B"],
    shear: Float[Array, "B"],
    background: float = 0.0,
) -> Float[Array, "B H W C"]:
    """The map with these amounts: shifts in pixels, factors of height and width, and the shear."""
    height, width = images.shape[1:3]
    i, j = (jnp.arange(n) - (n - 1) / 2 for n in (height, width))
    rows = i[None] / tall[:, None] + up[:, None] + (height - 1) / 2
    column = (j[None, None] - shear[:, None, None] * i[None, :, None]) / wide[:, None, None] - right[:, None, None] + (width - 1) / 2
    ink = images - background
    ink = _between(ink.reshape(len(images), height, -1), rows).reshape(images.shape)
    by_row = _between(ink.reshape(-1, *ink.shape[2:]), column.reshape(-1, width))
    return by_row.reshape(images.shape) + background


def cropped_and_flipped(key: PRNGKeyArray, images: Float[Array, "B H W C"], padding: int = 4) -> Float[Array, "B H W C"]:
    """Each image `cropped`, and as likely as not `flipped`: what He et al. 2016 train on, section 4.2. Lecture row 108."""
    crop_key, flip_key = jax.random.split(key)
    return flipped(flip_key, cropped(crop_key, images, padding))


def cropped(key: PRNGKeyArray, images: Float[Array, "B H W C"], padding: int = 4, background: float = 0.0) -> Float[Array, "B H W C"]:
    """Windows of the images' own size at places drawn evenly from the (2·padding + 1)² ones within a border of so many pixels.

    The border is `background`, 0 where the mean was taken off. Lecture row 108. Raises `InputError` for a padding below 0.
    """
    if padding < 0:
        raise InputError(f"padding must be a number of pixels from 0, got {padding}")
    around = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=background)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:]))(around, corners)


def flipped(key: PRNGKeyArray, images: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Each image with left and right exchanged, or as it is: even chances. Lecture row 107."""
    turn = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(turn, images[:, :, ::-1], images)


def _between(values: Float[Array, "B N D"], places: Float[Array, "B M"]) -> Float[Array, "B M D"]:
    """The values at these places along N, on straight lines between their neighbours, 0 from outside."""
    below = jnp.floor(places)
    share = (places - below)[..., None]
    return (1 - share) * _at(values, below) + share * _at(values, below + 1)


def _at(values: Float[Array, "B N D"], index: Float[Array, "B M"]) -> Float[Array, "B M D"]:
    inside = (index >= 0) & (index < values.shape[1])
    found = jnp.take_along_axis(values, jnp.clip(index, 0, values.shape[1] - 1).astype(jnp.int32)[..., None], axis=1)
    return jnp.where(inside[..., None], found, 0)
