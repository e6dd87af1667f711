"""A convolution is a weighted sum with shared weights: the lecture's examples, windows and weight counts, all computed.

The 9×9 image under a Sobel-like kernel, with and without zeros around it; what the slides call convolution is the correlation, and the
true convolution, which turns the kernel by 180°, is its negative here. The 6×6 image under two filters. Which windows a stride and
zeros give. Smoothing and the Laplacian on a photograph. The weights of fully connected, local and shared layers, as counts and as one
matrix whose entries are free, mostly 0, or 0 and shared. Parameters and connections of LeNet-5.

Source: lecture rows 76-90, 100-105, 161 (S0:214-253, S2:681-742, S3:497-695, S4:259-673). LeCun et al. 1998, doi:10.1109/5.726791;
Dumoulin & Visin 2016, arXiv:1603.07285. The slides count 4 maps for 7 (erratum E24), 122,404 connections for 122,304 (E29), 12 maps
for 6 (E30) and 5×5 maps as 14×14, 32 parameters from 2×16 (E31); their 26 parameters a neuron are shared by its map (E43).

Command: python -m experiments.convolution_arithmetic        (10 s)
Expected: 2,478,292,992 weights between two fully connected layers that a convolution joins with 252; LeNet-5 has 60,000 parameters
in 340,908 connections.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command
from experiments.convolution_arithmetic_figures import draw_counts, draw_filters, draw_matrices, draw_photograph, draw_windows, draw_worked
from experiments.photograph import SOURCE, photograph
from experiments.unfinished import NOTHING, Keep
from jaxnn.models.arithmetic import connections, full_weights, local_weights, output_size, shared_parameters, shared_weights
from jaxnn.models.lenet import C3_LINKS
from jaxnn.models.locally_connected import as_matrix, spread
from jaxnn.record import Record, compare


@dataclass(frozen=True)
class Config:
    width: int = 240
    """Of the photograph, in pixels."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(3, width=self.width)


def digits(rows: str) -> np.ndarray:
    """An image of one digit a pixel.

    >>> digits("12 34").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    return np.array([[float(digit) for digit in row] for row in rows.split()], np.float32)


IMAGE = digits("023356123 014351105 320145216 411201303 013211122 102022020 120502140 032410430 111230300")
"""S4:259-366."""
SOBEL = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]], np.float32)
BINARY_IMAGE = digits("100001 010010 100001 101011 000011 001011")
"""S2:693-742."""
FILTERS = np.stack([digits("100 010 100"), digits("001 001 001")])
SMOOTHING = np.full((3, 3), 1 / 9, np.float32)
LAPLACIAN = np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]], np.float32)
"""S4:401-411."""

WINDOWS = ((1, 0), (2, 0), (1, 1), (2, 1))
"""(stride, zeros on each side) of S0:214-253, there on 5×5 pixels under a 3×3 kernel."""

Either = Array | np.ndarray


def correlate(image: Float[Either, "H W"], kernel: Float[Either, "k k"], *, stride: int = 1, padding: int = 0) -> Float[Array, "P Q"]:
    """r_ij = Σ_ab p_{i+a, j+b} w_ab, what the slides, and all of deep learning, call a convolution; row 78."""
    inputs, weights = jnp.asarray(image)[None, None], jnp.asarray(kernel)[None, None]
    return lax.conv_general_dilated(inputs, weights, (stride, stride), [(padding, padding)] * 2, precision="highest")[0, 0]


def convolve(image: Float[Either, "H W"], kernel: Float[Either, "k k"], **how: int) -> Float[Array, "P Q"]:
    """r_ij = Σ_ab p_{i-a, j-b} w_ab: the correlation with the kernel turned by 180°."""
    return correlate(image, kernel[::-1, ::-1], **how)


class Count(NamedTuple):
    """A number of the lecture."""

    row: int
    of: str
    kind: str
    """full, local, shared, units, parameters or connections."""
    value: int
    slide: int | None = None
    """What the slide has, where it has a number of its own."""
    erratum: str = ""


def weight_counts() -> Iterator[Count]:
    """Rows 83-87 and 90: the same layer fully connected, local and shared. No biases, as on the slides."""
    million = 1000 * 1000
    first, second = output_size(200, 5), output_size(98, 3)
    pooled = output_size(first, 2, 2, exact=True)
    yield Count(83, "1000×1000, 1M hidden", "full", full_weights((1000, 1000), (million,)), 10**12)
    yield Count(83, "1000×1000, 1M hidden", "local", local_weights(10, 1, (million,)), 100 * million)
    yield Count(83, "1000×1000, 1M hidden", "shared", shared_weights(10, links=100), 10_000)
    yield Count(84, "200×200, 1000 hidden", "full", full_weights((200, 200), (1000,)), 40 * million)
    yield Count(85, "200×200, 4000 hidden", "full", full_weights((200, 200), (4000,)), 160 * million)
    yield Count(86, "200×200 → 196×196", "full", full_weights((200, 200), (first, first)))
    yield Count(86, "200×200 → 196×196", "local", local_weights(5, 1, (first, first)))
    yield Count(86, "200×200 → 196×196", "shared", shared_weights(5, links=1), 25)
    yield Count(87, "4 filters", "units", 4 * first**2)
    yield Count(87, "4 filters, pooled", "units", 4 * pooled**2)
    yield Count(90, "4@98×98 → 7@96×96", "full", full_weights((4, pooled, pooled), (7, second, second)), 4 * 98 * 98 * 4 * 96 * 96, "E24")
    yield Count(90, "4@98×98 → 7@96×96", "local", local_weights(3, 4, (7, second, second)))
    yield Count(90, "4@98×98 → 7@96×96", "shared", shared_weights(3, links=4 * 7), 9 * 4 * 7)


def lenet_counts() -> Iterator[Count]:
    """Rows 100-105, layer by layer. C5's windows are as large as its maps; F6 is a convolution of 1×1 maps."""
    size = output_size(32, 5)
    yield from _lenet_layer(100, "C1", 5, 6, 6, size, {"parameters": (156, "E43"), "connections": (122_404, "E29")})
    size = output_size(size, 2, 2, exact=True)
    yield from _lenet_layer(101, "S2", 2, 6, 6, size, {"parameters": (12, ""), "maps": (12, "E30")})
    size = output_size(size, 5)
    yield from _lenet_layer(102, "C3", 5, sum(map(len, C3_LINKS)), 16, size, {})
    size = output_size(size, 2, 2, exact=True)
    yield from _lenet_layer(103, "S4", 2, 16, 16, size, {"parameters": (32, "E31"), "side": (14, "E31")})
    size = output_size(size, 5)
    yield from _lenet_layer(104, "C5", 5, 16 * 120, 120, size, {"parameters": (48_120, ""), "connections": (48_120, "")})
    yield from _lenet_layer(105, "F6", 1, 120 * 84, 84, size, {})


def _lenet_layer(row: int, name: str, kernel: int, links: int, maps: int, size: int, slide: Mapping[str, Any]) -> Iterator[Count]:
    """Sub-sampling (S) has one weight for the sum of its window and one bias, a map."""
    values = {
        "maps": maps,
        "side": size,
        "parameters": 2 * maps if name.startswith("S") else shared_parameters(kernel, links, maps),
        "connections": connections(kernel, links, maps, size**2),
    }
    for kind, value in values.items():
        yield Count(row, f"LeNet-5 {name}", kind, value, *slide.get(kind, ()))


OUTPUT_LINKS = 10 * 84
"""LeNet-5's ten RBF units, whose 84 components each are fixed: connections, and no parameters."""


def lenet_total(kind: str) -> int:
    """60,000 parameters; 340,908 connections."""
    return sum(count.value for count in lenet_counts() if count.kind == kind) + (OUTPUT_LINKS if kind == "connections" else 0)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    image = photograph(config.width)
    kernel = jnp.asarray(SOBEL)[..., None, None]
    history = {
        "worked/valid": correlate(IMAGE, SOBEL),
        "worked/padded": correlate(IMAGE, SOBEL, padding=1),
        "worked/convolution": convolve(IMAGE, SOBEL),
        "filters/maps": np.stack([correlate(BINARY_IMAGE, kernel) for kernel in FILTERS]),
        "windows/size": np.array([output_size(5, 3, *case) for case in WINDOWS]),
        "photograph/image": image,
        "photograph/smoothed": correlate(image, SMOOTHING),
        "photograph/laplacian": correlate(image, LAPLACIAN),
        "matrix/shared": as_matrix(spread(kernel, (4, 4)), (6, 6)),
        "matrix/local": as_matrix(jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 3, 3, 1, 1)), jnp.float32), (6, 6)),
    }
    counts = [*weight_counts(), *lenet_counts()]
    said = [count for count in counts if count.kind not in ("maps", "side") or count.slide]
    compared = [compare(_words(count), [count.value], float(count.value) if count.value == count.slide else None) for count in said]
    totals = {kind: lenet_total(kind) for kind in ("parameters", "connections")}
    compared += [compare(f"row 105: LeNet-5, all {kind}: {total:,}", [total]) for kind, total in totals.items()]
    about = {"counts": counts, "photograph": SOURCE}
    return command.Outcome({name: np.asarray(values) for name, values in history.items()}, AXES, compared, about)


AXES: dict[str, tuple[str, ...]] = {
    **{f"worked/{name}": ("row", "column") for name in ("valid", "padded", "convolution")},
    "filters/maps": ("filter", "row", "column"),
    "windows/size": ("case",),
    **{f"photograph/{name}": ("row", "column") for name in ("image", "smoothed", "laplacian")},
    **{f"matrix/{name}": ("unit", "pixel") for name in ("shared", "local")},
}


def _words(count: Count) -> str:
    """The count with all its digits, and the slide's where that is another."""
    slide = f" (the slide has {count.slide:,})" if count.slide not in (None, count.value) else ""
    return f"row {count.row}: {count.of}, {count.kind}: {count.value:,}{slide}{', ' + count.erratum if count.erratum else ''}"


def plot(record: Record) -> Mapping[str, Figure]:
    """The worked examples, the windows, the photograph, the counts, the matrices."""
    return {
        "worked_example": draw_worked(record, IMAGE, SOBEL),
        "two_filters": draw_filters(record, BINARY_IMAGE, FILTERS),
        "windows": draw_windows(record, WINDOWS),
        "photograph": draw_photograph(record),
        "weights": draw_counts(record),
        "matrices": draw_matrices(record),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
