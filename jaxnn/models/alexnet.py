"""AlexNet: as it was printed in 2012, in two towers, and the one tower of 2014, which is the form that libraries have.

Source: Krizhevsky, Sutskever, Hinton 2012, ImageNet classification with deep convolutional neural networks, Advances in Neural
Information Processing Systems 25, doi:10.1145/3065386; lecture row 107 (S3:708-720).
"""

import flax.linen as nn
from jax.nn.initializers import Initializer, normal, ones
from jaxtyping import Array, Float

from jaxnn import initializers
from jaxnn.activations import relu
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.classifier import classifier
from jaxnn.models.conv import Conv
from jaxnn.models.dense import dense, dropped
from jaxnn.models.normalise import local_response_normalisation
from jaxnn.models.pooling import adaptive_mean_pool, max_pool

WINDOWS = (
    Window("conv1", 11, 4, padding=2),
    Window("pooling after conv1", 3, 2),
    Window("conv2", 5, padding=2),
    Window("pooling after conv2", 3, 2),
    Window("conv3", 3, padding=1),
    Window("conv4", 3, padding=1),
    Window("conv5", 3, padding=1),
    Window("pooling after conv5", 3, 2),
)
"""Of both forms; the least image is 63 × 63."""


class AlexNet(nn.Module):
    """Logits (B, K) by one tower of five convolutions and three dense layers: 61,100,840 parameters.

    | layer | behind it, of 224×224 pixels | shape of its kernel | parameters |
    |---|---|---|---|
    | `conv1`, stride 4, padded by 2 | 64 of 55×55 | (11, 11, 3, 64) | 23,296 |
    | pooling 3, stride 2 | 64 of 27×27 | | |
    | `conv2`, padded by 2 | 192 of 27×27 | (5, 5, 64, 192) | 307,392 |
    | pooling 3, stride 2 | 192 of 13×13 | | |
    | `conv3`, padded by 1 | 384 of 13×13 | (3, 3, 192, 384) | 663,936 |
    | `conv4`, padded by 1 | 256 of 13×13 | (3, 3, 384, 256) | 884,992 |
    | `conv5`, padded by 1 | 256 of 13×13 | (3, 3, 256, 256) | 590,080 |
    | pooling 3, stride 2; means of 6×6 | 256 of 6×6 | | |
    | dropout, `fc6` | 4,096 units | (9216, 4096) | 37,752,832 |
    | dropout, `fc7` | 4,096 units | (4096, 4096) | 16,781,312 |
    | `fc8` | 1,000 logits | (4096, 1000) | 4,097,000 |

    Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997, footnote 1, in the form of the
    common libraries: no normalisation, no groups, and dropout before the dense layers. Images of any size from 63×63: the maps are
    averaged to 6×6.
    """

    classes: int = 1000
    dropout: float = 0.5
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        check_images("AlexNet", WINDOWS, x.shape)
        for name, features, window, stride in (("conv1", 64, 11, 4), ("conv2", 192, 5, 1)):
            x = relu(Conv(features, window, stride, 2, kernel_init=self.kernel_init, name=name)(x))
            x = max_pool(x, 3, stride=2)
        for name, features in (("conv3", 384), ("conv4", 256), ("conv5", 256)):
            x = relu(Conv(features, 3, padding=1, kernel_init=self.kernel_init, name=name)(x))
        x = adaptive_mean_pool(max_pool(x, 3, stride=2), 6).reshape(len(x), -1)
        for name in ("fc6", "fc7"):
            x = dropped(x, self.dropout, train=train)
            x = relu(dense(4096, name, kernel_init=self.kernel_init)(x))
        return dense(self.classes, "fc8", kernel_init=self.kernel_init)(x)


class AlexNetTwoTower(nn.Module):
    """Logits (B, K) as printed: each convolution in two halves, which meet in `conv3` and above `conv5` alone; 60,965,224 parameters.

    | layer | behind it, of 224×224 pixels | shape of its kernel | parameters |
    |---|---|---|---|
    | `conv1`, stride 4, padded by 2 | 96 of 55×55 | (11, 11, 3, 96) | 34,944 |
    | normalisation; pooling 3, stride 2 | 96 of 27×27 | | |
    | `conv2`, two groups, padded by 2 | 256 of 27×27 | (5, 5, 48, 256) | 307,456 |
    | normalisation; pooling 3, stride 2 | 256 of 13×13 | | |
    | `conv3`, padded by 1 | 384 of 13×13 | (3, 3, 256, 384) | 885,120 |
    | `conv4`, two groups, padded by 1 | 384 of 13×13 | (3, 3, 192, 384) | 663,936 |
    | `conv5`, two groups, padded by 1 | 256 of 13×13 | (3, 3, 192, 256) | 442,624 |
    | pooling 3, stride 2 | 256 of 6×6 | | |
    | `fc6`, dropout | 4,096 units | (9216, 4096) | 37,752,832 |
    | `fc7`, dropout | 4,096 units | (4096, 4096) | 16,781,312 |
    | `fc8` | 1,000 logits | (4096, 1000) | 4,097,000 |

    ReLU, then local response normalisation, then pooling that overlaps. Weights start by N(0, 0.01²); biases at 1 in `conv2`, `conv4`,
    `conv5`, `fc6` and `fc7`, so that their ReLUs are open, and at 0 elsewhere. The paper's 224 pixels do not give its 55×55 maps by
    windows of 11, 4 apart; the padding, which it does not mention, makes them fit. The sum of the normalisation goes over all maps,
    those of the other tower too, as the paper's formula has it. Images of any size from 63×63; `fc6` takes what is left of them.
    """

    classes: int = 1000
    dropout: float = 0.5
    kernel_init: Initializer = normal(0.01)

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        check_images("AlexNetTwoTower", WINDOWS, x.shape)
        x = relu(Conv(96, 11, 4, 2, kernel_init=self.kernel_init, name="conv1")(x))
        x = max_pool(local_response_normalisation(x), 3, stride=2)
        x = relu(self.towers(256, 5, "conv2")(x))
        x = max_pool(local_response_normalisation(x), 3, stride=2)
        x = relu(Conv(384, 3, padding=1, kernel_init=self.kernel_init, name="conv3")(x))
        x = relu(self.towers(384, 3, "conv4")(x))
        x = max_pool(relu(self.towers(256, 3, "conv5")(x)), 3, stride=2)
        return classifier(x, self.classes, dropout=self.dropout, train=train, kernel_init=self.kernel_init, bias_init=ones)

    def towers(self, features: int, window: int, name: str) -> Conv:
        """A convolution each of whose towers sees its own half of the maps."""
        return Conv(features, window, padding=window // 2, groups=2, kernel_init=self.kernel_init, bias_init=ones, name=name)
