"""A convolutional network over a text: the text is a matrix, a row a token, and filters slide down it."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxnn import activations
from jaxnn.models.dense import dropped
from jaxnn.types import InputError


class TextCNN(nn.Module):
    """c_i = f(w · x_{i:i+k} + b) for filters of k tokens in each of `widths`, ĉ = max_i c_i, and a linear layer on all ĉ.

    | layer | shape of its kernel | parameters with 10,000 tokens, 2 classes |
    |---|---|---|
    | `embedding` | (V, 300) | 3,000,000 |
    | `filters_3`, `_4`, `_5` | (k, 300, 100) | 90,100 + 120,100 + 150,100 |
    | `output` | (300, 2) | 602 |

    `tokens` (B, T) are numbers from 0 to `vocabulary` - 1. `mask` (B, T) is True up to the text's end, the padding comes behind it; no
    window that reaches beyond the end counts, so what a text is padded with changes nothing. A text shorter than the widest filter
    takes zeros for the rest.
    Dropout on ĉ in training. Returns logits (B, K).

    Source: Kim 2014, arXiv:1408.5882; lecture row 165 (S0:196, text as a matrix; S2:753, the fully connected head).
    """

    vocabulary: int
    classes: int
    widths: Sequence[int] = (3, 4, 5)
    maps: int = 100
    embedding_size: int = 300
    dropout: float = 0.5

    @nn.compact
    def __call__(self, tokens: Integer[Array, "B T"], mask: Bool[Array, "B T"], *, train: bool = False) -> Float[Array, "B K"]:
        if not self.widths or min(self.widths) < 1:
            raise InputError(f"widths must be numbers of tokens from 1, got {tuple(self.widths)}")
        shortest = max(self.widths)
        missing = max(0, shortest - tokens.shape[1])
        tokens, mask = (jnp.pad(x, ((0, 0), (0, missing))) for x in (tokens, mask))
        length = jnp.maximum(mask.sum(1), shortest)
        x = nn.Embed(self.vocabulary, self.embedding_size, name="embedding")(tokens) * mask[..., None]
        largest = [self.largest(x, length, width) for width in self.widths]
        x = dropped(jnp.concatenate(largest, axis=-1), self.dropout, train=train)
        return nn.Dense(self.classes, name="output")(x)

    def largest(self, x: Float[Array, "B T D"], length: Integer[Array, "B"], width: int) -> Float[Array, "B maps"]:
        """ĉ of the filters of one width, over the windows that lie within the text."""
        c = activations.relu(nn.Conv(self.maps, (width,), padding="VALID", name=f"filters_{width}")(x))
        inside = jnp.arange(c.shape[1])[None] <= (length - width)[:, None]
        return jnp.max(jnp.where(inside[..., None], c, 0), axis=1)  # a ReLU is never below 0
