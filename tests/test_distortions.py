"""Distorted images against SciPy's affine map, against closed forms, and in what they leave alone."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.distortions import RANGES, Ranges, cropped, cropped_and_flipped, distorted, flipped, moved
from jaxnn.types import InputError

STILL = Ranges(0.0, 0.0, 0.0, 0.0)


def photographs(batch=3, height=12, width=10, maps=2):
    """Smooth, with nothing at the border, where SciPy's rules for what lies outside are not ours."""
    x = np.zeros((batch, height, width, maps), np.float32)
    x[:, 3:-3, 3:-3] = np.random.default_rng(0).random((batch, height - 6, width - 6, maps))
    return jnp.asarray(x)


def amounts(batch=3, **given):
    names = {"right": 0.0, "up": 0.0, "tall": 1.0, "wide": 1.0, "shear": 0.0}
    return {name: jnp.full(batch, given.get(name, value), jnp.float32) for name, value in names.items()}


def test_no_amount_is_no_change():
    x = photographs()
    np.testing.assert_allclose(moved(x, **amounts()), x, atol=1e-6)
    np.testing.assert_allclose(distorted(jax.random.key(0), x, STILL), x, atol=1e-6)


def test_whole_pixels_to_the_right_and_up_are_a_roll():
    x = photographs()
    np.testing.assert_allclose(moved(x, **amounts(right=2.0, up=1.0)), np.roll(x, (-1, 2), (1, 2)), atol=1e-6)


def test_half_a_pixel_is_the_mean_of_neighbours():
    x = photographs()
    np.testing.assert_allclose(moved(x, **amounts(right=0.5)), (x + np.roll(x, 1, 2)) / 2, atol=1e-6)
    np.testing.assert_allclose(moved(x, **amounts(up=0.5)), (x + np.roll(x, -1, 1)) / 2, atol=1e-6)


def test_a_shear_moves_each_row_by_its_height():
    x = jnp.zeros((1, 5, 9, 1)).at[:, :, 4].set(1.0)
    sheared = moved(x, **amounts(1, shear=1.0))[0, ..., 0]
    np.testing.assert_allclose(sheared, np.eye(9, dtype=np.float32)[[2, 3, 4, 5, 6]], atol=1e-6)  # the lower, the further right


def test_factors_stretch_about_the_centre():
    line = jnp.asarray(np.arange(-3, 4, dtype=np.float32))
    x = jnp.broadcast_to(line[None, None, :, None], (1, 7, 7, 1))
    inside = slice(2, 5)
    np.testing.assert_allclose(moved(x, **amounts(1, wide=2.0))[0, 3, inside, 0], line[inside] / 2, atol=1e-6)
    x = jnp.broadcast_to(line[None, :, None, None], (1, 7, 7, 1))
    np.testing.assert_allclose(moved(x, **amounts(1, tall=2.0))[0, inside, 3, 0], line[inside] / 2, atol=1e-6)


def test_all_at_once_is_scipys_map_where_rows_stand_on_pixels():
    """A bilinear map is two linear ones where the rows of both grids coincide; elsewhere the two passes blur the shear a little less."""
    affine_transform = pytest.importorskip("scipy.ndimage").affine_transform
    x = photographs(batch=1, height=13, maps=1)
    up, right, tall, wide, shear = 1.0, 0.7, 0.5, 1.3, 0.4
    ours = moved(x, **amounts(1, up=up, right=right, tall=tall, wide=wide, shear=shear))[0, ..., 0]
    centre = np.array([(n - 1) / 2 for n in x.shape[1:3]])
    matrix = np.array([[1 / tall, 0], [-shear / wide, 1 / wide]])
    offset = centre + np.array([up, -right]) - matrix @ centre
    expected = affine_transform(np.asarray(x[0, ..., 0]), matrix, offset, order=1)
    assert np.count_nonzero(expected) > 20
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_all_distortions_at_once_within_their_ranges_and_apart_from_each_other():
    """A round spot becomes an ellipse: place, both lengths and slant are five numbers, hence those that were drawn."""
    i, j = np.meshgrid(np.arange(41.0) - 20, np.arange(41.0) - 20, indexing="ij")
    spot = jnp.asarray(np.exp(-(i**2 + j**2) / (2 * 16)), jnp.float32)
    drawn = np.asarray(distorted(jax.random.key(3), jnp.broadcast_to(spot[None, ..., None], (400, 41, 41, 1)), RANGES), float)[..., 0]
    mean = lambda values: (drawn * values).sum((1, 2)) / drawn.sum((1, 2))  # noqa: E731
    down, across = mean(i), mean(j)
    slant = (mean(i * j) - down * across) / (mean(i * i) - down**2)
    tall = np.sqrt(mean(i * i) - down**2) / 4
    wide = np.sqrt(mean(j * j) - across**2 - (4 * slant * tall) ** 2) / 4
    shifts, factors = [(across - slant * down) / wide, -down / tall], [np.log(tall * wide) / 2, np.log(tall / wide) / 2]
    found = np.array([*shifts, *factors, slant])
    reach = np.array([RANGES.shift, RANGES.shift, RANGES.scale, RANGES.squeeze, RANGES.shear])
    np.testing.assert_allclose(np.abs(found).max(1) / reach, 1, atol=0.1)
    np.testing.assert_allclose(found.std(1) / reach, 3**-0.5, atol=0.05)
    assert np.abs(np.corrcoef(found) - np.eye(5)).max() < 0.2


def test_what_comes_from_outside_is_background():
    x = jnp.full((1, 4, 4, 1), 5.0)
    there = moved(x, **amounts(1, right=2.0), background=-0.1)[0, ..., 0]
    np.testing.assert_allclose(there, [[-0.1, -0.1, 5, 5]] * 4, atol=1e-6)
    np.testing.assert_allclose(moved(x, **amounts(1, right=99.0), background=-0.1), -0.1, atol=1e-6)


def test_every_image_and_every_key_has_a_draw_of_its_own_within_the_ranges():
    spot = jnp.zeros((400, 21, 21, 1)).at[:, 10, 10].set(1.0)
    shifted = distorted(jax.random.key(0), spot, STILL._replace(shift=3.0))[..., 0]
    places = jnp.arange(21.0) - 10
    right = jnp.einsum("bij,j->b", shifted, places)
    up = -jnp.einsum("bij,i->b", shifted, places)
    for drawn in (right, up):  # evenly from -3 to 3, whose standard deviation is 3/√3
        assert -3 <= drawn.min() < -2.9
        assert 2.9 < drawn.max() <= 3
        assert abs(drawn.mean()) < 0.3
        assert abs(drawn.std() - 3**0.5) < 0.15
    assert abs(np.corrcoef(right, up)[0, 1]) < 0.15
    again, other = (distorted(jax.random.key(seed), spot, RANGES) for seed in (0, 1))
    assert not np.allclose(again, other)
    np.testing.assert_array_equal(again, distorted(jax.random.key(0), spot, RANGES))


def test_a_squeeze_keeps_the_area_and_a_scale_does_not():
    square = jnp.zeros((300, 41, 41, 1)).at[:, 10:31, 10:31].set(1.0)
    ink = lambda ranges: distorted(jax.random.key(0), square, ranges).sum((1, 2, 3)) / 21**2  # noqa: E731
    np.testing.assert_allclose(ink(STILL._replace(squeeze=0.3)), 1, atol=0.02)
    scaled = ink(STILL._replace(scale=0.3))
    assert np.exp(-0.62) < scaled.min() < np.exp(-0.55)  # both ways by e^-.3
    assert np.exp(0.55) < scaled.max() < np.exp(0.62)


@pytest.mark.parametrize("reach", [-1.0, float("nan"), float("inf")])
def test_a_range_that_is_none_is_an_error(reach):
    with pytest.raises(InputError, match=f"shear must be a range from 0, and finite, got {reach}"):
        distorted(jax.random.key(0), photographs(), Ranges(shear=reach))


def windows(image, padding, background=0.0):
    """All that can be cut out of an image with a border, by place."""
    height, width = image.shape[:2]
    around = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), constant_values=background)
    places = range(2 * padding + 1)
    return {(i, j): around[i : i + height, j : j + width] for i in places for j in places}


def found(window, known):
    """The place whose window it is."""
    (place,) = [place for place, expected in known.items() if np.array_equal(window, expected)]
    return place


def test_row_108_every_window_within_the_border_is_as_likely():
    image = np.random.default_rng(0).random((4, 5, 2), np.float32)
    drawn = cropped(jax.random.key(0), jnp.broadcast_to(image, (900, 4, 5, 2)), 1, 0.25)
    known = windows(image, 1, 0.25)
    places = [found(window, known) for window in np.asarray(drawn)]
    for place in known:
        assert abs(places.count(place) - 100) < 40, place  # four standard deviations of 900 draws from nine


def test_row_108_an_image_is_turned_over_as_often_as_not_and_each_by_itself():
    x = jnp.asarray(np.random.default_rng(0).random((400, 3, 4, 2), np.float32))
    turned = flipped(jax.random.key(0), x)
    over = np.array([np.array_equal(new, old[:, ::-1]) for new, old in zip(turned, x, strict=True)])
    as_it_was = np.array([np.array_equal(new, old) for new, old in zip(turned, x, strict=True)])
    assert (over ^ as_it_was).all()
    assert 160 < over.sum() < 240


def test_row_108_cut_out_and_turned_over_by_draws_that_do_not_hang_together():
    """Four pixels of border and no flag: 81 windows, each both ways."""
    image = np.random.default_rng(0).random((6, 6, 1), np.float32)
    drawn = np.asarray(cropped_and_flipped(jax.random.key(0), jnp.broadcast_to(image, (600, 6, 6, 1))))
    known = {(*place, False): window for place, window in windows(image, 4).items()}
    known |= {(*place, True): window[:, ::-1] for place, window in windows(image, 4).items()}
    known = {place: window for place, window in known.items() if np.count_nonzero(window) > 3}  # few pixels may be those of another
    places = np.array([found(window, known) for window in drawn if np.count_nonzero(window) > 3], float)
    assert {*places[:, 0]} == {*places[:, 1]} == {*range(9)}
    assert abs(np.corrcoef(places.T) - np.eye(3)).max() < 0.17
    np.testing.assert_array_equal(drawn, cropped_and_flipped(jax.random.key(0), jnp.broadcast_to(image, (600, 6, 6, 1))))


def test_a_border_below_zero_is_an_error():
    with pytest.raises(InputError, match="padding must be a number of pixels from 0, got -1"):
        cropped(jax.random.key(0), photographs(), -1)


def test_one_image_is_no_batch():
    with pytest.raises(InputError, match=r"images \(B, H, W, C\) are wanted, got an array of shape \(12, 10, 2\)"):
        inspect.unwrap(distorted)(jax.random.key(0), photographs()[0])
