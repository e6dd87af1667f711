"""Four sigmoid units, paired in opposition, make a bump: the 2-4-1 net (with bias) of Duda, Hart and Stork's Figure 6.2.

    h_1 = σ(a(c + x_1)),  h_2 = σ(a(c - x_1)),  h_3 = σ(a(c + x_2)),  h_4 = σ(a(c - x_2)),  y = σ(g(h_1 + h_2 + h_3 + h_4 - 3½))

A pair adds up to 2 on a strip of half-width c and to 1 beside it. Both pairs make 4 where the strips cross, 3 on either strip and 2
elsewhere, so a threshold of 3½ leaves the crossing alone: the bump. The sides are as steep as a, the output as sharp as g; a sum of such
bumps, anywhere and of any height, comes as near as one likes to a continuous function.

All of it is one `MLP((4, 1))` with 17 weights by hand: 8 + 4 to the hidden units, 4 + 1 to the output.

Source: Duda, Hart, Stork 2001, Pattern Classification, Fig. 6.2; lecture row 19 (S2:515). The book gives the figure without its weights;
these are ours.

Command: python -m experiments.sigmoid_bump        (10 seconds on one CPU core)
Expected: an output of .99 at the centre, .47 in the middle of a side, .006 on a strip 2 half-widths out, and below 10⁻⁶ off both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import sigmoid
from jaxnn.models import MLP, functional
from jaxnn.record import Record, compare
from jaxnn.types import InputError, PyTree

SIDE = 49
"""Points of the surfaces along each axis."""
REACH = 3.0
"""Their range is [-REACH, REACH]²."""


@dataclass(frozen=True)
class Config:
    steepness: float = 5.0
    """a: of the sides."""
    half_width: float = 1.0
    """c: of the bump."""
    gain: float = 10.0
    """g: of the output unit."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        for name, value in (("steepness", self.steepness), ("half-width", self.half_width), ("gain", self.gain)):
            if not 0 < value < math.inf:
                raise InputError(f"--{name} must be above 0 and finite, got {value}")


def weights(steepness: float, half_width: float, gain: float) -> PyTree:
    """The parameters of `MLP((4, 1))`."""
    a, c = steepness, half_width
    hidden = {"kernel": jnp.array([[a, -a, 0, 0], [0, 0, a, -a]]), "bias": jnp.full(4, a * c)}
    return {"hidden_1": hidden, "output": {"kernel": jnp.full((4, 1), gain), "bias": jnp.array([-3.5 * gain])}}


def hidden_units(params: PyTree, x: Float[Array, "B 2"]) -> Float[Array, "B 4"]:
    """h_1 … h_4."""
    z = x @ params["hidden_1"]["kernel"]
    return sigmoid(z + jnp.broadcast_to(params["hidden_1"]["bias"], z.shape))


def output(params: PyTree, x: Float[Array, "B 2"]) -> Float[Array, "B"]:
    """y."""
    return sigmoid(functional(MLP((4, 1))).apply({"params": params}, x, train=False)[0][:, 0])


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    params = weights(config.steepness, config.half_width, config.gain)
    line = jnp.linspace(-REACH, REACH, SIDE)
    x = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    h, y = hidden_units(params, x), output(params, x)
    c = config.half_width
    named = {
        "at the centre": (0.0, 0.0),
        "in the middle of a side": (c, 0.0),
        "on a strip, 2 half-widths out": (2 * c, 0.0),
        "off both strips, 2 half-widths out": (2 * c, 2 * c),
    }
    at = output(params, jnp.array(list(named.values())))
    comparisons = [compare(f"output {where}", [value]) for where, value in zip(named, at, strict=True)]
    comparisons.append(compare("weights of the net", [sum(leaf.size for leaf in jax.tree.leaves(params))]))
    history = {"line": line, "hidden": h.T.reshape(4, SIDE, SIDE), "output": y.reshape(SIDE, SIDE)}
    return command.Outcome(history, {"line": ("x",), "hidden": ("unit", "x_2", "x_1"), "output": ("x_2", "x_1")}, comparisons)


def plot(record: Record) -> Mapping[str, Figure]:
    line, hidden, y = record.history["line"], record.history["hidden"], record.history["output"]
    title = "Sigmoid units paired in opposition make a bump"
    figure, axes = figures.panels(2, 4, title, (3.0, 2.9), subplot_kw={"projection": "3d"})
    surfaces = {f"$h_{unit + 1}$": hidden[unit] for unit in range(4)}
    surfaces |= {"$h_1 + h_2$": hidden[0] + hidden[1], "$h_3 + h_4$": hidden[2] + hidden[3]}
    surfaces |= {"$h_1 + h_2 + h_3 + h_4$": hidden.sum(0), "output $y$": y}
    grid = np.meshgrid(line, line)
    for ax, (name, values) in zip(axes.flat, surfaces.items(), strict=True):
        top = 4 if "h_4$" in name and "h_1" in name else 2 if "+" in name else 1
        ax.plot_surface(*grid, values, cmap="viridis", vmin=0, vmax=top, rcount=SIDE, ccount=SIDE, linewidth=0, rasterized=True)
        ax.contour(
            *grid, values, zdir="z", offset=-0.6 * top, levels=np.arange(0.5, top) if top > 1 else [0.5], colors="0.3", linewidths=0.8
        )
        ax.set(zlim=(-0.6 * top, top), zticks=range(top + 1), xticks=(-3, 0, 3), yticks=(-3, 0, 3))
        ax.tick_params(labelsize=7, pad=-3)
        ax.set_xlabel("$x_1$", fontsize=8, labelpad=-10)
        ax.set_ylabel("$x_2$", fontsize=8, labelpad=-10)
        ax.set_title(name, fontsize=10)
        ax.view_init(elev=28, azim=-58)
    return {"sigmoid_bump": figure}


if __name__ == "__main__":
    command.main(Config, run, plot)
