"""The BP algorithm written out by hand, as the lectures have it: no `jax.grad`.

For layers l = 1 … L with x⁰ the input, targets y and outputs ŷ (S2:427-448, S3:143-189; rows 45 and 46):

    forward        z_j^l = Σ_i w_ij^l x_i^{l-1} + b_j^l,    x^l = f(z^l)
    at the output  δ_j^L = ∂E/∂z_j^L                        see `Output`
    back           δ_j^l = f'(z_j^l) Σ_k w_jk^{l+1} δ_k^{l+1}
    adjust         w_ij^l ← w_ij^l - η δ_j^l x_i^{l-1},     b_j^l ← b_j^l - η δ_j^l

with the mean over a batch in place of one example, and all δ taken before any weight moves. The bias is the weight of a constant
x_0 = 1, in every layer: the sums of S3:87 and 93 lose that of the output, as they start at j = 1 (erratum E47). The slide adjusts
"layer 1", which is layer l, and writes y for target and output both (E15).

f' comes from `jaxnn.activations.slope`, the derivative of one scalar function; all of the chain rule stands here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn import coding, initializers, losses
from jaxnn.activations import sigmoid, slope, softmax
from jaxnn.learners.supervised import image_and_label, labelled
from jaxnn.types import Batch, InputError, Learner, Metrics

Elementwise = Callable[[Array], Array]


class Layer(NamedTuple):
    weights: Float[Array, "m n"]
    biases: Float[Array, "n"]


class Backpropagation(NamedTuple):
    """The state of `backpropagation`."""

    layers: tuple[Layer, ...]


class Output(NamedTuple):
    """What the last layer does with its z, and the error of one example; both (K,) -> (K,) or, with targets, (K,), (K,) -> ().

    δ = ŷ - y, which S3:158 states for every net, holds for matched pairs alone, of the lectures' these three: linear with ½ squared error,
    sigmoid and softmax with their cross-entropy. For all else f'(z) stays: δ = f'(z)(ŷ - y) with the squared error, as S2:442 has it.
    Erratum E6; Bishop, PRML, 5.2-5.3.
    """

    activation: Callable[[Array], Array]
    """ŷ(z)."""
    error: Callable[[Array, Array], Array]
    """E(z, y)."""
    delta: Callable[[Array, Array], Array]
    """∂E/∂z (z, y)."""


def squared_error(f: Elementwise) -> Output:
    """E = ½ Σ_k (f(z_k) - y_k)², δ = f'(z)(ŷ - y); with the linear f this is ŷ - y."""
    derivative = slope(f)
    error = lambda z, y: losses.half_squared_error(f(z), y)  # noqa: E731
    return Output(f, error, lambda z, y: derivative(z) * (f(z) - y))


SIGMOID_CROSS_ENTROPY = Output(sigmoid, losses.sigmoid_cross_entropy, lambda z, y: sigmoid(z) - y)
"""For targets of `coding.binary`, or K of them."""
SOFTMAX_CROSS_ENTROPY = Output(softmax, losses.softmax_cross_entropy, lambda z, y: softmax(z) - y)
"""For targets of `coding.one_of_c`."""


def image_and_one_of_c(classes: int) -> Callable[[Batch], tuple[Array, Array]]:
    """`preprocess` of images (B, H, W, C) and labels (B,): pixels from 0 to 1, targets (B, classes)."""

    def preprocess(batch: Batch) -> tuple[Array, Array]:
        x, label = image_and_label(batch)
        return x, coding.one_of_c(label, classes)

    return preprocess


def image_and_binary(batch: Batch) -> tuple[Float[Array, "B H W C"], Float[Array, "B 1"]]:
    """`preprocess` of images and labels 0 or 1, for one output."""
    x, label = image_and_label(batch)
    return x, coding.binary(label)


def backpropagation(
    features: Sequence[int],
    learning_rate: float | Array,
    *,
    activation: Elementwise = sigmoid,
    output: Output = SOFTMAX_CROSS_ENTROPY,
    preprocess: Callable[[Batch], tuple[Array, Array]] | None = None,
    metrics: Mapping[str, Callable[[Array, Array], Array]] | None = None,
    kernel_init: Initializer = initializers.lecun_normal,
    bias_init: Initializer = initializers.zeros,
) -> Learner:
    """w ← w - η δ x with δ^l = f'(z^l) Σ_k w_jk δ_k^{l+1}, in layers of `features` units, the last of them the outputs.

    `activation` is any elementwise f, in all layers but the last, which has that of `output`. `preprocess(batch) -> (x, y)` gives inputs,
    flattened here to (B, D), and targets (B, K); None takes images and labels in 1-of-C code. `metrics` map (outputs, targets) to one
    value an example; they and the `loss` are measured before the update. `predict` gives the outputs ŷ (B, K). The algorithm's stop test is
    the loop's: `fit(..., stop=Reached(Goal("loss", higher_is_better=False), 0.01))`.

    Raises `InputError` for an activation that mixes units, and for targets of another shape than the outputs.

    Source: Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0; before it Linnainmaa 1970 and Werbos 1974, whom S2:429 omits (E44).
    Lecture rows 22, 23, 45-49.
    """
    if not features or min(features) < 1:
        raise InputError(f"features must be the units of at least one layer, each at least 1, got {tuple(features)}")
    if "loss" in (metrics or {}):
        raise InputError("metrics already has a 'loss', that of the learner; give yours another name")
    preprocess = preprocess or image_and_one_of_c(features[-1])
    derivative = slope(activation)

    def flat(batch: Batch) -> tuple[Array, Array]:
        x, y = preprocess(batch)
        return x.reshape(len(x), -1), y

    def init(key: PRNGKeyArray, batch: Batch) -> Backpropagation:
        x, y = flat(batch)
        if y.shape != (len(x), features[-1]):
            raise InputError(
                f"targets have the shape {y.shape}, the outputs {(len(x), features[-1])}; jaxnn.coding makes targets of labels"
            )
        return Backpropagation(_layers(key, (x.shape[1], *features), kernel_init, bias_init))

    def per_example(zs: Array, y: Array) -> Metrics:
        outputs = jax.vmap(output.activation)(zs)
        more = {name: metric(outputs, y) for name, metric in (metrics or {}).items()}
        return {"loss": jax.vmap(output.error)(zs, y), **more}

    def step(key: PRNGKeyArray, state: Backpropagation, batch: Batch) -> tuple[Backpropagation, Metrics]:
        x, y = flat(batch)
        last, gradients = mean_gradients(state.layers, x, y, activation, derivative, output)
        layers = jax.tree.map(lambda w, gradient: w - learning_rate * gradient, state.layers, gradients)
        return Backpropagation(layers), {name: values.mean() for name, values in per_example(last, y).items()}

    def outputs_before(state: Backpropagation, x: Array) -> Array:
        return jax.vmap(lambda x: forward(state.layers, x, activation)[0][-1])(x)

    def evaluate(key: PRNGKeyArray, state: Backpropagation, batch: Batch) -> Metrics:
        x, y = flat(batch)
        return per_example(outputs_before(state, x), y)

    def predict(state: Backpropagation, batch: Batch) -> Array:
        return jax.vmap(output.activation)(outputs_before(state, flat(labelled(batch))[0]))

    return Learner(init, step, evaluate, predict)


def forward(layers: Sequence[Layer], x: Float[Array, "D"], f: Elementwise) -> tuple[list[Array], list[Array]]:
    """For one example z^1 … z^L, and what went into each layer, x^0 … x^{L-1}."""
    zs: list[Array] = []
    xs = [x]
    for weights, biases in layers:
        zs.append(xs[-1] @ weights + biases)
        xs.append(f(zs[-1]))
    return zs, xs[:-1]


def backward(layers: Sequence[Layer], zs: Sequence[Array], delta: Float[Array, "K"], derivative: Elementwise) -> list[Array]:
    """For one example δ^1 … δ^L from δ^L = `delta`: δ_j^l = f'(z_j^l) Σ_k w_jk^{l+1} δ_k^{l+1}."""
    deltas = [delta]
    for above, z in zip(layers[:0:-1], zs[-2::-1], strict=True):
        deltas.insert(0, derivative(z) * (above.weights @ deltas[0]))
    return deltas


def mean_gradients(
    layers: tuple[Layer, ...],
    x: Float[Array, "B D"],
    y: Float[Array, "B K"],
    f: Elementwise,
    derivative: Elementwise,
    output: Output,
) -> tuple[Float[Array, "B K"], tuple[Layer, ...]]:
    """z^L, and the means over the batch of ∂E/∂w_ij^l = δ_j^l x_i^{l-1} and ∂E/∂b_j^l = δ_j^l."""

    def one(x: Array, y: Array) -> tuple[Array, list[Array], list[Array]]:
        zs, xs = forward(layers, x, f)
        return zs[-1], xs, backward(layers, zs, output.delta(zs[-1], y), derivative)

    last, xs, deltas = jax.vmap(one)(x, y)
    return last, tuple(Layer(x.T @ delta / len(x), delta.mean(0)) for x, delta in zip(xs, deltas, strict=True))


def _layers(key: PRNGKeyArray, sizes: Sequence[int], kernel_init: Initializer, bias_init: Initializer) -> tuple[Layer, ...]:
    """Step (1): small random weights."""
    layers = []
    for of_layer, m, n in zip(jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True):
        kernel_key, bias_key = jax.random.split(of_layer)
        layers.append(Layer(kernel_init(kernel_key, (m, n)), bias_init(bias_key, (n,))))
    return tuple(layers)
