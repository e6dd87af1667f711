"""The lecture's own example of a convolutional network: two hidden layers, 4 and 7 maps."""

from collections.abc import Callable

import flax.linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import activations, initializers
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.conv import Conv
from jaxnn.models.dense import dense
from jaxnn.models.pooling import max_pool


class TwoLayerCNN(nn.Module):
    """y_j = f(Σ_i y_i * K_ij + w_j), pooled 2×2, twice, and a dense output: logits (B, K).

    | layer | behind it, of 200×200 pixels | behind its pooling | shape of its kernel | parameters |
    |---|---|---|---|---|
    | `hidden_1` | 4 maps of 196×196 | 98×98 | (5, 5, 1, 4) | 104 |
    | `hidden_2` | 7 maps of 96×96 | 48×48 | (3, 3, 4, 7), 28 filters of 3×3 or 7 of 3×3×4 | 259 |
    | `output` | 10 logits | | (16,128, 10) | 161,290 |

    Takes images of any size from 12×12. The slides leave f, the kind of pooling and the output open.

    Source: lecture rows 82, 87-90 (S4:550-683); 7 maps and not the 4 of one of its counts (erratum E24).
    """

    classes: int = 10
    activation: Callable[[Array], Array] = activations.relu
    pool: Callable[[Array], Array] = max_pool
    kernel_init: Initializer = initializers.he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        windows = [
            Window("hidden_1", 5),
            Window("pooling after hidden_1", 2, 2),
            Window("hidden_2", 3),
            Window("pooling after hidden_2", 2, 2),
        ]
        check_images("TwoLayerCNN", windows, x.shape)
        for name, features, window in (("hidden_1", 4, 5), ("hidden_2", 7, 3)):
            x = self.pool(self.activation(Conv(features, window, kernel_init=self.kernel_init, name=name)(x)))
        return dense(self.classes, "output", kernel_init=self.kernel_init)(x.reshape(len(x), -1))
