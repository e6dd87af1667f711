"""The lectures' activation functions and their slopes: σ' never exceeds ¼, and where a slope does not exist the library's choice is drawn.

f is solid, f' dashed. At a kink a ring is the slope that JAX takes there; at a jump of f itself a filled dot is its value. The slope is
`jaxnn.activations.slope`, to which back-propagation multiplies at every unit: a factor of at most ¼ for σ, 1 for tanh, √(2/e) = .858 for
the bell e^-z², and exactly 0 or 1 for ReLU.

Source: lecture rows 3-10 (S0:67, S1:123-151, S2:464-495, S3:44-49; σ' ≤ ¼: S3:438). "ReLU is a good starting point" (S2:495) is Glorot,
Bordes, Bengio 2011, AISTATS, PMLR 15:315-323; a unit of it that never fires has no slope at all (erratum E21).

Command: python -m experiments.activation_gallery        (a few seconds)
Expected: largest slopes .25 for σ, 1 for tanh, .858 for the bell, 1 for ReLU, leaky ReLU, ELU and ramp, 0 for both thresholds.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import ACTIVATIONS, leaky_relu, maxout, slope
from jaxnn.record import Record, compare
from jaxnn.types import InputError

KINKS = {"threshold": (0.0,), "bipolar_threshold": (0.0,), "ramp": (0.0, 1.0), "relu": (0.0,), "leaky_relu": (0.0,)}
"""Where f has no slope. ELU with a = 1 has one everywhere."""
JUMPS = ("threshold", "bipolar_threshold")
PUBLISHED = {"sigmoid": 0.25, "tanh": 1.0, "gaussian": math.sqrt(2 / math.e)}
"""Largest slopes in closed form; that of σ is the lecture's."""
FORMULAS = {
    "threshold": "1 if z ≥ 0, else 0",
    "bipolar_threshold": "1 if z ≥ 0, else −1",
    "linear": "z",
    "ramp": "min(max(z, 0), 1)",
    "sigmoid": "$1/(1+e^{-z})$",
    "tanh": "$(e^z-e^{-z})/(e^z+e^{-z})$",
    "gaussian": "$e^{-z^2}$",
    "relu": "max(0, z)",
    "leaky_relu": "z if z ≥ 0, else a z",
    "elu": "z if z > 0, else $e^z-1$",
    "maxout": "max($w_1z+b_1$, $w_2z+b_2$)",
}
F, SLOPE, BOUND = figures.COLOURS[0], figures.COLOURS[1], figures.COLOURS[2]


@dataclass(frozen=True)
class Config:
    reach: float = 4.0
    """Drawn for -reach ≤ z ≤ reach."""
    points: int = 801
    """Values of z."""
    leak: float = 0.1
    """a of leaky ReLU; the library's own .01 could not be seen."""
    maxout_weights: tuple[float, float] = (-0.5, 1.0)
    """w1 and w2 of maxout's two pieces."""
    maxout_biases: tuple[float, float] = (0.0, -1.5)
    """b1 and b2."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(2, points=self.points)
        if not 1 < self.reach < math.inf:
            raise InputError(f"--reach must be above 1, where the ramp has its second kink, got {self.reach}")
        if self.maxout_weights[0] == self.maxout_weights[1]:
            raise InputError(f"--maxout-weights must differ, got {self.maxout_weights[0]} twice")


def functions(config: Config) -> dict[str, Callable[[Array], Array]]:
    """By name, each as a function of z alone."""

    def two_pieces(z: Float[Array, "P"]) -> Float[Array, "P"]:
        w, b = jnp.array(config.maxout_weights), jnp.array(config.maxout_biases)
        return maxout(z[:, None] * w[None] + b[None])[:, 0]

    own = {name: f for name, f in ACTIVATIONS.items() if name != "scaled_tanh"}  # LeNet-5's, whose curve is that of tanh
    return {**own, "leaky_relu": lambda z: leaky_relu(z, config.leak), "maxout": two_pieces}


def kinks(config: Config) -> list[tuple[str, float]]:
    (w1, w2), (b1, b2) = config.maxout_weights, config.maxout_biases
    known = [(name, z) for name, places in KINKS.items() for z in places]
    return [*known, ("maxout", (b1 - b2) / (w2 - w1))]


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    by_name, (kinked, places) = functions(config), zip(*kinks(config), strict=True)
    names, z = list(by_name), np.linspace(-config.reach, config.reach, config.points, dtype=np.float32)
    value, slopes = map(np.asarray, value_and_slope(tuple(by_name.values()), jnp.append(z, jnp.array(places, jnp.float32))))
    at_kink = [names.index(name) for name in kinked], range(len(z), len(z) + len(places))
    of_curves = {"value": value[:, : len(z)], "slope": slopes[:, : len(z)]}
    of_kinks = {"kink": np.array(places), "kink_value": value[at_kink], "kink_slope": slopes[at_kink]}
    axes = {"z": ("z",), **dict.fromkeys(of_curves, ("function", "z")), **dict.fromkeys(of_kinks, ("kink",))}
    largest = zip(names, of_curves["slope"].max(-1), strict=True)
    comparisons = [compare(f"{name}: largest slope", [most], PUBLISHED.get(name)) for name, most in largest]
    about = {"functions": names, "kinks": list(kinked)}
    return command.Outcome({"z": z, **of_curves, **of_kinks}, axes, comparisons, about)


@partial(jax.jit, static_argnums=0)
def value_and_slope(of: tuple[Callable[[Array], Array], ...], z: Float[Array, "P"]) -> tuple[Float[Array, "F P"], Float[Array, "F P"]]:
    return jnp.stack([f(z) for f in of]), jnp.stack([slope(f)(z) for f in of])


def plot(record: Record) -> Mapping[str, Figure]:
    names = record.meta["functions"]
    title = "Activation functions (solid) and their slopes (dashed); rings: the slope taken where there is none"
    figure, axes = figures.panels(3, 4, title, size=(3.1, 2.5), sharex=True)
    for ax, name in zip(axes.flat, names, strict=False):
        draw(ax, record, name)
    draw_slopes(axes.flat[len(names)], record)
    for ax in axes[-1]:
        ax.set_xlabel("z", fontsize=9)
    return {"activation_gallery": figure}


def draw(ax: Axes, record: Record, name: str) -> None:
    history, row = record.history, record.meta["functions"].index(name)
    here = [number for number, kink in enumerate(record.meta["kinks"]) if kink == name]
    z, at = history["z"], history["kink"][here]
    _pieces(ax, z, history["value"][row], at if name in JUMPS else (), color=F, linewidth=1.6)
    _pieces(ax, z, history["slope"][row], at, color=SLOPE, linewidth=1.4, linestyle="--")
    ax.plot(at, history["kink_slope"][here], "o", color=SLOPE, markerfacecolor="white", markersize=5, zorder=4)
    if name in JUMPS:
        ax.plot(at, history["kink_value"][here], "o", color=F, markersize=4, zorder=4)
    if name == "sigmoid":
        _quarter(ax)
    leak = f", a = {record.config['leak']:g}" if name == "leaky_relu" else ""
    ax.set_title(f"{name.replace('_', ' ')}: {FORMULAS[name]}{leak}", fontsize=9)
    drawn = np.stack([history["value"][row], history["slope"][row]])
    ax.set_ylim(max(drawn.min(), -1.5) - 0.25, min(drawn.max(), 2) + 0.25)


def _pieces(ax: Axes, z: np.ndarray, values: np.ndarray, at: Mapping | tuple | np.ndarray, **style: object) -> None:
    """The line, broken at each of these places."""
    edges = [-np.inf, *sorted(np.asarray(at, float)), np.inf]
    for low, high in pairwise(edges):
        inside = (z > low) & (z < high)
        ax.plot(z[inside], values[inside], **style)  # type: ignore[arg-type]


def _quarter(ax: Axes) -> None:
    ax.axhline(0.25, color=BOUND, linewidth=1, linestyle=":")
    ax.text(0.98, 0.27, "¼", color=BOUND, fontsize=10, ha="right", va="bottom", transform=ax.get_yaxis_transform())


def draw_slopes(ax: Axes, record: Record) -> None:
    """The smooth slopes together: how much of an error is left behind one unit."""
    names = record.meta["functions"]
    for name, colour in zip(("sigmoid", "tanh", "gaussian", "elu"), figures.COLOURS[3:], strict=False):
        ax.plot(record.history["z"], np.abs(record.history["slope"][names.index(name)]), color=colour, linewidth=1.3, label=name)
    _quarter(ax)
    ax.set_title("|f'| of the smooth ones: σ' ≤ ¼", fontsize=9)
    ax.set_ylim(-0.05, 1.5)
    ax.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")


if __name__ == "__main__":
    command.main(Config, run, plot)
