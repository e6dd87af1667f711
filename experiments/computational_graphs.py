"""At any node of a computational graph the gradient is upstream × local, summed over the edges to its children: the lecture's two graphs.

    f = (x + y)(y - z)              at (x, y, z) = (-1, 3, 2): y is reached along two paths, whose gradients add up
    f = y / (1 + e^-(w0 + w1 x))    at (x, w0, w1, y) = (-2, 3, 1, 1): a sigmoid neuron, in the steps h1 … h6

Both are differentiated by `jaxnn.graph` and held against `jax.grad`. On each edge stands the value that goes forward and the gradient
that comes back.

Source: S2:150-408; lecture rows 42-44 and 163. Errata: in the first graph ∂h1/∂x = ∂h1/∂y = ∂h2/∂y = 1 and ∂h2/∂z = -1 (E3); two slides of
the second have w0 and w1 swapped, which gives f = .00669 (E4); h1 = w1 x, and ∂f/∂w1 is negative, -.39, not .40 (E5).

Command: python -m experiments.computational_graphs        (a few seconds)
Expected: f = 2 with the gradients 1, 3, -2 of x, y, z; f = .7311 with .1966, .1966, -.3932, .7311 of x, w0, w1, y.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import graph
from jaxnn.graph import Node, variable
from jaxnn.record import Comparison, Record, compare
from jaxnn.types import InputError

FORWARD, BACK = figures.COLOURS[0], figures.COLOURS[1]
FORMULAS = {"product": "$f = (x + y)(y - z)$", "neuron": "$f = y\\,/\\,(1 + e^{-(w_0 + w_1 x)})$"}
PLACES = {
    "product": {"x": (0, 2.3), "y": (0, 1), "z": (0, -0.3), "h1": (1.8, 1.65), "h2": (1.8, 0.35), "f": (3.6, 1)},
    "neuron": {"w1": (0, 2.4), "x": (0, 0.9), "w0": (0, -0.4), "h1": (1.7, 1.65), "y": (8.3, -0.1)}
    | {name: (3.1 + 1.3 * number, 1) for number, name in enumerate(("h2", "h3", "h4", "h5", "h6"))}
    | {"f": (9.6, 1)},
}
"""Of the nodes in the picture."""
ON_THE_SLIDES = {("neuron", "f"): 0.73, ("neuron", "x"): 0.20, ("neuron", "w1"): 0.40}
"""The value of f, and the gradients of x and w1, the latter without its sign (E5)."""


@dataclass(frozen=True)
class Config:
    product: tuple[float, float, float] = (-1.0, 3.0, 2.0)
    """x, y, z of the first graph."""
    neuron: tuple[float, float, float, float] = (-2.0, 3.0, 1.0, 1.0)
    """x, w0, w1, y of the second."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        for flag in ("product", "neuron"):
            if not all(map(math.isfinite, getattr(self, flag))):
                raise InputError(f"--{flag} must be finite numbers, got {' '.join(map(str, getattr(self, flag)))}")


def product(x: Node, y: Node, z: Node) -> Node:
    """(x + y)(y - z), its steps named as on the slides."""
    return ((x + y).named("h1") * (y - z).named("h2")).named("f")


def neuron(x: Node, w0: Node, w1: Node, y: Node) -> Node:
    """y / (1 + e^-(w0 + w1 x))."""
    h2 = (w0 + (w1 * x).named("h1")).named("h2")
    h4 = graph.exp((h2 * -1.0).named("h3")).named("h4")
    return (graph.reciprocal((h4 + 1.0).named("h5")).named("h6") * y).named("f")


def product_in_jax(x: Array, y: Array, z: Array) -> Array:
    return (x + y) * (y - z)


def neuron_in_jax(x: Array, w0: Array, w1: Array, y: Array) -> Array:
    return y / (1 + jax.numpy.exp(-(w0 + w1 * x)))


GRAPHS: dict[str, tuple[Callable[..., Node], Callable[..., Array], tuple[str, ...]]] = {
    "product": (product, product_in_jax, ("x", "y", "z")),
    "neuron": (neuron, neuron_in_jax, ("x", "w0", "w1", "y")),
}
"""As a graph, for `jax.grad`, and the names of the variables."""


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history: dict[str, np.ndarray] = {}
    axes: dict[str, tuple[str, ...]] = {}
    about = {}
    for name in GRAPHS:
        arrays, its_axes, about[name] = differentiate(name, getattr(config, name))
        history |= {f"{name}/{what}": values for what, values in arrays.items()}
        axes |= {f"{name}/{what}": names for what, names in its_axes.items()}
    return command.Outcome(history, axes, list(comparisons(history, about)), {"graphs": about})


def differentiate(name: str, values: tuple[float, ...]) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Value and gradient of every node; ends, local derivative and gradient of every edge; the gradients of the variables by JAX."""
    build, in_jax, names = GRAPHS[name]
    flow = graph.backward(build(*(variable(value, name) for value, name in zip(values, names, strict=True))))
    nodes, edges = list(flow.nodes), list(flow.edges)
    arrays = {
        "value": [node.value for node in nodes],
        "gradient": list(flow.nodes.values()),
        "edge": [(nodes.index(child.parents[number]), nodes.index(child)) for child, number in edges],
        "local": [child.locals[number] for child, number in edges],
        "edge_gradient": list(flow.edges.values()),
        "autodiff": jax.grad(in_jax, argnums=tuple(range(len(values))))(*values),
    }
    axes = {"value": ("node",), "gradient": ("node",), "edge": ("edge", "end"), "autodiff": ("variable",)}
    axes |= {"local": ("edge",), "edge_gradient": ("edge",)}
    about = {"nodes": [node.name for node in nodes], "operations": [node.operation for node in nodes], "variables": list(names)}
    return {what: np.asarray(numbers) for what, numbers in arrays.items()}, axes, about


def comparisons(history: Mapping[str, np.ndarray], about: Mapping[str, Mapping[str, list[str]]]) -> Iterator[Comparison]:
    """f, and the gradient of each variable beside the slide's; then how far they are from those of jax.grad."""
    for name, words in about.items():
        places = [words["nodes"].index(variable) for variable in words["variables"]]
        gradients = history[f"{name}/gradient"][places]
        yield compare(f"{name}: f", history[f"{name}/value"][[words["nodes"].index("f")]], ON_THE_SLIDES.get((name, "f")))
        for variable_name, gradient in zip(words["variables"], gradients, strict=True):
            yield compare(f"{name}: ∂f/∂{variable_name}", [gradient], ON_THE_SLIDES.get((name, variable_name)))
        yield compare(f"{name}: largest distance from jax.grad", [np.abs(gradients - history[f"{name}/autodiff"]).max()])


def plot(record: Record) -> Mapping[str, Figure]:
    figure, axes = figures.panels(2, 1, "Forward the values, back the gradients: upstream × local, summed at each node", size=(11.0, 3.4))
    for ax, name in zip(axes[:, 0], FORMULAS, strict=True):
        draw(ax, record, name)
    axes[0, 0].plot([], [], color=FORWARD, label="value, on its way forward")
    axes[0, 0].plot([], [], color=BACK, label="gradient of f, on its way back")
    axes[0, 0].legend(fontsize=9, frameon=False, loc="upper right")
    return {"computational_graphs": figure}


def draw(ax: Axes, record: Record, name: str) -> None:
    """One graph: a circle for each operation, a box for each variable, the numbers on the edges."""
    words, part = record.meta["graphs"][name], {key.removeprefix(f"{name}/"): values for key, values in record.history.items()}
    places = [PLACES[name][node] for node in words["nodes"]]
    ax.axis("off")
    ax.set(xlim=(-1.4, 11.1) if name == "neuron" else (-3.2, 9.3), ylim=(-0.7, 2.7))
    ax.set_title(FORMULAS[name], fontsize=12, loc="left")
    for (parent, child), gradient in zip(part["edge"], part["edge_gradient"], strict=True):
        _edge(ax, places[parent], places[child], part["value"][parent], gradient)
    end = places[words["nodes"].index("f")]
    _edge(ax, end, (end[0] + 1.3, end[1]), part["value"][words["nodes"].index("f")], 1.0)
    for place, label, operation, gradient in zip(places, words["nodes"], words["operations"], part["gradient"], strict=True):
        _node(ax, place, label, operation, gradient)


def _edge(ax: Axes, start: tuple[float, float], end: tuple[float, float], value: float, gradient: float) -> None:
    """An arrow, with the value above its middle and the gradient below."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.6", "shrinkA": 17, "shrinkB": 17, "linewidth": 1.1})
    across = np.array([start[1] - end[1], end[0] - start[0]]) / math.hypot(end[0] - start[0], end[1] - start[1])
    middle = (np.array(start) + end) / 2
    for side, number, colour in ((1, value, FORWARD), (-1, gradient, BACK)):
        words = figures_of(number)
        away = 0.16 + 0.04 * len(words) * abs(across[0])  # long numbers keep clear of steep lines
        x, y = middle + side * away * across
        ax.text(x, y, words, color=colour, fontsize=10, ha="center", va="center")


def _node(ax: Axes, place: tuple[float, float], name: str, operation: str, gradient: float) -> None:
    label = name if len(name) == 1 else f"{name[0]}_{name[1:]}"
    shape = {"boxstyle": "circle,pad=0.35" if operation else "round,pad=0.4", "facecolor": "white", "edgecolor": "0.3"}
    ax.text(
        *place, operation.replace("-", "−").replace(" ", "") or f"${label}$", ha="center", va="center", fontsize=11, bbox=shape, zorder=3
    )
    if operation:
        ax.text(place[0], place[1] + 0.36, f"${label}$", ha="center", va="bottom", fontsize=9, color="0.3")
    else:
        ax.text(place[0] - 0.35, place[1], f"$\\partial f/\\partial {label}$ = {figures_of(gradient)}", ha="right", va="center", color=BACK)


def figures_of(value: float) -> str:
    """Four decimals, fewer where they are zeros.

    >>> figures_of(-0.393224), figures_of(3.0)
    ('−0.3932', '3')
    """
    return f"{value:.4f}".rstrip("0").rstrip(".").replace("-", "−")


if __name__ == "__main__":
    command.main(Config, run, plot)
