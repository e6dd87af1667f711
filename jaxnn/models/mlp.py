"""The multilayer perceptron."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn import activations, initializers
from jaxnn.models.dense import dense


class MLP(nn.Module):
    """y = W³ f(W² f(W¹ x + b¹) + b²) + b³: `features` holds the units of every layer, the last one linear.

    | layer | shape of its kernel | parameters of [784,30,30,10] |
    |---|---|---|
    | `hidden_1` | (784, 30) | 23,550 |
    | `hidden_2` | (30, 30) | 930 |
    | `output` | (30, 10) | 310 |

    24,790 parameters in all; with a third and a fourth hidden layer of 30 units 25,720 and 26,650.
    An input of more than two axes is flattened to (B, D). Returns the logits (B, K), to which the loss applies its own
    sigmoid or softmax. An activation may change the number of units, as `maxout` does.

    Source: Rumelhart, Hinton, Williams 1986, doi 10.1038/323533a0; lecture rows 20, 22, 23, 67.
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = activations.sigmoid
    kernel_init: Initializer = initializers.lecun_normal
    bias_init: Initializer = jax.nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], *, train: bool = False) -> Float[Array, "B K"]:
        x = x.reshape(len(x), -1)
        *hidden, outputs = self.features
        layer = partial(dense, kernel_init=self.kernel_init, bias_init=self.bias_init)
        for number, units in enumerate(hidden, 1):
            x = self.activation(layer(units, f"hidden_{number}")(x))
        return layer(outputs, "output")(x)
