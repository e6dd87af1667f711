"""The self-organising map: units on a grid, each with a codebook vector; near each other on the grid, near each other in the data.

A map is a `Grid`, which is static, and its codebook w (M, D), an array. How it learns stands in `jaxnn.learners.competitive`.

Source: Kohonen 1982, doi:10.1007/BF00337288; Kohonen 2013, Essentials of the self-organizing map, doi:10.1016/j.neunet.2012.09.018;
lecture row 27 (S2:85-90), which names it for the third class of nets, the competitive ones.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Integer, Real

from jaxnn.types import InputError


class Grid(NamedTuple):
    """Where the units lie: unit i stands in row i // columns and column i % columns."""

    rows: int
    columns: int
    positions: np.ndarray
    """(M, 2): to the right and down, the next unit of a row at a distance of 1."""
    reach: float
    """Units that lie at most so far apart are neighbours."""


def rectangular(rows: int, columns: int) -> Grid:
    """Units on the points of a square lattice; up to eight neighbours, the diagonal ones among them. Raises `InputError` for no units.

    >>> rectangular(2, 2).positions.tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    down, right = _places(rows, columns)
    return Grid(rows, columns, np.stack([right, down], -1), 1.01 * math.sqrt(2))


def hexagonal(rows: int, columns: int) -> Grid:
    """Units in the middle of hexagons: rows √3/2 apart, every other one half a unit to the right; up to six neighbours, all at distance 1.

    Raises `InputError` for no units.

    >>> hexagonal(2, 2).positions.round(3)
    array([[0.   , 0.   ], [1.   , 0.   ], [0.5  , 0.866], [1.5  , 0.866]], dtype=float32)
    """
    down, right = _places(rows, columns)
    return Grid(rows, columns, np.stack([right + 0.5 * (down % 2), math.sqrt(0.75) * down], -1, dtype=np.float32), 1.01)


def _places(rows: int, columns: int) -> np.ndarray:
    """The row and the column of every unit, (2, M)."""
    if min(rows, columns) < 1:
        raise InputError(f"a grid of {rows} × {columns} has no units: rows and columns must be at least 1")
    return np.indices((rows, columns)).reshape(2, -1).astype(np.float32)


def neighbours(grid: Grid) -> Bool[Array, "M M"]:
    """Which units lie side by side."""
    apart = np.linalg.norm(grid.positions[:, None] - grid.positions, axis=-1)
    return jnp.asarray((apart > 0) & (apart <= grid.reach))


def neighbourhood(grid: Grid, unit: Integer[Array, ""], radius: Real[Array, ""] | float) -> Float[Array, "M"]:
    """h_i = exp(-‖r_i - r_c‖² / 2σ²): how much unit i follows the winner c = `unit`; σ = `radius`, r the positions on the grid.

    At σ = 0 the winner moves alone.

    >>> [f"{h:.3f}" for h in neighbourhood(rectangular(1, 3), jnp.array(0), 1.0)]
    ['1.000', '0.607', '0.135']
    """
    # From the positions, which for 100 units takes no longer than a table of all pairs; for 10,000 that would hold 400 MB.
    positions = jnp.asarray(grid.positions)
    return jnp.exp(-jnp.sum((positions - positions[unit][None]) ** 2, -1) / (2 * jnp.maximum(radius, 1e-6) ** 2))


def scores(codebook: Float[Array, "M D"], x: Float[Array, "*batch D"]) -> Float[Array, "*batch M"]:
    """‖w_i‖² - 2 w_i·x = ‖x - w_i‖² - ‖x‖²: least for the unit nearest to x, and one matrix product for many x."""
    norms = jnp.sum(codebook**2, -1)
    return jnp.expand_dims(norms, tuple(range(x.ndim - 1))) - 2 * (x @ codebook.T)


def winners(codebook: Float[Array, "M D"], x: Float[Array, "*batch D"]) -> Integer[Array, "*batch"]:
    """c = argmin_i ‖x - w_i‖, the best-matching unit; of equal ones the first.

    >>> winners(jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([0.9, 0.4])).item()
    1
    """
    return jnp.argmin(scores(codebook, x), -1)


def quantization_error(codebook: Float[Array, "M D"], x: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
    """‖x - w_c‖, the distance to the best-matching unit c; a map's quantization error is its mean.

    >>> quantization_error(jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([1.0, 0.5])).item()
    0.5
    """
    return jnp.linalg.norm(x - codebook[winners(codebook, x)], axis=-1)


def topographic_error(grid: Grid, codebook: Float[Array, "M D"], x: Float[Array, "*batch D"]) -> Float[Array, "*batch"]:
    """1.0 where the best and the second best unit of x are no neighbours on the grid, else 0.0; a map's topographic error is its mean.

    0 for a grid of one unit. Kiviluoto 1996, doi:10.1109/ICNN.1996.548907.
    """
    if len(codebook) == 1:
        return jnp.zeros(x.shape[:-1])
    best, second = jnp.moveaxis(lax.top_k(-scores(codebook, x), 2)[1], -1, 0)
    positions = jnp.asarray(grid.positions)  # of the two alone: a table of all pairs of 10,000 units would take 100 MB
    return (jnp.linalg.norm(positions[best] - positions[second], axis=-1) > grid.reach).astype(jnp.float32)


def u_matrix(grid: Grid, codebook: Float[Array, "M D"]) -> Float[Array, "rows columns"]:
    """The mean distance ‖w_i - w_j‖ to the neighbours j of every unit i on the grid: ridges part what lies far apart in the data.

    0 for a grid of one unit. Ultsch and Siemon 1990, Kohonen's self organizing feature maps for exploratory data analysis, INNC Paris.

    >>> u_matrix(rectangular(1, 3), jnp.array([[0.0], [1.0], [5.0]])).tolist()
    [[1.0, 2.5, 4.0]]
    """

    def to_neighbours(unit: tuple[Float[Array, "D"], Bool[Array, "M"]]) -> Float[Array, ""]:
        w, near = unit
        apart = jnp.linalg.norm(codebook - w[None], axis=-1)
        return jnp.sum(apart * near) / jnp.maximum(near.sum(), 1)

    return lax.map(to_neighbours, (codebook, neighbours(grid))).reshape(grid.rows, grid.columns)


def plane(grid: Grid, x: Float[Array, "N D"]) -> Float[Array, "M D"]:
    """A codebook to start from: the grid laid out in the plane of the data's first two principal components, two deviations wide each way.

    The first component takes the longer side; D is at least 2. From here a map needs no random start, and orders itself sooner.
    Kohonen 2013, section 4.
    """
    if x.shape[-1] < 2:
        raise InputError(f"a plane needs data of at least 2 features, got {x.shape[-1]}")
    mean = x.mean(0)
    variances, directions = jnp.linalg.eigh(jnp.cov(x, rowvar=False, bias=True))  # for many x much sooner done than their singular values
    centred = grid.positions - grid.positions.mean(0)
    sides = np.maximum(np.abs(centred).max(0), 1e-9)
    order = np.argsort(-sides, kind="stable")
    axes = directions[:, :-3:-1] * jnp.sqrt(jnp.maximum(variances[:-3:-1], 0))[None]
    return mean[None] + 2 * (centred / sides)[:, order] @ axes.T
