"""Images as stored become what a net takes, whatever they are stored as."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.learners import image_and_label, standardised
from jaxnn.learners.pixels import pixels
from jaxnn.models.torchvision_weights import DEVIATION, MEAN
from jaxnn.types import InputError

IMAGE = np.arange(24).reshape(2, 4, 3, 1) * 11


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_integers_are_bytes_and_go_from_0_to_1(dtype):
    np.testing.assert_allclose(pixels({"image": jnp.asarray(IMAGE, dtype)}), IMAGE / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16, bool])
def test_what_is_scaled_already_is_not_made_dark(dtype):
    stored = jnp.asarray(IMAGE % 2, dtype)
    found = pixels({"image": stored})
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, IMAGE % 2)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((jnp.zeros((2, 4, 4, 1)), jnp.zeros(2, jnp.int32)), "a batch must be a dict with image and label, got a tuple"),
        ({"image": jnp.zeros((2, 4, 4, 1)), "labels": jnp.zeros(2)}, "got one without label: it has image, labels"),
        ({"image": jnp.zeros((0, 4, 4, 1)), "label": jnp.zeros(0)}, r"at least one image, \(B, H, W, C\), got an array of shape \(0, 4"),
    ],
)
def test_a_batch_of_another_kind_is_refused(batch, message):
    with pytest.raises(InputError, match=message):
        image_and_label(batch)


def test_pixels_are_standardised_by_imagenets_numbers():
    x, y = standardised(MEAN, DEVIATION)({"image": jnp.array([[[[255, 0, 51]]]], jnp.uint8), "label": jnp.array([3])})
    np.testing.assert_allclose(x[0, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], rtol=1e-5)
    assert y.tolist() == [3]


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 1, 2), 0], ids=["one of all", "one a channel", "one a pixel"])
def test_standardised_by_their_own_mean_and_deviation_images_have_mean_0_and_deviation_1(axes):
    colours = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    mean, deviation = (colours / 255).mean(axes), (colours / 255).std(axes)
    x, _ = standardised(mean, deviation)({"image": jnp.asarray(colours), "label": jnp.zeros(9, jnp.int32)})
    np.testing.assert_allclose(np.asarray(x, float).mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(x, float).std(axes), 1, rtol=1e-5)


def test_what_cannot_standardise_is_refused():
    with pytest.raises(InputError, match=r"deviation must be above 0 everywhere, got 0.0"):
        standardised(0.5, [0.2, 0.0])
    with pytest.raises(InputError, match=r"a mean \(3,\) and a deviation \(3,\) do not go with images \(2, 4, 3, 1\)"):
        standardised([0.5] * 3, [0.2] * 3)({"image": jnp.asarray(IMAGE), "label": jnp.zeros(2, jnp.int32)})
