"""The dense layers at the top of the nets of 2012 to 2014: as many weights as the ten convolutions under them, and more."""

from collections.abc import Sequence

from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from jaxnn.activations import relu
from jaxnn.initializers import zeros
from jaxnn.models.dense import dense, dropped


def classifier(
    x: Float[Array, "B H W C"],
    classes: int,
    *,
    dropout: float,
    train: bool,
    kernel_init: Initializer,
    bias_init: Initializer = zeros,
    units: Sequence[int] = (4096, 4096),
) -> Float[Array, "B K"]:
    """W₈ d(f(W₇ d(f(W₆ x)))), biases understood: two hidden layers of ReLUs f with dropout d behind each, then logits.

    Called inside a net, whose layers `fc6`, `fc7` and `fc8` they become: numbered on from five convolutions. Lecture rows 107 and 108.
    """
    x = x.reshape(len(x), -1)
    for number, width in enumerate(units, 6):
        x = relu(dense(width, f"fc{number}", kernel_init=kernel_init, bias_init=bias_init)(x))
        x = dropped(x, dropout, train=train)
    return dense(classes, f"fc{6 + len(units)}", kernel_init=kernel_init)(x)
