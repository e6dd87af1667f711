import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses
from jaxnn.models.text_cnn import TextCNN
from jaxnn.types import InputError

SMALL = TextCNN(vocabulary=7, classes=2, widths=(2, 3), maps=4, embedding_size=5)


def texts(count, length):
    tokens = jax.random.randint(jax.random.key(1), (count, length), 0, 7)
    return tokens, jnp.ones((count, length), bool)


@jax.jit
def logits(given, tokens, mask):
    return SMALL.apply(given, tokens, mask)


def variables():
    return jax.jit(SMALL.init)(jax.random.key(0), *texts(1, 6))


def by_numpy(params, tokens):
    """One text, window by window."""
    x = np.asarray(params["embedding"]["embedding"], float)[tokens]
    largest = []
    for width in SMALL.widths:
        layer = params[f"filters_{width}"]
        kernel, bias = np.asarray(layer["kernel"], float), np.asarray(layer["bias"], float)
        windows = [np.einsum("kd,kdo->o", x[i : i + width], kernel) + bias for i in range(len(x) - width + 1)]
        largest.append(np.maximum(windows, 0).max(0))
    return np.concatenate(largest) @ np.asarray(params["output"]["kernel"], float) + np.asarray(params["output"]["bias"], float)


def test_row_165_logits_are_those_of_numpy():
    tokens, mask = texts(3, 6)
    given = variables()
    expected = [by_numpy(given["params"], text) for text in np.asarray(tokens)]
    np.testing.assert_allclose(logits(given, tokens, mask), expected, atol=1e-5)


def test_row_165_parameters_of_kims_net():
    shapes = jax.eval_shape(TextCNN(10_000, 2).init, jax.random.key(0), *texts(1, 8))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 3_000_000 + 90_100 + 120_100 + 150_100 + 602


def test_row_165_a_phrase_counts_wherever_it_stands_and_padding_does_not():
    given = variables()
    text = jnp.array([[1, 2, 3, 4]])
    plain = logits(given, text, jnp.ones((1, 4), bool))
    padded = jnp.pad(text, ((0, 0), (0, 5)), constant_values=6)
    np.testing.assert_allclose(logits(given, padded, jnp.arange(9)[None] < 4), plain, atol=1e-6)
    assert abs(logits(given, padded, jnp.ones((1, 9), bool)) - plain).max() > 1e-3


def test_row_165_it_learns_a_phrase():
    """Whether 1 2 3 stands anywhere in a text of ten tokens; fresh texts afterwards."""
    rng = np.random.default_rng(0)

    def draw(count):
        tokens = rng.integers(0, 7, (count, 10))
        for row, at in enumerate(rng.integers(0, 8, count)):
            if row % 2:
                tokens[row, at : at + 3] = 1, 2, 3
        has = np.array([any(tuple(row[i : i + 3]) == (1, 2, 3) for i in range(8)) for row in tokens])
        return jnp.asarray(tokens), jnp.ones(tokens.shape, bool), jnp.asarray(has, jnp.int32)

    model = TextCNN(7, 2, widths=(3,), maps=16, embedding_size=8, dropout=0.1)
    *text, label = draw(256)
    params, optimizer = jax.jit(model.init)(jax.random.key(0), *text), optax.adam(0.02)

    def loss(params, key):
        said = model.apply(params, *text, train=True, rngs={"dropout": key})
        return losses.softmax_cross_entropy_with_integer_labels(said, label).mean()

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(1), 150))
    *text, label = draw(200)
    assert losses.accuracy(jax.jit(model.apply)(params, *text), label).mean() > 0.95


def test_a_text_shorter_than_a_filter_takes_zeros():
    given = variables()
    short = logits(given, jnp.array([[3]]), jnp.ones((1, 1), bool))
    np.testing.assert_allclose(short, logits(given, jnp.array([[3, 5, 5]]), jnp.array([[True, False, False]])), atol=1e-6)
    assert np.isfinite(short).all()


def test_a_filter_of_no_tokens_is_named():
    with pytest.raises(InputError, match=r"widths must be numbers of tokens from 1, got \(3, 0\)"):
        TextCNN(7, 2, widths=(3, 0)).init(jax.random.key(0), *texts(1, 4))
