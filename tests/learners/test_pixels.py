"""Images as stored become what a net takes, whatever they are stored as."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.learners import image_and_label
from jaxnn.learners.pixels import pixels
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
