"""Does a deep net need ReLU? Sigmoid, tanh, ReLU, ELU and leaky ReLU at depths 1 to 16 and three initializers, on digits.

Every net is [784, 30, …, 30, 10], trained by mini-batch SGD at one learning rate on the softmax's cross-entropy. Measured: test accuracy;
the gradient ratio ‖δ^last‖ / ‖δ^1‖ of the hidden layers, of the first and of the last mini-batch (1 for one hidden layer); model-steps/s,
which leave out compilation and hold the evaluations; and the steps and the seconds until the test accuracy first stands at the target,
as often as it is evaluated. Such seconds are a model's share of the sweep that it ran in.

Seeds and initializers of one activation and depth are one vmapped sweep: one program in place of three, and every initializer sees the
same batches. A net that diverges leaves the medians and the 5-95 % bands, and is counted.

Source: lecture row 73 (S3:577-581), that ReLU cures vanishing gradients (erratum E21 has the limits of it); row 168 (S1:155-158), that
depth adds power; initializers of Glorot and Bengio 2010 and He et al. 2015, arXiv:1502.01852.

Command: python -m benchmarks.depth        (2 to 4 minutes on two CPU cores, half of it compilation)
Expected: sigmoid is at chance with 8 hidden layers and more, its gradient ratio growing 3 to 4 times a layer, to 10^7 and more with 16;
tanh and ReLU are near 90 % up to 8, and with 16 tanh still is, where ReLU lies between 30 and 70 %.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn.initializers import Initializer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks import scales
from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.learners import supervised
from jaxnn.measure import layer_gradient_norms
from jaxnn.models import MLP, functional
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import InputError, Learner


@dataclass(frozen=True)
class Config:
    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "elu", "leaky_relu")
    """Of the hidden units."""
    depths: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of hidden layers, 30 units each."""
    initializers: tuple[str, ...] = ("fan_in_normal", "glorot_uniform", "he_normal")
    """Of the weights; biases start at 0."""
    seeds: int = 3
    """Seeds 0 … n-1 of each net."""
    steps: int = 1000
    """Mini-batches."""
    batch_size: int = 32
    """Images a mini-batch."""
    learning_rate: float = 0.1
    """The same for all nets."""
    eval_every: int = 50
    """Steps between two looks at the test images."""
    target: float = 0.85
    """Test accuracy to reach."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, depths=self.depths, seeds=self.seeds, steps=self.steps, batch_size=self.batch_size, eval_every=self.eval_every)
        if not 0 < self.target <= 1:
            raise InputError(f"--target must be an accuracy above 0 and up to 1, got {self.target}")
        for name in self.activations:
            activations.by_name(name)
        for name in self.initializers:
            initializers.by_name(name)


class Net(NamedTuple):
    """One sweep: an activation at a depth, for all initializers and seeds."""

    activation: str
    depth: int

    def key(self, quantity: str) -> str:
        return f"{quantity}/{self.activation}/{self.depth}"


def nets(chosen: Sequence[str], depths: Sequence[int]) -> Iterator[Net]:
    for activation in dict.fromkeys(chosen):
        for depth in sorted(set(depths)):
            yield Net(activation, depth)


def numbered(names: Sequence[str], number: jax.Array) -> Initializer:
    """The initializer of that number, which may be traced: an axis of a sweep, for which vmap would run every branch anyway."""

    def draw(key: jax.Array, shape: Sequence[Any], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        drawn = [initializers.by_name(name)(jax.random.clone(key), shape, dtype, out_sharding) for name in names]
        return jnp.stack(drawn)[number]

    return draw


def make_learner(net: Net, config: Config) -> Callable[[jax.Array], Learner]:
    def learner(initializer: jax.Array) -> Learner:
        kernel_init = numbered(config.initializers, initializer)
        model = MLP((30,) * net.depth + (10,), activations.by_name(net.activation), kernel_init)
        loss = losses.softmax_cross_entropy_with_integer_labels
        optimizer = optax.sgd(config.learning_rate)
        return supervised(*functional(model), loss, optimizer, metrics={"accuracy": losses.accuracy}, measure=layer_gradient_norms)

    return learner


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train, test = (command.load_digits(config.digits, split) for split in ("train", "test"))
    history: dict[str, np.ndarray] = {}
    axes: dict[str, tuple[str, ...]] = {}
    times: list[History] = []
    comparisons: list[Comparison] = []
    all_nets = list(nets(config.activations, config.depths))
    for number, net in enumerate(all_nets, 1):
        measured = sweep(
            make_learner(net, config),
            jax.random.key(0),
            train.arrays,
            seeds=config.seeds,
            axes={"initializer": range(len(config.initializers))},
            batch_size=config.batch_size,
            num_steps=config.steps,
            eval_every=config.eval_every,
            eval_data=test.arrays,
            **config.sharing.out(),
            checkpoint=keep.checkpoint(f"{net.activation} {net.depth}"),
            label=f"{net.activation}, {net.depth} hidden ({number}/{len(all_nets)})",
        ).history
        times.append(measured)
        history |= {net.key(name): values for name, values in quantities(measured, config).items()}
        axes |= {net.key(name): names for name, names in AXES.items()}
        comparisons += compare_net(net, history, config)
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds(times)}
    return command.Outcome(history, axes, comparisons, about)


AXES = {
    "test_accuracy": ("seed", "initializer", "evaluation"),
    "evaluated_at": ("evaluation",),
    "gradient_ratio": ("seed", "initializer", "first_and_last"),
    "steps_to_target": ("seed", "initializer"),
    "seconds_to_target": ("seed", "initializer"),
    "steps_per_second": (),
    "diverged_at": ("seed", "initializer"),
}


def quantities(history: History, config: Config) -> dict[str, np.ndarray]:
    """What is kept of one sweep. Steps and seconds to the target are NaN where it was never reached."""
    accuracy, norms = history.evaluation["accuracy"], history.train["gradient_norm"][..., [0, -1], :-1]
    model_steps_per_second = history.diverged_at.size * config.steps / history.run_seconds
    steps = steps_to_target(accuracy, history.evaluated_at, config.target)
    return {
        "test_accuracy": accuracy,
        "evaluated_at": history.evaluated_at,
        "gradient_ratio": norms[..., -1] / np.where(norms[..., 0] > 0, norms[..., 0], np.nan),
        "steps_to_target": steps,
        "seconds_to_target": steps / model_steps_per_second,
        "steps_per_second": np.array(model_steps_per_second),
        "diverged_at": history.diverged_at,
    }


def steps_to_target(accuracy: np.ndarray, evaluated_at: np.ndarray, target: float) -> np.ndarray:
    """The step of the first evaluation with at least `target`; NaN where there is none. (..., evaluations) -> (...)."""
    reached = accuracy >= target
    return np.where(reached.any(-1), evaluated_at[reached.argmax(-1)], np.nan)


def kept(history: Mapping[str, np.ndarray], net: Net, quantity: str) -> np.ndarray:
    """A quantity (seeds, initializers, ...), NaN for those that diverged."""
    values, alive = history[net.key(quantity)], history[net.key("diverged_at")] < 0
    return np.where(alive.reshape(alive.shape + (1,) * (values.ndim - 2)), values, np.nan)


def compare_net(net: Net, history: Mapping[str, np.ndarray], config: Config) -> Iterator[Comparison]:
    """Each initializer's accuracy, gradient ratio and, of those that reached the target, seconds to it; the speed of all."""
    for number, name in enumerate(config.initializers):
        title = f"{net.activation}, {net.depth} hidden, {name}"
        yield compare(f"{title}: test accuracy", kept(history, net, "test_accuracy")[:, number, -1])
        yield compare(f"{title}: last / first gradient, step 0", kept(history, net, "gradient_ratio")[:, number, 0])
        seconds = kept(history, net, "seconds_to_target")[:, number]
        if np.isfinite(seconds).any():
            yield compare(f"{title}: seconds to {config.target:.0%}", seconds[np.isfinite(seconds)])
    yield compare(f"{net.activation}, {net.depth} hidden: model-steps/s", [history[net.key("steps_per_second")]])


def plot(record: Record) -> Mapping[str, Figure]:
    """Accuracy, gradient ratio and time to the target against depth, a panel an initializer, a line an activation; and the speed."""
    target = f"{record.config['target']:.0%}"
    accuracy = draw(record, f"Test accuracy after {record.config['steps']:,} steps", "test accuracy", "test_accuracy", -1)
    title = "How many times faster the last hidden layer learns than the first, at step 0"
    ratio = draw(record, title, "‖δ^last‖ / ‖δ^1‖", "gradient_ratio", 0, "without a gradient")
    title = f"Training time until the test accuracy reaches {target}"
    seconds = draw(record, title, "seconds a model", "seconds_to_target", ..., f"never reach {target}")
    scales.logarithmic(*ratio.axes, y=True, steps=(1,))
    scales.logarithmic(*seconds.axes, y=True)
    return {"accuracy": accuracy, "gradient_ratio": ratio, "seconds_to_target": seconds, "steps_per_second": draw_speed(record)}


def draw(record: Record, title: str, label: str, quantity: str, at: Any, absent: str = "") -> Figure:
    """`quantity[seed, initializer, at]` against depth. The runs that have none are counted above each panel."""
    names, chosen, depths = (list(dict.fromkeys(record.config[name])) for name in ("initializers", "activations", "depths"))
    figure, axes = figures.panels(1, len(names), title, size=(3.9, 4.1), sharey=True)
    for number, (ax, name) in enumerate(zip(axes[0], names, strict=True)):
        values = {net: kept(record.history, net, quantity)[:, number, at] for net in nets(chosen, depths)}
        for activation, colour in zip(chosen, figures.ordered(len(chosen)), strict=True):
            draw_family(ax, {net.depth: values[net] for net in nets([activation], depths)}, colour, activation)
        diverged = sum(int((record.history[net.key("diverged_at")][:, number] >= 0).sum()) for net in values)
        missing = sum(int(np.isnan(row).sum()) for row in values.values()) - diverged
        total = sum(row.size for row in values.values())
        counts = [f"{count} of {total} {what}" for count, what in ((diverged, "diverged"), (missing, absent)) if count]
        ax.set_title("\n".join([name, ", ".join(counts)]), fontsize=9)
        depth_axis(ax, depths)
    axes[0, 0].set_ylabel(label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(chosen), frameon=False, fontsize=9)
    return figure


def draw_family(ax: Axes, by_depth: Mapping[int, np.ndarray], colour: object, label: str) -> None:
    """A line through the medians over the seeds that have a value, with a dot at each, and the 5-95 % band."""
    present = {depth: values[np.isfinite(values)] for depth, values in by_depth.items() if np.isfinite(values).any()}
    spread = np.array([np.quantile(values, [0.05, 0.5, 0.95]) for values in present.values()]).reshape(-1, 3)
    ax.fill_between(list(present), spread[:, 0], spread[:, 2], color=colour, alpha=0.18, linewidth=0)
    ax.plot(list(present), spread[:, 1], "o-", color=colour, linewidth=1.6, markersize=4, label=label)


def draw_speed(record: Record) -> Figure:
    members = record.config["seeds"] * len(record.config["initializers"])
    title = f"Training steps a second of one model in a sweep of {members}, batch {record.config['batch_size']}, {record.meta['backend']}"
    figure, axes = figures.panels(1, 1, title, size=(7.0, 4.1))
    chosen, depths = list(dict.fromkeys(record.config["activations"])), record.config["depths"]
    for activation, colour in zip(chosen, figures.ordered(len(chosen)), strict=True):
        speeds = {net.depth: record.history[net.key("steps_per_second")].reshape(1) for net in nets([activation], depths)}
        draw_family(axes[0, 0], speeds, colour, activation)
    axes[0, 0].set(yscale="log", ylabel="model-steps / s, evaluations included")
    scales.plain(axes[0, 0].yaxis, (1, 2, 3, 5))
    axes[0, 0].legend(frameon=False, fontsize=9)
    depth_axis(axes[0, 0], depths)
    return figure


def depth_axis(ax: Axes, depths: Sequence[int]) -> None:
    ax.set(xscale="log", xlabel="hidden layers")
    ax.set_xticks(sorted(set(depths)), [str(depth) for depth in sorted(set(depths))])
    ax.xaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    command.main(Config, run, plot)
