"""VGG: nothing but 3×3 windows, two or more in a row in place of one larger one, and as deep as that lets a net become.

Source: Simonyan and Zisserman 2015, Very deep convolutional networks for large-scale image recognition, arXiv:1409.1556, table 1;
lecture row 108 (S3:726-735).
"""

from functools import partial

import flax.linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import initializers
from jaxnn.activations import relu
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.classifier import classifier
from jaxnn.models.conv import Conv
from jaxnn.models.pooling import adaptive_mean_pool, max_pool

FEATURES = (64, 128, 256, 512, 512)
"""The maps of the convolutions of each block."""


class VGG(nn.Module):
    """Logits (B, K) by five blocks of 3×3 convolutions, each followed by pooling, and three dense layers.

    | block | maps | behind it, of 224×224 pixels | VGG11 | VGG13 | VGG16 | VGG19 |
    |---|---|---|---|---|---|---|
    | `conv1_1` … | 64 | 112×112 | 1 | 2 | 2 | 2 |
    | `conv2_1` … | 128 | 56×56 | 1 | 2 | 2 | 2 |
    | `conv3_1` … | 256 | 28×28 | 2 | 2 | 3 | 4 |
    | `conv4_1` … | 512 | 14×14 | 2 | 2 | 3 | 4 |
    | `conv5_1` … | 512 | 7×7 | 2 | 2 | 3 | 4 |
    | `fc6`, `fc7`, each with dropout | 4,096 | | 2 | 2 | 2 | 2 |
    | `fc8` | 1,000 | | 1 | 1 | 1 | 1 |
    | layers with weights | | | 11 | 13 | 16 | 19 |
    | parameters | | | 132,863,336 | 133,047,848 | 138,357,544 | 143,667,240 |

    VGG11, 13, 16 and 19 are the columns A, B, D and E of the paper's table, `convolutions` their numbers a block; 102,760,448 of the
    weights are those of `fc6`. Convolutions are padded by 1 and keep the size. Images of any size from 32×32: the maps are averaged to
    7×7. Weights start by He's normal: the paper's N(0, 0.1²) needed a trained VGG11 to start the deeper ones from, as it says itself.
    """

    convolutions: tuple[int, ...]
    classes: int = 1000
    dropout: float = 0.5
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        last = [f"conv{block}_{count}" for block, count in enumerate(self.convolutions, 1)]
        check_images("VGG", [Window(f"pooling after {name}", 2, 2) for name in last], x.shape)
        for block, (count, features) in enumerate(zip(self.convolutions, FEATURES, strict=True), 1):
            for number in range(1, count + 1):
                x = relu(Conv(features, 3, padding=1, kernel_init=self.kernel_init, name=f"conv{block}_{number}")(x))
            x = max_pool(x)
        x = adaptive_mean_pool(x, 7)
        return classifier(x, self.classes, dropout=self.dropout, train=train, kernel_init=self.kernel_init)


VGG11 = partial(VGG, (1, 1, 2, 2, 2))
"""Column A of the paper's table."""
VGG13 = partial(VGG, (2, 2, 2, 2, 2))
"""Column B."""
VGG16 = partial(VGG, (2, 2, 3, 3, 3))
"""Column D."""
VGG19 = partial(VGG, (2, 2, 4, 4, 4))
"""Column E."""
