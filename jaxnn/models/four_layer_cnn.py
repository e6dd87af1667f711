"""The small convolutional net on which ReLU was shown to learn several times faster than tanh."""

from collections.abc import Callable

import flax.linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import activations, initializers
from jaxnn.models.arithmetic import Window, check_images
from jaxnn.models.conv import Conv
from jaxnn.models.dense import dense
from jaxnn.models.pooling import max_pool, mean_pool

LAYERS = (("conv1", 32, max_pool), ("conv2", 32, mean_pool), ("conv3", 64, mean_pool))
"""Name, maps and pooling."""


class FourLayerCNN(nn.Module):
    """Logits (B, K) by three convolutions y = pool(f(x * w + b)) and one dense layer: 89,578 parameters on photographs of 32×32 pixels.

    | layer | behind it | behind its pooling of 3, stride 2 | shape of its kernel | parameters |
    |---|---|---|---|---|
    | `conv1`, padded by 2 | 32 of 32×32 | 32 of 16×16, largest | (5, 5, 3, 32) | 2,432 |
    | `conv2`, padded by 2 | 32 of 16×16 | 32 of 8×8, mean | (5, 5, 32, 32) | 25,632 |
    | `conv3`, padded by 2 | 64 of 8×8 | 64 of 4×4, mean | (5, 5, 32, 64) | 51,264 |
    | `fc4` | 10 logits | | (1024, 10) | 10,250 |

    Windows of pooling overlap, the last ones reach over the border. Weights start alike whatever f is, by LeCun's normal, which is the
    recipe for tanh: the start gives ReLU no help. `first_init` is for `conv1` alone, None takes `kernel_init`. Images of any size from
    8×8.

    Source: figure 1 of Krizhevsky, Sutskever, Hinton 2012, Advances in Neural Information Processing Systems 25, names "a four-layer
    convolutional neural network" and does not print it; lecture row 74. The layers here are those of the net for CIFAR-10 that came
    with its first author's program cuda-convnet, without that net's normalisation; that they are the figure's is our reading.
    """

    classes: int = 10
    activation: Callable[[Array], Array] = activations.relu
    kernel_init: Initializer = initializers.lecun_normal
    first_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B K"]:
        windows = [w for name, *_ in LAYERS for w in (Window(name, 5, padding=2), Window(f"pooling after {name}", 3, 2, ceil=True))]
        check_images("FourLayerCNN", windows, x.shape)
        for name, maps, pool in LAYERS:
            start = self.first_init if self.first_init and name == "conv1" else self.kernel_init
            y = self.activation(Conv(maps, 5, padding=2, kernel_init=start, name=name)(x))
            x = pool(y, 3, stride=2, ceil=True)
        return dense(self.classes, "fc4", kernel_init=self.kernel_init)(x.reshape(len(x), -1))
