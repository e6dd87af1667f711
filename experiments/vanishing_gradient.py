"""The deeper a sigmoid network, the slower its first layers learn: ‖δ^l‖ of [784,30,…,30,10] falls towards the input.

‖δ^l‖ is the length of the mean of ∂C/∂b^l over the first 1,000 training images, taken before each full-batch step of
gradient descent, for the cross-entropy summed over ten sigmoid outputs. The lines are medians over seeds, the bands hold
5-95 % of them, the rings are the published values, which come from one seed each.

Source: M. Nielsen, Neural Networks and Deep Learning, ch. 5, and its figures' data; lecture rows 67-73 (S3:373-401).
The lecture writes 728 inputs for 784 (E8), and N(0, 0.2) without saying whether that is a standard deviation or a
variance: both readings are recipes here.

Command: python -m experiments.vanishing_gradient       (or `make reproduce`)
Expected: every published norm at epoch 0 inside the 5-95 % band, the ratio of last to first hidden layer 4.7, 23.9, 95.8.
On the first 1,000 images of the full MNIST: --data mnist, with the four files in $JAXNN_DATA/mnist.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures, four_neuron_chain
from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.measure import layer_gradient_norms
from jaxnn.models import MLP, functional
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, sweep
from jaxnn.types import Batch, Learner, unknown


class Recipe(NamedTuple):
    """How the weights start, what shrinks them, and what is run where the command line leaves it open."""

    kernel_init: Initializer
    bias_init: Initializer
    weight_decay: float
    """λ of w ← w(1 - ηλ/n) - η ∂C/∂w; biases do not decay, and the recorded gradient is that of C alone."""
    activations: tuple[str, ...]
    seeds: int


RECIPES = {
    "nielsen": Recipe(initializers.fan_in_normal, initializers.standard_normal, 5.0, ("sigmoid", "relu"), 20),
    "lecture-std": Recipe(initializers.normal_std_0_2, initializers.normal_std_0_2, 0.0, ("sigmoid",), 8),
    "lecture-variance": Recipe(initializers.normal_variance_0_2, initializers.normal_variance_0_2, 0.0, ("sigmoid",), 8),
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
    """Seeds 0 … n-1 of each net; None takes the recipe's: 20 for nielsen, 8 for the lecture's."""
    epochs: int = 500
    """Full-batch steps."""
    images: int = 1000
    """The first so many training images."""
    learning_rate: float = 0.1
    """η."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
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


def nets(config: Config | Record) -> Iterator[Net]:
    """The nets of a run, recipe by recipe, activation by activation, from shallow to deep."""
    get = config.config.__getitem__ if isinstance(config, Record) else lambda name: getattr(config, name)
    for recipe in dict.fromkeys(get("recipes")):
        for activation in dict.fromkeys(get("activations") or RECIPES[recipe].activations):
            for hidden_layers in sorted(set(get("hidden_layers"))):
                yield Net(recipe, activation, hidden_layers)


def pixels_and_one_hot(batch: Batch) -> tuple[Float[Array, "B H W C"], Float[Array, "B 10"]]:
    """Pixels divided by 256, as the published curves have it, and targets for ten sigmoid outputs."""
    return batch["image"].astype(jnp.float32) / 256, jax.nn.one_hot(batch["label"], 10)


def learner(net: Net, learning_rate: float, images: int) -> Learner:
    """Full-batch gradient descent with weight decay on one of the nets, measuring ‖δ^l‖ of every layer."""
    recipe = RECIPES[net.recipe]
    model = MLP((30,) * net.hidden_layers + (10,), activations.by_name(net.activation), recipe.kernel_init, recipe.bias_init)
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


def train(net: Net, config: Config, data: Batch, label: str) -> Run:
    """All seeds of one net as one vmapped program."""
    seeds = config.seeds or RECIPES[net.recipe].seeds
    return sweep(
        lambda: learner(net, config.learning_rate, config.images),
        jax.random.key(0),
        data,
        seeds=seeds,
        num_steps=config.epochs,
        label=label,
    )


def run(config: Config) -> command.Outcome:
    chain = four_neuron_chain.run(four_neuron_chain.Config())
    dataset = command.load_digits(config.digits, f"train[:{config.images}]")
    all_nets = list(nets(config))
    runs = [train(net, config, dataset.arrays, f"{net.title} ({i}/{len(all_nets)})") for i, net in enumerate(all_nets, 1)]
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
    about = {**chain.about, "data": dataset.source, "seconds": command.seconds(measured for _, measured in runs)}
    comparisons = [row for net in all_nets for row in compare_net(net, history)]
    return command.Outcome(history, axes, [*comparisons, *chain.comparisons], about)


def compare_net(net: Net, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """‖δ^l‖ at the published epochs (else the first and the last), and the ratio of last to first hidden layer at epoch 0."""
    norms = np.where(history[net.key("diverged_at")][:, None, None] < 0, history[net.key("gradient_norm")], np.nan)
    table = published(net)
    for epoch in sorted({0, norms.shape[1] - 1} | {e for e in table if e < norms.shape[1]}):
        for layer in range(net.hidden_layers):
            yield compare(
                f"{net.title}: ‖δ^{layer + 1}‖, epoch {epoch}", norms[:, epoch, layer], table[epoch][layer] if epoch in table else None
            )
    if net.hidden_layers > 1:
        ratio = PUBLISHED_RATIO.get(net.hidden_layers) if table else None
        yield compare(f"{net.title}: last / first, epoch 0", norms[:, 0, -1] / norms[:, 0, 0], ratio)


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
    rows: dict[tuple[str, str], list[Net]] = {}
    for net in nets(record):
        rows.setdefault((net.recipe, net.activation), []).append(net)
    columns = max(map(len, rows.values()))
    figure, axes = figures.panels(
        len(rows), columns, r"Learning speed $\|\delta^l\|$ of the hidden layers of [784, 30, …, 30, 10]", sharex=True, sharey="row"
    )
    for line, row in zip(axes, rows.values(), strict=True):
        for ax, net in zip(line, row, strict=True):
            draw_net(ax, record, net)
        draw_legend(line[len(row) - 1], row[-1])
        line[0].set_ylabel(r"$\|\delta^l\|$")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    return figure


def draw_net(ax: Axes, record: Record, net: Net) -> None:
    norms, diverged_at = record.history[net.key("gradient_norm")], record.history[net.key("diverged_at")]
    kept, epochs = norms[diverged_at < 0], np.arange(norms.shape[1])
    colours = figures.ordered(net.hidden_layers)
    for layer, colour in enumerate(colours):
        if len(kept):
            figures.band(ax, epochs, kept[..., layer], colour, f"hidden {layer + 1}")
        points = {epoch: values[layer] for epoch, values in published(net).items() if epoch < len(epochs)}
        ax.plot(list(points), list(points.values()), "o", color=colour, markeredgecolor="black", markersize=5, zorder=5)
    ax.set_yscale("log")
    ax.set_title(net.title, fontsize=10)
    if len(kept) < len(norms):
        ax.text(0.02, 0.03, f"{len(norms) - len(kept)} of {len(norms)} seeds diverged", transform=ax.transAxes, fontsize=8, color="#d55e00")


def draw_legend(ax: Axes, net: Net) -> None:
    """The layers' colours, in the deepest panel of a row, where all of them stand."""
    if published(net):
        ax.plot([], [], "o", color="white", markeredgecolor="black", markersize=5, label="published")
    ax.legend(fontsize=9, frameon=False, ncols=1 + net.hidden_layers // 6, loc="best")


def draw_side_by_side(record: Record) -> Figure | None:
    """The deepest net with every activation of the first recipe, at the same scale; nothing where there is one alone."""
    first = [net for net in nets(record) if net.recipe == record.config["recipes"][0]]
    deepest = [net for net in first if net.hidden_layers == max(net.hidden_layers for net in first)]
    if len(deepest) < 2:
        return None
    figure, axes = figures.panels(1, len(deepest), "The same net with another activation, at the same scale", size=(4.6, 3.6), sharey=True)
    for ax, net in zip(axes[0], deepest, strict=True):
        draw_net(ax, record, net)
        ax.set_xlabel("epoch")
    draw_legend(axes[0, 0], deepest[0])
    axes[0, 0].set_ylabel(r"$\|\delta^l\|$")
    return figure


def draw_ratio(record: Record) -> Figure:
    """Last over first hidden layer at epoch 0 against depth, with Nielsen's ratios."""
    figure, axes = figures.panels(1, 1, "How many times faster the last hidden layer learns than the first, at epoch 0", size=(6.0, 4.0))
    ax = axes[0, 0]
    families: dict[tuple[str, str], list[Net]] = {}
    for net in nets(record):
        families.setdefault((net.recipe, net.activation), []).append(net)
    for (recipe, activation), family, colour in zip(families, families.values(), figures.ordered(len(families)), strict=True):
        norms = np.stack([record.history[net.key("gradient_norm")][:, 0][:, [0, -1]] for net in family], axis=1)
        figures.band(ax, [net.hidden_layers for net in family], norms[..., 1] / norms[..., 0], colour, f"{recipe}, {activation}")
    depths = [depth for depth in PUBLISHED_RATIO if depth in record.config["hidden_layers"]]
    ax.plot(depths, [PUBLISHED_RATIO[depth] for depth in depths], "o", color="black", label="published (nielsen, sigmoid)", zorder=5)
    ax.set(
        yscale="log",
        xlabel="hidden layers",
        ylabel=r"$\|\delta^{\mathrm{last}}\| \,/\, \|\delta^1\|$",
        xticks=sorted(set(record.config["hidden_layers"])),
    )
    ax.legend(fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
