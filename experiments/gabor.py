"""Features of images made by hand, and a linear classifier of them: what stood before nets that learn from pixels to answers.

A bank of Gabor filters, each a wave under a bell, of two wavelengths in eight directions. What their makers chose, and a net learns: the
scales, the directions, the share of the frequencies that each takes (`SPREAD`), the side of the cells.

Source: lecture row 110 (S4:461). Daugman 1985, doi:10.1364/JOSAA.2.001160; Jain, Farrokhnia 1991, doi:10.1016/0031-3203(91)90143-S.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxnn.models.conv import conv
from jaxnn.models.pooling import mean_pool

WAVELENGTHS = (4.0, 8.0)
"""In pixels."""
DIRECTIONS = 8
"""Between 0 and 180°."""
SPREAD = 0.4
"""σ/λ: a bell of so many wavelengths."""
WINDOW = 15
APART = 2
"""Pixels between the places at which a filter is asked."""
CELL = 4
"""Pixels a side over which a filter's energy is averaged."""


def bank() -> Float[np.ndarray, "k k 1 N"]:
    """g(x, y) = e^(-(x² + y²)/2σ²) cos(2πx'/λ), and with sin, x' = x cos θ + y sin θ: all even ones, then all odd ones.

    Of mean 0, so that a plain area answers to none, and of norm 1.
    """
    y, x = np.mgrid[:WINDOW, :WINDOW] - (WINDOW - 1) / 2
    filters = []
    for wave in (np.cos, np.sin):
        for wavelength in WAVELENGTHS:
            bell = np.exp(-(x**2 + y**2) / (2 * (SPREAD * wavelength) ** 2))
            for angle in np.pi / DIRECTIONS * np.arange(DIRECTIONS):
                carrier = wave(2 * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle)))
                filters.append(bell * (carrier - (bell * carrier).sum() / bell.sum()))
    return np.stack([g / np.linalg.norm(g) for g in filters], -1)[:, :, None].astype(np.float32)


def energies(images: Float[Array, "B H W 1"]) -> Float[Array, "B P Q N"]:
    """√(even² + odd²) of each wavelength and direction, whatever the wave's phase, averaged over cells of 4×4 pixels."""
    even, odd = jnp.split(conv(images, jnp.asarray(bank()), stride=APART, padding=WINDOW // 2), 2, -1)
    return mean_pool(jnp.sqrt(jnp.square(even) + jnp.square(odd)), CELL // APART)


def features(images: UInt8[np.ndarray, "B H W 1"]) -> Float[np.ndarray, "B D"]:
    """All energies of an image in a row, 500 images at a time."""
    parts = [jnp.asarray(images[first : first + 500], jnp.float32) / 255 for first in range(0, len(images), 500)]
    return np.concatenate([np.asarray(_in_a_row(part)) for part in parts])


@jax.jit
def _in_a_row(images: Float[Array, "B H W 1"]) -> Float[Array, "B D"]:
    return energies(images).reshape(len(images), -1)


def linear_error(x: Float[np.ndarray, "B D"], label: Int[np.ndarray, "B"], judged: tuple[np.ndarray, np.ndarray], strength: float) -> float:
    """The share, in %, of the judged (x, label) that softmax regression on (x, label) takes for another class.

    Features are brought to mean 0 and variance 1 first, and the weights are pulled to 0 by ½‖w‖²/`strength`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier: Any = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=2000))
    return float(100 * np.mean(classifier.fit(x, label).predict(judged[0]) != judged[1]))
