"""Grids, errors and the U-matrix of a self-organising map, by hand and beside MiniSom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.models import som
from jaxnn.types import InputError
from tests.oracles import minisom_of

GRIDS = {"rectangular": som.rectangular, "hexagonal": som.hexagonal}


@pytest.fixture(params=GRIDS)
def case(request):
    """A grid of 5 × 4 with a random codebook, and samples."""
    rng = np.random.default_rng(0)
    return GRIDS[request.param](5, 4), *(jnp.asarray(rng.random((count, 6)), jnp.float32) for count in (20, 60))


@pytest.mark.parametrize(("make", "counts"), [(som.rectangular, (3, 8, 5)), (som.hexagonal, (2, 6, 5))])
def test_row_27_neighbours_of_a_corner_the_middle_and_the_left_edge(make, counts):
    near = np.asarray(som.neighbours(make(3, 3)))
    assert tuple(near.sum(0)[[0, 4, 3]]) == counts
    np.testing.assert_array_equal(near, near.T)
    assert not near.diagonal().any()


def test_hexagonal_neighbours_are_at_distance_one():
    grid = som.hexagonal(4, 5)
    apart = np.linalg.norm(grid.positions[:, None] - grid.positions, axis=-1)
    np.testing.assert_allclose(apart[np.asarray(som.neighbours(grid))], 1, rtol=1e-6)


@pytest.mark.parametrize("make", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("size", [(0, 10), (10, 0), (3, -1)])
def test_a_grid_without_units_is_named(make, size):
    with pytest.raises(InputError, match=f"a grid of {size[0]} × {size[1]} has no units"):
        make(*size)


def test_row_27_the_neighbourhood_is_a_bell_on_the_grid():
    grid = som.rectangular(2, 3)
    apart = np.array([1, 0, 1, 2, 1, 2])  # squared, from unit 1
    np.testing.assert_allclose(som.neighbourhood(grid, jnp.array(1), 0.7), np.exp(-apart / (2 * 0.49)), rtol=1e-5)


def test_errors_by_hand(case):
    grid, codebook, x = case
    distances = np.linalg.norm(np.asarray(x, float)[:, None] - np.asarray(codebook), axis=-1)
    best, second = np.argsort(distances)[:, :2].T
    np.testing.assert_array_equal(som.winners(codebook, x), best)
    np.testing.assert_allclose(som.quantization_error(codebook, x), distances.min(-1), rtol=1e-5)
    apart = np.linalg.norm(grid.positions[best] - grid.positions[second], axis=-1)
    expected = apart > (1.2 if grid.positions[4, 0] else 1.5)
    np.testing.assert_array_equal(som.topographic_error(grid, codebook, x), expected)
    assert 0 < expected.mean() < 1


def test_a_grid_of_one_unit_has_no_topographic_error_and_a_flat_u_matrix():
    grid, w = som.rectangular(1, 1), jnp.ones((1, 2))
    assert som.topographic_error(grid, w, jnp.zeros((3, 2))).tolist() == [0, 0, 0]
    assert som.u_matrix(grid, w).tolist() == [[0]]


def test_errors_and_u_matrix_are_minisoms(case):
    pytest.importorskip("minisom")
    grid, codebook, x = case
    theirs = minisom_of(grid, codebook)
    np.testing.assert_allclose(som.quantization_error(codebook, x).mean(), theirs.quantization_error(x), rtol=1e-5)
    np.testing.assert_allclose(som.topographic_error(grid, codebook, x).mean(), theirs.topographic_error(x), rtol=1e-6)
    matrix = np.asarray(som.u_matrix(grid, codebook))
    np.testing.assert_allclose(matrix / matrix.max(), theirs.distance_map("mean").T, rtol=1e-5)


def test_the_plane_lies_along_the_two_principal_components():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(500, 4)) * [0.1, 3.0, 0.2, 1.0] + 5).astype(np.float32)
    grid = som.rectangular(4, 9)
    codebook = np.asarray(som.plane(grid, jnp.asarray(x))).reshape(4, 9, 4)
    centred = codebook - x.mean(0)
    np.testing.assert_allclose(centred.mean((0, 1)), 0, atol=1e-5)
    along, across = codebook[0, -1] - codebook[0, 0], codebook[-1, 0] - codebook[0, 0]
    _, directions = np.linalg.eigh(np.cov(x.T))
    assert abs(along @ directions[:, -1]) == pytest.approx(4 * x[:, 1].std(), rel=0.01)  # two deviations each way
    assert abs(across @ directions[:, -2]) == pytest.approx(4 * x[:, 3].std(), rel=0.01)
    assert along @ across == pytest.approx(0, abs=1e-3)


def test_a_row_of_units_starts_on_a_line():
    x = jax.random.normal(jax.random.key(0), (50, 3))
    codebook = np.asarray(som.plane(som.rectangular(1, 5), x))
    assert np.linalg.matrix_rank(codebook - codebook.mean(0), tol=1e-4) == 1


def test_at_a_radius_of_zero_the_winner_moves_alone():
    np.testing.assert_array_equal(som.neighbourhood(som.rectangular(1, 3), jnp.array(1), 0.0), [0, 1, 0])


def test_a_plane_needs_two_features():
    with pytest.raises(InputError, match="at least 2 features, got 1"):
        som.plane(som.rectangular(2, 2), jnp.ones((4, 1)))
