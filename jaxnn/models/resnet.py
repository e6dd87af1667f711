"""Residual nets: blocks that add to what goes through them, so that a deeper net is no harder to train than a shallow one.

    y = max(0, F(x) + s(x))

F is two or three convolutions, the shortcut s the identity wherever sizes allow. Where they change there are three ways: to take every
second pixel and to add maps of zeros (`padded`, the paper's option A), a 1×1 convolution (`projected`, option B), or no shortcut at all
(`no_shortcut`), which leaves the net that the paper compares with, of the same depth and number of weights.

Source: He, Zhang, Ren and Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385, table 1 (`ResNet`) and section 4.2
(`CifarResNet`); lecture row 108 (S3:726-735).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer, ones
from jaxtyping import Array, Float

from jaxnn import initializers
from jaxnn.activations import relu
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.conv import Conv
from jaxnn.models.dense import dense
from jaxnn.models.pooling import max_pool
from jaxnn.types import InputError

Unit: TypeAlias = Callable[..., Array]
"""`(x, features, window, stride, mark) -> maps`: a convolution `conv<mark>` with its BatchNorm `bn<mark>` in the block that calls it."""
Shortcut: TypeAlias = Callable[[Array, int, int, Unit], Array]
"""`(x, features, stride, unit) -> what is added`."""


def normalised_conv(
    x: Float[Array, "B H W C"],
    features: int,
    window: int,
    stride: int,
    mark: str,
    *,
    train: bool,
    kernel_init: Initializer,
    scale_init: Initializer = ones,
) -> Float[Array, "B P Q O"]:
    """γ (w * x − μ)/√(σ² + 1e-5) + β, padded to keep the size; μ and σ² of the batch in training, running means (.9 old, .1 new) later.

    Called inside a module, whose layers `conv<mark>` and `bn<mark>` they become. Ioffe and Szegedy 2015, arXiv:1502.03167.
    """
    x = Conv(features, window, stride, window // 2, use_bias=False, kernel_init=kernel_init, name=f"conv{mark}")(x)
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, scale_init=scale_init, name=f"bn{mark}")(x)


def projected(x: Float[Array, "B H W C"], features: int, stride: int, unit: Unit) -> Float[Array, "B P Q O"]:
    """The identity where nothing changes, else a 1×1 convolution with BatchNorm, `conv_project` and `bn_project`: option B."""
    return x if stride == 1 and x.shape[-1] == features else unit(x, features, 1, stride, "_project")


def padded(x: Float[Array, "B H W C"], features: int, stride: int, unit: Unit | None = None) -> Float[Array, "B P Q O"]:
    """The identity, of every `stride`-th pixel, and zeros for the maps that x has not: option A, which has no weights.

    >>> padded(jnp.arange(16.0).reshape(1, 4, 4, 1), 2, 2)[0, 1]
    Array([[ 8.,  0.],
           [10.,  0.]], dtype=float32)
    """
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


def no_shortcut(x: Float[Array, "B H W C"], features: int, stride: int, unit: Unit | None = None) -> Float[Array, ""]:
    """Nothing is added: no shortcut."""
    return jnp.zeros((), x.dtype)


class BasicBlock(nn.Module):
    """max(0, F(x) + s(x)), F two 3×3 convolutions of `features` maps each, the first with the stride."""

    features: int
    stride: int = 1
    shortcut: Shortcut = projected
    kernel_init: Initializer = initializers.he_normal_of_fan_out
    last_scale: Initializer = ones
    """Of the γ of F's last BatchNorm."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B P Q O"]:
        unit = partial(normalised_conv, train=train, kernel_init=self.kernel_init)
        y = relu(unit(x, self.features, 3, self.stride, "1"))
        y = unit(y, self.features, 3, 1, "2", scale_init=self.last_scale)
        return relu(y + self.shortcut(x, self.features, self.stride, unit))


class Bottleneck(nn.Module):
    """max(0, F(x) + s(x)), F a 1×1 convolution to `features` maps, a 3×3 one, and a 1×1 one to four times as many.

    The stride is that of the 3×3 convolution, as the common libraries have it, or of the first 1×1, as it was printed
    (`PaperBottleneck`): then three of four pixels are thrown away unseen.
    """

    features: int
    stride: int = 1
    shortcut: Shortcut = projected
    kernel_init: Initializer = initializers.he_normal_of_fan_out
    last_scale: Initializer = ones
    stride_first: bool = False
    """Whether the stride is that of the first convolution."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B P Q O"]:
        unit = partial(normalised_conv, train=train, kernel_init=self.kernel_init)
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        y = relu(unit(x, self.features, 1, first, "1"))
        y = relu(unit(y, self.features, 3, second, "2"))
        y = unit(y, 4 * self.features, 1, 1, "3", scale_init=self.last_scale)
        return relu(y + self.shortcut(x, 4 * self.features, self.stride, unit))


PaperBottleneck = partial(Bottleneck, stride_first=True)
"""With the stride in the first 1×1 convolution, as it was printed."""


def stages(
    x: Float[Array, "B H W C"], block: Callable[..., nn.Module], blocks: Sequence[int], maps: Sequence[int], *, train: bool
) -> Float[Array, "B P Q O"]:
    """So many blocks of so many maps, `layer1_0`, `layer1_1` …; the first of each stage but the first halves the size.

    Called inside a net, whose layers they become. Raises `InputError` for a stage without a block.
    """
    if min(blocks, default=0) < 1:
        raise InputError(f"every stage of a residual net has at least one block, got {tuple(blocks)}")
    for stage, (count, features) in enumerate(zip(blocks, maps, strict=True), 1):
        for number in range(count):
            stride = 2 if stage > 1 and number == 0 else 1
            x = block(features, stride, name=f"layer{stage}_{number}")(x, train=train)
    return x


class ResNet(nn.Module):
    """Logits (B, K) by four stages of blocks, the mean of each map and one dense layer.

    | layer | behind it, of 224×224 pixels | ResNet18 | ResNet34 | ResNet50 | ResNet101 | ResNet152 |
    |---|---|---|---|---|---|---|
    | `conv1`, 7×7, stride 2; BatchNorm | 64 of 112×112 | 1 | 1 | 1 | 1 | 1 |
    | pooling 3, stride 2, padded by 1 | 64 of 56×56 | | | | | |
    | `layer1_0` … | 64 or 256 of 56×56 | 2 | 3 | 3 | 3 | 3 |
    | `layer2_0` … | 128 or 512 of 28×28 | 2 | 4 | 4 | 4 | 8 |
    | `layer3_0` … | 256 or 1,024 of 14×14 | 2 | 6 | 6 | 23 | 36 |
    | `layer4_0` … | 512 or 2,048 of 7×7 | 2 | 3 | 3 | 3 | 3 |
    | mean of each map | 512 or 2,048 | | | | | |
    | `fc` | 1,000 logits | 1 | 1 | 1 | 1 | 1 |
    | of the kind | | `BasicBlock` | `BasicBlock` | `Bottleneck` | `Bottleneck` | `Bottleneck` |
    | layers with weights on the way | | 18 | 34 | 50 | 101 | 152 |
    | parameters | | 11,689,512 | 21,797,672 | 25,557,032 | 44,549,160 | 60,192,808 |

    The three deeper nets have four times the maps behind a block. `block=PaperBottleneck` has the stride where the paper has it, with as
    many parameters. With `small_images` the stem is one 3×3 convolution and no pooling, for 32×32 pixels: four stages of 32, 16, 8 and 4.

    Kernels start by He's normal over the fan-out, γ by 1 and β by 0. `last_scale=initializers.zeros` starts the last γ of each block
    by 0 and with it the block as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1), which the paper does not do. Images of
    any size from 1×1: everything is padded.
    """

    blocks: tuple[int, ...]
    classes: int = 1000
    block: Callable[..., nn.Module] = BasicBlock
    small_images: bool = False
    shortcut: Shortcut = projected
    kernel_init: Initializer = initializers.he_normal_of_fan_out
    last_scale: Initializer = ones

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        stem = [Window("conv1", 3, padding=1)] if self.small_images else [Window("conv1", 7, 2, 3), Window("pooling after conv1", 3, 2, 1)]
        check_images("ResNet", stem, x.shape)
        x = relu(normalised_conv(x, 64, stem[0].size, stem[0].stride, "1", train=train, kernel_init=self.kernel_init))
        if not self.small_images:
            x = max_pool(x, 3, stride=2, padding=1)
        block = partial(self.block, shortcut=self.shortcut, kernel_init=self.kernel_init, last_scale=self.last_scale)
        x = stages(x, block, self.blocks, [64 * 2**stage for stage in range(len(self.blocks))], train=train)
        return dense(self.classes, "fc")(x.mean((1, 2)))


class CifarResNet(nn.Module):
    """Logits (B, K) of small images by three stages of n = `blocks` blocks: 6n + 2 layers with weights.

    | layer | behind it, of 32×32 pixels | CifarResNet20 | 32 | 44 | 56 | 110 |
    |---|---|---|---|---|---|---|
    | `conv1`, 3×3; BatchNorm | 16 of 32×32 | 1 | 1 | 1 | 1 | 1 |
    | `layer1_0` … | 16 of 32×32 | 3 | 5 | 7 | 9 | 18 |
    | `layer2_0` … | 32 of 16×16 | 3 | 5 | 7 | 9 | 18 |
    | `layer3_0` … | 64 of 8×8 | 3 | 5 | 7 | 9 | 18 |
    | mean of each map; `fc` | 10 logits | 1 | 1 | 1 | 1 | 1 |
    | parameters | | 269,722 | 464,154 | 658,586 | 853,018 | 1,727,962 |

    All blocks are `BasicBlock`s, and all shortcuts the identity (`padded`; which of the maps behind a stride are those of zeros the paper
    leaves open, here it is the last ones). So the plain nets, `CifarPlain20` … `CifarPlain110`, have as many parameters. Starts as in
    `ResNet`. The paper takes the mean image off and trains on windows of 32×32 in images with 4 zeros around them, turned over half the
    time: `jaxnn.distortions.cropped_and_flipped`. Images of any size from 1×1.
    """

    blocks: int
    classes: int = 10
    maps: tuple[int, ...] = (16, 32, 64)
    """Of each stage."""
    shortcut: Shortcut = padded
    kernel_init: Initializer = initializers.he_normal_of_fan_out
    last_scale: Initializer = ones

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        check_images("CifarResNet", [Window("conv1", 3, padding=1)], x.shape)
        x = relu(normalised_conv(x, self.maps[0], 3, 1, "1", train=train, kernel_init=self.kernel_init))
        block = partial(BasicBlock, shortcut=self.shortcut, kernel_init=self.kernel_init, last_scale=self.last_scale)
        x = stages(x, block, [self.blocks] * len(self.maps), self.maps, train=train)
        return dense(self.classes, "fc")(x.mean((1, 2)))


ResNet18 = partial(ResNet, (2, 2, 2, 2))
"""11,689,512 parameters."""
ResNet34 = partial(ResNet, (3, 4, 6, 3))
"""21,797,672 parameters."""
ResNet50 = partial(ResNet, (3, 4, 6, 3), block=Bottleneck)
"""25,557,032 parameters."""
ResNet101 = partial(ResNet, (3, 4, 23, 3), block=Bottleneck)
"""44,549,160 parameters."""
ResNet152 = partial(ResNet, (3, 8, 36, 3), block=Bottleneck)
"""60,192,808 parameters."""

CifarResNet20 = partial(CifarResNet, 3)
"""269,722 parameters."""
CifarResNet32 = partial(CifarResNet, 5)
"""464,154 parameters."""
CifarResNet44 = partial(CifarResNet, 7)
"""658,586 parameters."""
CifarResNet56 = partial(CifarResNet, 9)
"""853,018 parameters."""
CifarResNet110 = partial(CifarResNet, 18)
"""1,727,962 parameters."""

CifarPlain20 = partial(CifarResNet, 3, shortcut=no_shortcut)
"""CifarResNet20 without its shortcuts: as many layers, and as many parameters, as shortcuts that are the identity have none."""
CifarPlain32 = partial(CifarResNet, 5, shortcut=no_shortcut)
"""CifarResNet32 without its shortcuts."""
CifarPlain44 = partial(CifarResNet, 7, shortcut=no_shortcut)
"""CifarResNet44 without its shortcuts."""
CifarPlain56 = partial(CifarResNet, 9, shortcut=no_shortcut)
"""CifarResNet56 without its shortcuts."""
CifarPlain110 = partial(CifarResNet, 18, shortcut=no_shortcut)
"""CifarResNet110 without its shortcuts."""
