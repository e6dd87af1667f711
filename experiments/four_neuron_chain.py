"""Why gradients vanish: in a chain of four sigmoid neurons ∂C/∂b₁ is a product of terms σ'(z)w, each at most ¼ for |w| ≤ 1.

y_i = σ(z_i), z_i = w_i y_{i-1} + b_i, C = ½(y_4 - t)², and

    ∂C/∂b_1 = σ'(z_1) · w_2 σ'(z_2) · w_3 σ'(z_3) · w_4 σ'(z_4) · ∂C/∂y_4

written out term by term and held against `jax.grad`. A term vanishes where |σ'(z)w| < 1 and explodes where it is above 1,
which takes |w| > 4 and a z near 0 at once: large weights alone saturate the neuron.

Source: Nielsen, Neural Networks and Deep Learning, ch. 5; lecture rows 70-72. Row 71 holds for absolute values (E20); the
lecture's ∂C/∂y_4 becomes ∂C/∂a_4 between its slides, here it is ∂C/∂y_4 throughout.

Command: python -m experiments.four_neuron_chain        (a few seconds)
Expected: |∂C/∂b_1| < |∂C/∂b_3| / 16 for every chain with |w| ≤ 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import sigmoid
from jaxnn.record import Record, compare


@dataclass(frozen=True)
class Config:
    x: float = 0.5
    """Input of the chain."""
    target: float = 1.0
    """t of C = ½(y_4 - t)²."""
    draws: int = 1000
    """Random chains with w and b uniform in [-1, 1], for row 71."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, draws=self.draws)


class Chain(NamedTuple):
    weights: Float[Array, "N"]
    biases: Float[Array, "N"]


CHAINS = {
    "w = 1, z = 0": lambda x: _centred(1.0, x),
    "w = 4, z = 0": lambda x: _centred(4.0, x),
    "w = 8, z = 0": lambda x: _centred(8.0, x),
    "w = 8, b = 0": lambda x: Chain(jnp.full(4, 8.0), jnp.zeros(4)),
}
"""Chains of equal weights; those with z = 0 have the bias b = -w y that keeps each neuron where σ' is ¼."""


def _centred(weight: float, x: float) -> Chain:
    inputs = jnp.array([x, 0.5, 0.5, 0.5])
    return Chain(jnp.full(4, weight), -weight * inputs)


def forward(chain: Chain, x: float) -> tuple[Float[Array, "N"], Float[Array, ""]]:
    """z_1 … z_N, and the output y_N."""
    zs, y = [], jnp.asarray(x)
    for weight, bias in zip(*chain, strict=True):
        zs.append(weight * y + bias)
        y = sigmoid(zs[-1])
    return jnp.stack(zs), y


def slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """σ'(z) = σ(z)(1 - σ(z)), at most ¼."""
    return sigmoid(z) * (1 - sigmoid(z))


def terms(chain: Chain, x: float) -> Float[Array, "N"]:
    """σ'(z_i) w_i of every neuron: what an error is multiplied by on its way through neuron i."""
    return slope(forward(chain, x)[0]) * chain.weights


def bias_gradients(chain: Chain, x: float, target: float) -> Float[Array, "N"]:
    """∂C/∂b_1 … ∂C/∂b_N: ∂C/∂y_N, times σ'(z)w of all later neurons, times σ' of one's own."""
    zs, y = forward(chain, x)
    later = jnp.cumprod(jnp.append(terms(chain, x)[1:], 1.0)[::-1])[::-1]
    return (y - target) * later * slope(zs)


def bias_gradients_by_autodiff(chain: Chain, x: float, target: float) -> Float[Array, "N"]:
    def cost(biases: Float[Array, "N"]) -> Float[Array, ""]:
        return 0.5 * (forward(Chain(chain.weights, biases), x)[1] - target) ** 2

    return jax.grad(cost)(chain.biases)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    named = {name: make(config.x) for name, make in CHAINS.items()}
    weights, biases = jax.random.uniform(jax.random.key(0), (2, config.draws, 4), minval=-1, maxval=1)
    gradients = jnp.abs(jax.vmap(lambda w, b: bias_gradients(Chain(w, b), config.x, config.target))(weights, biases))
    stacked = {
        "term": [terms(chain, config.x) for chain in named.values()],
        "analytic": [bias_gradients(chain, config.x, config.target) for chain in named.values()],
        "autodiff": [bias_gradients_by_autodiff(chain, config.x, config.target) for chain in named.values()],
    }
    history = {f"chain/{name}": np.stack(rows) for name, rows in stacked.items()} | {"chain/random": np.asarray(gradients)}
    axes = {f"chain/{name}": ("chain", "neuron") for name in stacked} | {"chain/random": ("draw", "neuron")}
    ratio = compare("row 71: |∂C/∂b_1| / |∂C/∂b_3| for |w| ≤ 1 (bound: 1/16 = 0.0625)", gradients[:, 0] / gradients[:, 2])
    return command.Outcome(history, axes, [ratio], {"chains": list(named)})


def plot(record: Record) -> Mapping[str, Figure]:
    figure, axes = figures.panels(1, 2, "What an error is multiplied by on its way through a sigmoid neuron", size=(5.2, 4.0))
    _draw_regions(axes[0, 0])
    _draw_chains(axes[0, 1], record)
    return {"four_neuron_chain": figure}


def _draw_regions(ax: Axes) -> None:
    """|σ'(z)w| over (w, z), with the lines where it is ¼ and 1."""
    w, z = np.meshgrid(np.linspace(-16, 16, 401), np.linspace(-6, 6, 301))
    factor = np.abs(np.asarray(slope(jnp.asarray(z))) * w)
    ax.contourf(w, z, factor, levels=[0, 0.25, 1, factor.max()], colors=["#d7e8f3", "#edf4f9", "#f6d5c2"])
    lines = ax.contour(w, z, factor, levels=[0.25, 1], colors=["#0072b2", "#d55e00"], linewidths=1.2)
    ax.clabel(lines, fmt={0.25: "¼", 1.0: "1"}, fontsize=9)
    ax.axvspan(-1, 1, color="#0072b2", alpha=0.12, linewidth=0)
    notes = {(0, 4.9): "$|w| \\leq 1$:\nat most ¼", (11.5, 0): "explodes\n$|\\sigma'(z)w| > 1$", (-11.5, 0): "explodes"}
    notes |= {
        (10.5, 5.1): "vanishes: $|\\sigma'(z)w| < 1$\n(saturated)",
        (-10.5, -5.1): "vanishes",
        (-10.5, 5.1): "vanishes",
        (10.5, -5.1): "vanishes",
    }
    for (x, y), text in notes.items():
        ax.text(x, y, text, ha="center", va="center", fontsize=9)
    ax.set(xlabel="weight w", ylabel="pre-activation z")
    ax.set_title("$|\\sigma'(z)w|$: it takes $|w| > 4$ and z near 0 to explode", fontsize=9)


def _draw_chains(ax: Axes, record: Record) -> None:
    """|∂C/∂b_i| of the named chains: the product as lines, jax.grad as rings."""
    neurons = np.arange(1, record.history["chain/analytic"].shape[1] + 1)
    for name, analytic, autodiff, colour in zip(
        record.meta["chains"], record.history["chain/analytic"], record.history["chain/autodiff"], figures.COLOURS, strict=False
    ):
        ax.plot(neurons, np.abs(analytic), "--" if "b = 0" in name else "-", color=colour, linewidth=1.4, label=name)
        ax.plot(neurons, np.abs(autodiff), "o", color=colour, markerfacecolor="none", markersize=7)
    ax.plot([], [], "o", color="0.3", markerfacecolor="none", label="jax.grad")
    ax.set(yscale="log", xlabel="neuron i", ylabel=r"$|\partial C/\partial b_i|$", xticks=neurons)
    ax.set_title("the product term by term (lines) against jax.grad (rings)", fontsize=9)
    ax.legend(fontsize=9, frameon=False)


if __name__ == "__main__":
    command.main(Config, run, plot)
