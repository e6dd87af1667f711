"""ZF Net: AlexNet with smaller windows and shorter strides at the bottom, which its deconvnet showed to be better."""

import flax.linen as nn
from jax.nn.initializers import Initializer, normal
from jaxtyping import Array, Float

from jaxnn.activations import relu
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.classifier import classifier
from jaxnn.models.conv import Conv
from jaxnn.models.normalise import local_response_normalisation
from jaxnn.models.pooling import max_pool

WINDOWS = (
    Window("conv1", 7, 2, padding=1),
    Window("pooling after conv1", 3, 2, ceil=True),
    Window("conv2", 5, 2),
    Window("pooling after conv2", 3, 2, ceil=True),
    Window("conv3", 3, padding=1),
    Window("conv4", 3, padding=1),
    Window("conv5", 3, padding=1),
    Window("pooling after conv5", 3, 2, ceil=True),
)


class ZFNet(nn.Module):
    """Logits (B, K) by five convolutions and three dense layers: 62,357,608 parameters.

    | layer | behind it, of 224×224 pixels | shape of its kernel | parameters |
    |---|---|---|---|
    | `conv1`, stride 2, padded by 1 | 96 of 110×110 | (7, 7, 3, 96) | 14,208 |
    | pooling 3, stride 2; normalisation | 96 of 55×55 | | |
    | `conv2`, stride 2 | 256 of 26×26 | (5, 5, 96, 256) | 614,656 |
    | pooling 3, stride 2; normalisation | 256 of 13×13 | | |
    | `conv3`, padded by 1 | 384 of 13×13 | (3, 3, 256, 384) | 885,120 |
    | `conv4`, padded by 1 | 384 of 13×13 | (3, 3, 384, 384) | 1,327,488 |
    | `conv5`, padded by 1 | 256 of 13×13 | (3, 3, 384, 256) | 884,992 |
    | pooling 3, stride 2 | 256 of 6×6 | | |
    | `fc6`, dropout | 4,096 units | (9216, 4096) | 37,752,832 |
    | `fc7`, dropout | 4,096 units | (4096, 4096) | 16,781,312 |
    | `fc8` | 1,000 logits | (4096, 1000) | 4,097,000 |

    Pooling windows may reach over the border, without which the paper's 55×55 and 13×13 would not come about. Its "contrast normalised
    across feature maps" is taken for AlexNet's local response normalisation, here behind the pooling. Weights start by N(0, 0.01²), biases
    at 0. Images of any size from 47×47; `fc6` takes what is left of them.

    Source: Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, arXiv:1311.2901, figure 3; lecture row 108.
    """

    classes: int = 1000
    dropout: float = 0.5
    kernel_init: Initializer = normal(0.01)

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        check_images("ZFNet", WINDOWS, x.shape)
        for name, features, window, padding in (("conv1", 96, 7, 1), ("conv2", 256, 5, 0)):
            x = relu(Conv(features, window, 2, padding, kernel_init=self.kernel_init, name=name)(x))
            x = local_response_normalisation(max_pool(x, 3, stride=2, ceil=True))
        for name, features in (("conv3", 384), ("conv4", 384), ("conv5", 256)):
            x = relu(Conv(features, 3, padding=1, kernel_init=self.kernel_init, name=name)(x))
        x = max_pool(x, 3, stride=2, ceil=True)
        return classifier(x, self.classes, dropout=self.dropout, train=train, kernel_init=self.kernel_init)
