"""GoogLeNet: nine blocks of four branches side by side, 22 layers deep with a ninth of AlexNet's weights.

Source: Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842, table 1 and figure 3; lecture row 108 (S3:726-735).
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import initializers
from jaxnn.activations import linear, relu
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.conv import Conv
from jaxnn.models.dense import dense, dropped
from jaxnn.models.normalise import local_response_normalisation
from jaxnn.models.pooling import adaptive_mean_pool, max_pool, mean_pool

INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Of each block the maps of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5 and of the projection behind its pooling: the paper's table 1."""
HEADS = {"4a": "aux1", "4d": "aux2"}
"""The blocks that have an auxiliary head above them."""


class BatchNormConv(nn.Module):
    """max(0, γ (w * x − μ)/√(σ² + 1e-3) + β), padded to keep the size; a map's μ and σ² are of the batch in training, running means later.

    Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    features: int
    window: int
    stride: int = 1
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B P Q O"]:
        conv = partial(Conv, use_bias=False, kernel_init=self.kernel_init, name="conv")
        x = conv(self.features, self.window, self.stride, self.window // 2)(x)
        return relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3, name="bn")(x))


class BiasConv(nn.Module):
    """max(0, w * x + b), padded to keep the size: the same in training and later."""

    features: int
    window: int
    stride: int = 1
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B P Q O"]:
        return relu(Conv(self.features, self.window, self.stride, self.window // 2, kernel_init=self.kernel_init, name="conv")(x))


class Inception(nn.Module):
    """The maps of four branches one behind the other: 1×1; 1×1 then 3×3; 1×1 then `widest`; 3×3 max pooling then 1×1.

    The 1×1 convolutions before the larger windows reduce the maps, and with them the cost. `maps` as in `INCEPTIONS`.
    """

    maps: Sequence[int]
    unit: Callable[..., nn.Module]
    widest: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B H W O"]:
        one, reduce_3, three, reduce_5, five, project = self.maps
        branches = (
            (x, (("conv1x1", one, 1),)),
            (x, (("reduce3x3", reduce_3, 1), ("conv3x3", three, 3))),
            (x, (("reduce5x5", reduce_5, 1), ("conv5x5", five, self.widest))),
            (max_pool(x, 3, stride=1, padding=1), (("project", project, 1),)),
        )
        behind = []
        for y, convolutions in branches:
            for name, features, window in convolutions:
                y = self.unit(features, window, name=name)(y, train=train)
            behind.append(y)
        return jnp.concatenate(behind, -1)


class Head(nn.Module):
    """Logits from the middle of the net: mean pooling to 4×4, a 1×1 convolution of 128 maps, `fc1` of 1,024 units, dropout, `fc2`.

    They are sown as `logits` under `auxiliary`, but for the start: variables hold what a net carries from batch to batch alone.
    """

    classes: int
    unit: Callable[..., nn.Module]
    dropout: float
    window: int | None
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> None:
        x = adaptive_mean_pool(x, 4) if self.window is None else mean_pool(x, self.window, stride=3)
        x = self.unit(128, 1, name="conv")(x, train=train).reshape(len(x), -1)
        x = relu(dense(1024, "fc1", kernel_init=self.kernel_init)(x))
        x = dropped(x, self.dropout, train=train)
        logits = dense(self.classes, "fc2", kernel_init=self.kernel_init)(x)
        if not self.is_initializing():
            self.sow("auxiliary", "logits", logits, init_fn=lambda: None, reduce_fn=lambda _, new: new)


class GoogLeNet(nn.Module):
    """Logits (B, K) in the form of the common libraries, with BatchNorm: 6,624,904 parameters, 13,004,888 with the auxiliary heads.

    | layer | behind it, of 224×224 pixels | parameters | of `GoogLeNetPaper` |
    |---|---|---|---|
    | `conv1`, 7×7, stride 2 | 64 of 112×112 | 9,536 | 9,472 |
    | pooling 3, stride 2 | 64 of 56×56 | | |
    | `conv2`, 1×1 | 64 of 56×56 | 4,224 | 4,160 |
    | `conv3`, 3×3 | 192 of 56×56 | 110,976 | 110,784 |
    | pooling 3, stride 2 | 192 of 28×28 | | |
    | `inception3a`, `3b` | 256, 480 of 28×28 | 155,872; 340,224 | 163,696; 388,736 |
    | pooling 3, stride 2 | 480 of 14×14 | | |
    | `inception4a`, `4b`, `4c` | 512 of 14×14 | 364,512; 425,232; 486,192 | 376,176; 449,160; 510,104 |
    | `inception4d`, `4e` | 528, 832 of 14×14 | 573,312; 803,840 | 605,376; 868,352 |
    | pooling 2, stride 2 | 832 of 7×7 | | |
    | `inception5a`, `5b` | 832, 1,024 of 7×7 | 978,944; 1,347,040 | 1,043,456; 1,444,080 |
    | mean of each map, dropout | 1,024 | | |
    | `fc` | 1,000 logits | 1,025,000 | 1,025,000 |

    What the libraries changed: BatchNorm in place of biases and of the normalisation, 3×3 windows in the branch of 5×5, 2×2 in the last
    pooling, a mean to 4×4 of whatever size in the heads. `GoogLeNetPaper` is the net as it was printed.

    With `auxiliary=True` heads stand on `inception4a` and `4d` in training, and nothing of them is left later. Their logits are sown:

        logits, changed = net.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats", "auxiliary"])
        changed["auxiliary"]  # {"aux1": {"logits": (B, K)}, "aux2": {"logits": (B, K)}}

    `jaxnn.learners.supervised` adds 0.3 of the loss of each to the loss of the net, as the paper does.

    Images of any size from 15×15; pooling windows may reach over the border.
    """

    classes: int = 1000
    auxiliary: bool = False
    dropout: float = 0.2
    head_dropout: float = 0.7
    unit: Callable[..., nn.Module] = BatchNormConv
    normalise: Callable[[Array], Array] = linear
    """Before the second convolution and behind the third one."""
    widest: int = 3
    """The window of the branch of 5×5."""
    last_window: int = 2
    """Of the last max pooling."""
    head_window: int | None = None
    """Of the heads' mean pooling, 3 apart; None takes means to 4×4."""
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        self.check(x.shape)
        unit, pools = partial(self.unit, kernel_init=self.kernel_init), {"3b": 3, "4e": self.last_window}
        x = max_pool(unit(64, 7, 2, name="conv1")(x, train=train), 3, stride=2, ceil=True)
        x = unit(64, 1, name="conv2")(self.normalise(x), train=train)
        x = self.normalise(unit(192, 3, name="conv3")(x, train=train))
        x = max_pool(x, 3, stride=2, ceil=True)
        for block, maps in INCEPTIONS.items():
            x = Inception(maps, unit, self.widest, name=f"inception{block}")(x, train=train)
            if block in HEADS and self.auxiliary and (train or self.is_initializing()):
                Head(self.classes, unit, self.head_dropout, self.head_window, self.kernel_init, name=HEADS[block])(x, train=train)
            if block in pools:
                x = max_pool(x, pools[block], stride=2, ceil=True)
        x = dropped(x.mean((1, 2)), self.dropout, train=train)
        return dense(self.classes, "fc", kernel_init=self.kernel_init)(x)

    def check(self, shape: Sequence[int]) -> None:
        """Raise an `InputError` for images that the net, or one of its heads, cannot take."""
        pooling = [Window(f"pooling after {name}", 3, 2, ceil=True) for name in ("conv1", "conv3", "inception3b")]
        below = [Window("conv1", 7, 2, padding=3), *pooling]
        check_images("GoogLeNet", [*below, Window("pooling after inception4e", self.last_window, 2, ceil=True)], shape)
        if self.auxiliary and self.head_window:
            check_images("GoogLeNet with its heads", [*below, Window("pooling in aux1", self.head_window, 3)], shape)


GoogLeNetPaper = partial(
    GoogLeNet, dropout=0.4, unit=BiasConv, normalise=local_response_normalisation, widest=5, last_window=3, head_window=5
)
"""GoogLeNet as it was printed: biases, local response normalisation, windows of 5×5; 6,998,552 parameters.

Its normalisation comes with no numbers in the paper; AlexNet's are taken.
"""
