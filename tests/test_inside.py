"""Row 109 against NumPy that stores the switches, turns the filters and loops over what it sends back."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import inside
from jaxnn.activations import relu
from jaxnn.inside import (
    deconv_relu,
    grad_cam,
    guided_relu,
    let_through,
    maximise,
    project_back,
    saliency,
    strongest_alone,
    strongest_places,
)
from jaxnn.models import LeNet5, TwoLayerCNN, apply_changed, functional, layers
from jaxnn.types import InputError
from tests import lenet_by_hand as by_hand

SIDE, MAP = 14, 4
BACKWARDS = {
    "gradient": (relu, lambda signal, z: signal * (z > 0)),
    "deconvnet": (deconv_relu, lambda signal, z: np.maximum(signal, 0)),
    "guided": (guided_relu, lambda signal, z: np.maximum(signal, 0) * (z > 0)),
}
"""The ReLU of the net, and NumPy's rule for a signal at a weighted sum z."""


@pytest.fixture(scope="module")
def variables():
    """Of a LeNet-5 for 14×14 pixels and 3 classes, with biases that leave about half of the units silent."""
    init, _ = functional(LeNet5(classes=3))
    drawn = jax.jit(init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 1)))
    numbers = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + numbers.normal(0, 0.3, leaf.shape) * (leaf.ndim == 1), jnp.float32), drawn)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).uniform(0, 1, (3, SIDE, SIDE, 1)), jnp.float32)


@pytest.fixture(scope="module")
def params(variables):
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])


@pytest.mark.parametrize("way", BACKWARDS)
def test_row_109_what_is_projected_back_is_numpys(way, variables, params, images):
    activation, rule = BACKWARDS[way]
    model = LeNet5(classes=3, activation=activation)
    back = jax.jit(lambda images: project_back(lambda x: layers(model, variables, x)["c3"], images, MAP))(images)
    for image, projected in zip(np.asarray(images, float), back, strict=True):
        expected = by_hand.projected(params, image, MAP, rule)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(projected, expected, atol=1e-5)


def test_row_109_the_three_ways_differ_at_silent_units_and_at_negative_signals():
    """z of a silent and two active units, each with weights of both signs above."""
    z, signal = jnp.array([-1.0, -1.0, 2.0, 2.0]), jnp.array([3.0, -3.0, 3.0, -3.0])
    passed = {way: jax.vjp(activation, z)[1](signal)[0].tolist() for way, (activation, _) in BACKWARDS.items()}
    assert passed == {"gradient": [0, 0, 3, -3], "deconvnet": [3, 0, 3, 0], "guided": [0, 0, 3, 0]}
    for activation, _ in BACKWARDS.values():
        np.testing.assert_array_equal(activation(z), [0, 0, 2, 2])


def test_row_109_the_signals_of_the_three_ways_differ_in_a_net(variables, images):
    """At C1's sums: where a unit is silent the deconvnet alone has something, where the gradient is negative nobody else has it."""
    model = LeNet5(classes=3)
    z = jax.jit(lambda images: layers(model, variables, images)["c1"])(images)

    def sent(activation):
        above = lambda z: apply_changed(LeNet5(classes=3, activation=activation), variables, images, "c1", lambda _: z)  # noqa: E731
        return np.asarray(jax.jit(jax.grad(lambda z: above(z)[:, 0].sum()))(z))

    gradient, deconvnet, guided = (sent(activation) for activation, _ in BACKWARDS.values())
    silent = np.asarray(z) <= 0
    assert (gradient[silent] == 0).all()
    assert (guided[silent] == 0).all()
    assert (deconvnet[silent] > 0).any()
    assert (gradient < 0).any()
    assert min(deconvnet.min(), guided.min()) == 0


def test_projected_back_by_the_gradient_is_activation_times_gradient(images):
    """Of another net of the library, for all maps of its second layer at once."""
    model = TwoLayerCNN()
    variables = jax.jit(functional(model).init)(jax.random.key(2), images)
    layer = lambda images: layers(model, variables, images)["hidden_2"]  # noqa: E731
    strongest = lambda images, channel: jnp.maximum(layer(images)[..., channel].max((1, 2)), 0)  # noqa: E731

    @jax.jit
    @jax.vmap
    def both(channel):
        value, back = jax.vjp(lambda images: strongest(images, channel), images)
        return project_back(layer, images, channel), back(value)[0]

    found, expected = both(jnp.arange(7))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_silent_map_sends_nothing_back(images):
    back = jax.jit(lambda images: project_back(lambda x: -1 - jnp.square(x), images, 0))(images)
    np.testing.assert_array_equal(back, jnp.zeros_like(images))


def test_the_strongest_entry_is_the_first_by_rows():
    maps = np.random.default_rng(3).integers(0, 4, (2, 3, 4, 5)).astype(np.float32)
    places = np.asarray(strongest_places(jnp.asarray(maps)))
    assert places.shape == (2, 5, 2)
    for n, o in np.ndindex(2, 5):
        expected = np.unravel_index(maps[n, ..., o].argmax(), (3, 4))
        np.testing.assert_array_equal(places[n, o], expected)
        alone = np.asarray(strongest_alone(jnp.asarray(maps[n]), o))
        assert alone[(*expected, o)] == maps[n, ..., o].max()
        assert np.count_nonzero(alone) == 1


def test_row_109_saliency_is_the_finite_difference(variables, params, images):
    label, h = jnp.array([2, 0, 1]), 1e-6
    outputs = lambda x: functional(LeNet5(classes=3)).apply(variables, x, train=False)[0]  # noqa: E731
    found = np.asarray(jax.jit(lambda images: saliency(outputs, images, label))(images))
    score = lambda image, y: by_hand.scores(params, by_hand.forward(params, image)[3][0])[0][y]  # noqa: E731
    for n, (p, q) in enumerate([(3, 4), (7, 7), (10, 5)]):
        up, down = (np.array(images[n], float) for _ in range(2))
        up[p, q], down[p, q] = up[p, q] + h, down[p, q] - h
        difference = (score(up, label[n]) - score(down, label[n])) / (2 * h)
        np.testing.assert_allclose(found[n, p, q], abs(difference), rtol=1e-3, atol=1e-5)
    assert found.shape == (3, SIDE, SIDE)
    assert found.min() >= 0


def test_saliency_takes_the_colour_that_counts_most():
    weights = np.array([1.0, -3.0, 2.0])
    found = saliency(lambda x: (x * weights.reshape(1, 1, 1, 3)).sum((1, 2, 3))[:, None], jnp.ones((1, 2, 2, 3)), jnp.array([0]))
    np.testing.assert_allclose(found, np.full((1, 2, 2), 3.0))


def test_row_109_grad_cam_is_numpys(variables, params, images):
    label, model = jnp.array([2, 0, 1]), LeNet5(classes=3)
    maps = jax.jit(lambda images: relu(layers(model, variables, images)["c3"]))(images)
    above = lambda maps: apply_changed(model, variables, images, "c3", lambda _: let_through(maps))  # noqa: E731
    outputs = jax.jit(lambda images: functional(model).apply(variables, images, train=False)[0])(images)
    np.testing.assert_allclose(jax.jit(above)(maps), outputs, atol=1e-6)
    expected, silent = zip(*(by_hand.cam(params, *pair) for pair in zip(np.asarray(images, float), label, strict=True)), strict=True)
    assert max(silent) > 0.01  # windows without an active unit count as well
    assert np.max(expected) > 0.01
    np.testing.assert_allclose(jax.jit(lambda maps: grad_cam(above, maps, label))(maps), expected, atol=1e-5)


def test_row_109_grad_cam_of_a_linear_net_by_hand():
    """S_y = Σ w_ky A^k: α_k = w_ky, and what speaks against the class is cut off."""
    maps, weights = jnp.array([[[[1.0, 2.0], [3.0, 0.0]]]]), jnp.array([[1.0, 0.0], [-1.0, 2.0]])
    above = lambda maps: jnp.einsum("bpqk,ky->by", maps, weights)  # noqa: E731
    np.testing.assert_allclose(grad_cam(above, maps, jnp.array([0])), [[[0, 3]]])
    np.testing.assert_allclose(grad_cam(above, maps, jnp.array([1])), [[[4, 0]]])


def test_row_109_the_maximum_of_a_linear_unit_is_where_the_pull_balances_it():
    weights = jnp.asarray(np.random.default_rng(4).normal(0, 1, (5, 4, 4, 1)), jnp.float32)
    start = jnp.full((4, 4, 1), 0.5)
    best = lambda key, w: maximise(key, lambda x: (w * x).sum(), start, steps=60, learning_rate=0.1, pull=2.0)  # noqa: E731
    together = jax.jit(jax.vmap(best))(jax.random.split(jax.random.key(0), 5), weights)
    np.testing.assert_allclose(together.image, 0.5 + weights / 4, atol=1e-5)
    np.testing.assert_allclose(together.activation[:, 0], 0.5 * weights.sum((1, 2, 3)), atol=1e-5)
    assert together.activation.shape == (5, 60)
    np.testing.assert_allclose(best(jax.random.key(1), weights[3]).image, together.image[3], atol=1e-6)


def test_jitter_moves_the_image_and_brings_it_back():
    """The unit sees one pixel: what it adds lies within the jitter of it, in all nine places, a step a place."""
    found = {
        jitter: maximise(jax.random.key(0), lambda x: x[3, 3, 0], jnp.zeros((7, 7, 1)), steps=90, learning_rate=1.0, jitter=jitter)
        for jitter in (0, 1)
    }
    assert found[0].image[3, 3, 0] == found[0].image.sum() == 90
    near = np.asarray(found[1].image[2:5, 2:5, 0])
    assert near.sum() == found[1].image.sum() == 90
    assert near.min() > 0
    still = np.asarray(found[0].activation)
    np.testing.assert_array_equal(still, np.arange(90))


def test_pixels_stay_between_their_bounds():
    image = maximise(
        jax.random.key(0), lambda x: x[0].sum() - x[1].sum(), jnp.zeros((2, 2, 1)), steps=9, learning_rate=0.4, between=(-0.5, 1.0)
    ).image
    np.testing.assert_allclose(image[..., 0], [[1, 1], [-0.5, -0.5]])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 3, "jitter": -1}])
def test_bad_input_is_said_in_words(wrong):
    with pytest.raises(InputError, match="maximise needs steps of at least 1 and jitter of at least 0"):
        inside.maximise(jax.random.key(0), jnp.sum, jnp.zeros((2, 2, 1)), learning_rate=0.1, **wrong)


MAPS, WEIGHTS = jnp.ones((2, 3, 3, 4)), jnp.ones((4, 5))
ABOVE = lambda maps: jnp.einsum("bpqo,ok->bk", maps, WEIGHTS)  # noqa: E731
LABEL = jnp.array([0, 4])
raw = inspect.unwrap
"""Without the check of shapes that only tests have."""


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda: raw(saliency)(ABOVE, MAPS, jnp.array([0, 5])), r"label 5 at \[1\] is outside the 5 classes, 0 to 4; 1 of 2 labels is"),
        (lambda: raw(saliency)(ABOVE, MAPS, jnp.array([-1, 4])), r"label -1 at \[0\] is outside the 5 classes"),
        (lambda: raw(saliency)(ABOVE, MAPS.astype(jnp.uint8), LABEL), "images are uint8, along which there is no gradient"),
        (lambda: raw(saliency)(ABOVE, MAPS[0], LABEL), r"images \(B, H, W, C\) are wanted, got an array of shape \(3, 3, 4\)"),
        (lambda: raw(saliency)(ABOVE, MAPS, LABEL[:1]), r"label must be 2 whole numbers, a class an image; got int32 of shape \(1,\)"),
        (lambda: raw(saliency)(ABOVE, MAPS, LABEL.astype(float)), r"label must be 2 whole numbers, .* got float32 of shape \(2,\)"),
        (lambda: raw(saliency)(lambda x: x, MAPS, LABEL), r"scores \(B, K\) are wanted, .* got an array of shape \(2, 3, 3, 4\)"),
        (lambda: raw(grad_cam)(ABOVE, MAPS, jnp.array([0, 5])), r"label 5 at \[1\] is outside the 5 classes"),
        (lambda: raw(grad_cam)(ABOVE, MAPS[:, 0, 0], LABEL), r"maps \(B, P, Q, O\) are wanted, got an array of shape \(2, 4\)"),
        (lambda: raw(project_back)(jnp.square, MAPS, 4), "channel 4 is outside the layer's 4 maps, 0 to 3"),
        (lambda: raw(project_back)(jnp.square, MAPS, jnp.array(-1)), "channel -1 is outside the layer's 4 maps, 0 to 3"),
        (lambda: raw(strongest_alone)(MAPS[0], 1.0), "channel must be the number of a map, got 1.0"),
        (lambda: raw(project_back)(jnp.square, MAPS.astype(jnp.uint8), 0), "images are uint8, along which there is no gradient"),
        (
            lambda: raw(project_back)(ABOVE, MAPS, 0),
            r"of shape \(2, 5\), as of a layer without places; its units, y\[:, None, None\], are maps",
        ),
        (lambda: climb(MAPS, jnp.sum), r"images \(H, W, C\) are wanted, got an array of shape \(2, 3, 3, 4\)"),
        (lambda: climb(MAPS[0].astype(jnp.uint8), jnp.sum), "images are uint8"),
        (lambda: climb(MAPS[0], lambda x: x[0, 0]), r"activation must give one number, .* it gives an array of shape \(4,\)"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_words(look, says):
    with pytest.raises(InputError, match=says):
        look()


def climb(start, activation):
    return raw(maximise)(jax.random.key(0), activation, start, steps=1, learning_rate=0.1)


def test_a_dense_layer_is_sent_back_as_maps_of_one_place():
    """y_k = Σ x w_k with all weights 1: the activation, 36, at every pixel."""
    np.testing.assert_allclose(project_back(lambda x: ABOVE(x)[:, None, None], MAPS, 2), np.full(MAPS.shape, 36.0))


def test_inside_jit_a_label_that_is_no_class_makes_nan():
    found = jax.jit(lambda label: saliency(ABOVE, MAPS, label))(jnp.array([-1, 4]))
    assert jnp.isnan(found).all((1, 2)).tolist() == [True, False]
    np.testing.assert_array_equal(found[1], jnp.ones((3, 3)))
