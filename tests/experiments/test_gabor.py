"""Row 110: features made by hand, against SciPy's correlation and against waves that each filter was made for."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from experiments import gabor


def test_row_110_energies_are_those_of_scipys_correlation():
    image = np.random.default_rng(0).uniform(0, 1, (28, 28)).astype(np.float32)
    found = np.asarray(gabor.energies(jnp.asarray(image)[None, :, :, None]))[0]
    assert found.shape == (7, 7, 16)
    filters = gabor.bank()[:, :, 0]
    for number in (0, 5, 11):
        even, odd = (signal.correlate2d(image, filters[:, :, n], mode="same") for n in (number, number + 16))
        energy = np.sqrt(even**2 + odd**2)[::2, ::2]
        np.testing.assert_allclose(found[..., number], energy.reshape(7, 2, 7, 2).mean((1, 3)), atol=1e-5)


def test_row_110_filters_have_no_mean_and_norm_1():
    filters = gabor.bank()
    np.testing.assert_allclose(filters.sum((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(filters).sum((0, 1)), 1, atol=1e-5)


@pytest.mark.parametrize("number", [0, 3, 8, 13])
def test_row_110_each_filter_answers_most_to_its_own_wave(number):
    """Of any phase; the middle cell, which no border reaches."""
    wavelength, angle = gabor.WAVELENGTHS[number // gabor.DIRECTIONS], np.pi / gabor.DIRECTIONS * (number % gabor.DIRECTIONS)
    y, x = np.mgrid[:28, :28]
    for phase in (0.0, 1.0):
        wave = np.cos(2 * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        found = np.asarray(gabor.energies(jnp.asarray(wave, jnp.float32)[None, :, :, None]))[0, 3, 3]
        assert found.argmax() == number


def test_features_are_the_energies_in_a_row():
    images = np.random.default_rng(1).integers(0, 256, (501, 8, 8, 1)).astype(np.uint8)
    found = gabor.features(images)
    assert found.shape == (501, 2 * 2 * 16)
    expected = gabor.energies(jnp.asarray(images[[0, 500]], jnp.float32) / 255).reshape(2, -1)
    np.testing.assert_allclose(found[[0, 500]], expected, rtol=1e-4, atol=1e-5)


def test_the_linear_classifier_counts_what_it_takes_for_another():
    x, label = np.array([[-3.0], [-2.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    assert gabor.linear_error(x, label, (np.array([[-1.0], [1.0], [5.0], [-4.0]]), np.array([0, 1, 1, 1])), 1.0) == 25.0
