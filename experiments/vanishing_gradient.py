"""The deeper a sigmoid network, the slower its first layers learn: ‖δ^l‖ of [784,30,…,30,10] falls towards the input.

‖δ^l‖ is the length of the mean of ∂C/∂b^l over the first 1,000 training images, taken before each full-batch step of
gradient descent, for the cross-entropy summed over ten sigmoid outputs. The lines are medians over seeds, the bands hold
5-95 % of them, the dots are the published values, which come from one seed each.

Source: M. Nielsen, Neural Networks and Deep Learning, ch. 5, and its figures' data; lecture rows 67-73 (S3:373-401).
The lecture writes 728 inputs for 784 (E8), and N(0, 0.2) without saying whether that is a standard deviation or a
variance: both readings are recipes here.

Command: python -m experiments.vanishing_gradient       (or `make reproduce`; two minutes on two CPU cores)
Expected: every published norm at epoch 0 inside the 5-95 % band, the ratio of last to first hidden layer 4.7, 23.9, 95.8.
On the first 1,000 images of the full MNIST: --data mnist, with the four files in $JAXNN_DATA/mnist.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures, four_neuron_chain
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.checkpoint import Checkpoints
from jaxnn.learners import supervised
from jaxnn.measure import layer_gradient_norms
from jaxnn.models import MLP, functional
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, sweep
from jaxnn.types import Batch, Learner, unknown

UNITS = 30
"""Of every hidden layer."""


class Recipe(NamedTuple):
    """How the weights start, what shrinks them, and what is run where the command line leaves it open."""

    start: str
    """The two initializers in words, for the record."""
    kernel_init: Initializer
    bias_init: Initializer
    weight_decay: float
    """λ of w ← w(1 - ηλ/n) - η ∂C/∂w; biases do not decay, and the recorded gradient is that of C alone."""
    activations: tuple[str, ...]
    seeds: int


RECIPES = {
    "nielsen": Recipe(
        "W ~ N(0, 1/n_in), b ~ N(0, 1)", initializers.fan_in_normal, initializers.standard_normal, 5.0, ("sigmoid", "relu"), 12
    ),
    "lecture-std": Recipe("W, b ~ N(0, 0.2²)", initializers.normal_std_0_2, initializers.normal_std_0_2, 0.0, ("sigmoid",), 4),
    "lecture-variance": Recipe(
        "W, b ~ N(0, 0.2)", initializers.normal_variance_0_2, initializers.normal_variance_0_2, 0.0, ("sigmoid",), 4
    ),
}

PUBLISHED: dict[int, dict[int, tuple[float, ...]]] = {
    2: {0: (0.0657, 0.3092), 50: (0.00102, 0.00134), 250: (0.00228, 0.00421), 499: (0.00343, 0.00963)},
    3: {0: (0.0118, 0.0600, 0.2831), 50: (8.5e-5, 3.3e-4, 0.0016), 250: (8.4e-5, 2.5e-4, 0.0013), 499: (8.6e-5, 2.2e-4, 0.00126)},
    4: {
        0: (0.0030, 0.0171, 0.0695, 0.2851),
        50: (2.1e-5, 4.8e-5, 2.5e-4, 0.0010),
        250: (1.4e-5, 3.5e-5, 2.1e-4, 9.5e-4),
        499: (8.2e-6, 2.6e-5, 1.8e-4, 9.3e-4),
    },
}
"""‖δ^l‖ by number of hidden layers and epoch, recipe nielsen with sigmoid: Nielsen's own data, one seed each."""
PUBLISHED_RATIO = {2: 4.70, 3: 23.9, 4: 95.8}
"""Last over first hidden layer at epoch 0, from his unrounded norms."""


@dataclass(frozen=True)
class Config:
    recipes: tuple[str, ...] = ("nielsen", "lecture-std")
    """nielsen (the published protocol), lecture-std or lecture-variance (N(0, 0.2) in either reading)."""
    hidden_layers: tuple[int, ...] = (2, 3, 4)
    """Numbers of hidden layers, 30 units each."""
    activations: tuple[str, ...] | None = None
    """Of the hidden units; None takes the recipe's: sigmoid and relu for nielsen, sigmoid for the lecture's."""
    seeds: int | None = None
    """Seeds 0 … n-1 of each net; None takes the recipe's: 12 for nielsen, 4 for the lecture's."""
    epochs: int = 500
    """Full-batch steps."""
    images: int = 1000
    """The first so many training images."""
    learning_rate: float = 0.1
    """η."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, seeds=self.seeds, epochs=self.epochs, hidden_layers=self.hidden_layers, images=self.images)
        for name in self.recipes:
            if name not in RECIPES:
                raise unknown("recipe", name, RECIPES)
        for name in self.activations or ():
            activations.by_name(name)


class Net(NamedTuple):
    """One curve family: a recipe, an activation, a depth."""

    recipe: str
    activation: str
    hidden_layers: int

    @property
    def title(self) -> str:
        return f"{self.recipe}, {self.activation}, {self.hidden_layers} hidden"

    def key(self, quantity: str) -> str:
        return f"{quantity}/{self.recipe}/{self.activation}/{self.hidden_layers}"


def nets(config: Config) -> Iterator[Net]:
    """The nets to run, recipe by recipe, activation by activation, from shallow to deep."""
    for recipe in dict.fromkeys(config.recipes):
        for activation in dict.fromkeys(config.activations or RECIPES[recipe].activations):
            for hidden_layers in sorted(set(config.hidden_layers)):
                yield Net(recipe, activation, hidden_layers)


def describe(net: Net, config: Config) -> dict[str, Any]:
    """What the record says of a net: all that was run, whatever a later version's defaults are."""
    recipe = RECIPES[net.recipe]
    more = {"units": UNITS, "start": recipe.start, "weight_decay": recipe.weight_decay, "seeds": config.seeds or recipe.seeds}
    return {**net._asdict(), **more}


def recorded(record: Record) -> list[list[Net]]:
    """The nets of a record, those of one recipe and activation together, from shallow to deep."""
    families: dict[tuple[str, str], list[Net]] = {}
    for fields in record.meta["nets"]:
        net = Net(*(fields[name] for name in Net._fields))
        families.setdefault((net.recipe, net.activation), []).append(net)
    return list(families.values())


def kept_norms(history: Mapping[str, np.ndarray], net: Net) -> np.ndarray:
    """‖δ^l‖ of the seeds that did not diverge, (seeds, epochs, hidden layers)."""
    return history[net.key("gradient_norm")][history[net.key("diverged_at")] < 0]


def ratio(norms: np.ndarray) -> np.ndarray:
    """Last over first hidden layer at epoch 0, (seeds,); NaN where both are 0, as for units that have no gradient."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return norms[:, 0, -1] / norms[:, 0, 0]


def pixels_and_one_hot(batch: Batch) -> tuple[Float[Array, "B H W C"], Float[Array, "B 10"]]:
    """Pixels divided by 256, as the published curves have it, and targets for ten sigmoid outputs."""
    return batch["image"].astype(jnp.float32) / 256, jax.nn.one_hot(batch["label"], 10)


def learner(net: Net, learning_rate: float, images: int) -> Learner:
    """Full-batch gradient descent with weight decay on one of the nets, measuring ‖δ^l‖ of every layer."""
    recipe = RECIPES[net.recipe]
    model = MLP((UNITS,) * net.hidden_layers + (10,), activations.by_name(net.activation), recipe.kernel_init, recipe.bias_init)
    decay = optax.add_decayed_weights(recipe.weight_decay / images, mask=_kernels)
    return supervised(
        *functional(model),
        losses.sigmoid_cross_entropy,
        optax.chain(decay, optax.sgd(learning_rate)),
        preprocess=pixels_and_one_hot,
        metrics={"accuracy": lambda logits, targets: losses.accuracy(logits, targets.argmax(-1))},
        measure=layer_gradient_norms,
    )


def _kernels(params: Mapping) -> Mapping:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def train(net: Net, config: Config, data: Batch, label: str, checkpoint: Checkpoints | None = None) -> Run:
    """All seeds of one net as one vmapped program."""
    seeds = config.seeds or RECIPES[net.recipe].seeds
    return sweep(
        lambda: learner(net, config.learning_rate, config.images),
        jax.random.key(0),
        data,
        seeds=seeds,
        num_steps=config.epochs,
        **config.sharing.out(),
        checkpoint=checkpoint,
        label=label,
    )


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    chain = four_neuron_chain.run(four_neuron_chain.Config())
    dataset = command.load_digits(config.digits, f"train[:{config.images}]")
    all_nets = list(nets(config))
    labels = [f"{net.title} ({i}/{len(all_nets)})" for i, net in enumerate(all_nets, 1)]
    runs = [train(net, config, dataset.arrays, label, keep.checkpoint(net.title)) for net, label in zip(all_nets, labels, strict=True)]
    history, axes = dict(chain.history), dict(chain.axes)
    for net, (_, measured) in zip(all_nets, runs, strict=True):
        series = {
            "gradient_norm": measured.train["gradient_norm"][..., :-1],
            "loss": measured.train["loss"],
            "accuracy": measured.train["accuracy"],
        }
        history |= {net.key(name): values for name, values in series.items()} | {net.key("diverged_at"): measured.diverged_at}
        axes |= {net.key(name): ("seed", "epoch", "hidden_layer")[: values.ndim] for name, values in series.items()}
        axes |= {net.key("diverged_at"): ("seed",)}
    about = {
        **chain.about,
        "nets": [describe(net, config) for net in all_nets],
        "data": dataset.source,
        "seconds": command.seconds(measured for _, measured in runs),
    }
    comparisons = [row for net in all_nets for row in compare_net(net, history)]
    return command.Outcome(history, axes, [*comparisons, *chain.comparisons], about)


def compare_net(net: Net, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """‖δ^l‖ at the published epochs (else the first and the last), and the ratio of last to first hidden layer at epoch 0."""
    norms, diverged = history[net.key("gradient_norm")], history[net.key("diverged_at")] >= 0
    table = published(net)
    for epoch in sorted({0, norms.shape[1] - 1} | {e for e in table if e < norms.shape[1]}):
        for layer in range(net.hidden_layers):
            value = table[epoch][layer] if epoch in table else None
            yield compare(f"{net.title}: ‖δ^{layer + 1}‖, epoch {epoch}", norms[:, epoch, layer], value, diverged=diverged)
    if net.hidden_layers > 1:
        value = PUBLISHED_RATIO.get(net.hidden_layers) if table else None
        yield compare(f"{net.title}: last / first, epoch 0", ratio(norms), value, diverged=diverged)


def published(net: Net) -> Mapping[int, tuple[float, ...]]:
    """Nielsen's norms by epoch, for the nets that he ran."""
    if (net.recipe, net.activation) != ("nielsen", "sigmoid"):
        return {}
    return PUBLISHED.get(net.hidden_layers, {})


def plot(record: Record) -> Mapping[str, Figure]:
    """The four figures of the claim: each net's curves, sigmoid beside ReLU, the ratio against depth, and the reason."""
    side_by_side = draw_side_by_side(record)
    drawn = {"gradient_norms": draw_norms(record)} | ({"sigmoid_beside_relu": side_by_side} if side_by_side else {})
    return drawn | {"ratio_by_depth": draw_ratio(record), **four_neuron_chain.plot(record)}


def draw_norms(record: Record) -> Figure:
    """One panel a net: log ‖δ^l‖ against the epoch, a line a hidden layer."""
    rows = recorded(record)
    title = rf"Learning speed $\|\delta^l\|$ of the hidden layers of [784, {UNITS}, …, {UNITS}, 10]"
    figure, axes = figures.panels(len(rows), max(map(len, rows)), title, sharex=True, sharey="row")
    for line, row in zip(axes, rows, strict=True):
        for ax, net in zip(line, row, strict=True):
            draw_net(ax, record, net)
        draw_legend(line[len(row) - 1], row[-1])
        line[0].set_ylabel(r"$\|\delta^l\|$")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    return figure


def draw_net(ax: Axes, record: Record, net: Net) -> None:
    norms, kept = record.history[net.key("gradient_norm")], kept_norms(record.history, net)
    epochs = np.arange(norms.shape[1])
    for layer, colour in enumerate(figures.ordered(net.hidden_layers)):
        if len(kept) and kept[..., layer].any():  # a norm of 0 has no place on a log axis
            figures.band(ax, epochs, kept[..., layer], colour, f"hidden {layer + 1}")
        points = {epoch: values[layer] for epoch, values in published(net).items() if epoch < len(epochs)}
        ax.plot(list(points), list(points.values()), "o", color=colour, markeredgecolor="black", markersize=5, zorder=5)
    ax.set(yscale="log" if kept.any() else "linear")
    ax.set_title(net.title, fontsize=10)
    draw_diverged(ax, len(norms) - len(kept), len(norms))


def draw_diverged(ax: Axes, diverged: int, seeds: int) -> None:
    if diverged:
        ax.text(0.02, 0.03, f"{diverged} of {seeds} seeds diverged", transform=ax.transAxes, fontsize=9, color="#d55e00")


def draw_legend(ax: Axes, net: Net) -> None:
    """The layers' colours, in the deepest panel of a row, where all of them stand."""
    if published(net):
        ax.plot([], [], "o", color="white", markeredgecolor="black", markersize=5, label="published")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=9, frameon=False, ncols=1 + net.hidden_layers // 6, loc="best")


def draw_side_by_side(record: Record) -> Figure | None:
    """The deepest net with every activation of the first recipe that has several, at the same scale; nothing where none has."""
    by_recipe: dict[str, list[Net]] = {}
    for family in recorded(record):
        by_recipe.setdefault(family[-1].recipe, []).append(family[-1])
    deepest = next((row for row in by_recipe.values() if len(row) > 1), None)
    if deepest is None:
        return None
    title = " beside ".join(net.activation for net in deepest) + ": the same net at the same scale"
    figure, axes = figures.panels(1, len(deepest), title, size=(4.6, 3.6), sharey=True)
    for ax, net in zip(axes[0], deepest, strict=True):
        draw_net(ax, record, net)
        ax.set_xlabel("epoch")
    draw_legend(axes[0, 0], deepest[0])
    axes[0, 0].set_ylabel(r"$\|\delta^l\|$")
    return figure


def draw_ratio(record: Record) -> Figure:
    """Last over first hidden layer at epoch 0 against depth, with Nielsen's ratios."""
    families = recorded(record)
    figure, axes = figures.panels(1, 1, "How many times faster the last hidden layer learns than the first, at epoch 0", size=(6.0, 4.0))
    ax = axes[0, 0]
    for family, colour in zip(families, figures.ordered(len(families)), strict=True):
        drawn = {net.hidden_layers: values[np.isfinite(values)] for net in family for values in [ratio(kept_norms(record.history, net))]}
        drawn = {depth: values for depth, values in drawn.items() if len(values)}
        figures.bands(ax, list(drawn), list(drawn.values()), colour, f"{family[0].recipe}, {family[0].activation}")
    points = {net.hidden_layers: PUBLISHED_RATIO[net.hidden_layers] for family in families for net in family if published(net)}
    if points:
        ax.plot(list(points), list(points.values()), "o", color="black", label="published (nielsen, sigmoid)", zorder=5)
    depths = sorted({net.hidden_layers for family in families for net in family})
    ax.set(
        yscale="log" if ax.lines else "linear",
        xlabel="hidden layers",
        ylabel=r"$\|\delta^{\mathrm{last}}\| \,/\, \|\delta^1\|$",
        xticks=depths,
    )
    diverged = [record.history[net.key("diverged_at")] >= 0 for family in families for net in family]
    draw_diverged(ax, sum(map(np.count_nonzero, diverged)), sum(map(len, diverged)))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
