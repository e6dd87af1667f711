"""Most weights of a trained net can go, and the rest fits into a few bits: the error against the share pruned, and against the bytes.

784-100-10 with ReLU units learns the digits; then the smallest weights of the whole net are set to zero, or the units whose incoming and
outgoing weights are weakest. What is left is used as it is, or trained on for some steps in which the zeros stay zeros. Random weights
are pruned too: what the magnitude is worth. At last the weights, of the whole net and of the pruned and retrained one, are rounded to
8, 4, 3 and 2 bits, uniformly up to the largest weight of each layer, or up to the limit that loses least in the mean square.

The bytes are those of a file: the packed codes, or where that is shorter a bit for each weight and the codes of those that are not zero,
with a scale for each layer and the biases in float32; units that nothing listens to are left out.

Source: lecture rows 50 (S2:459, nodes can be cut) and 159 (S4:1196-1201). LeCun, Denker, Solla 1990, Optimal brain damage; Reed 1993,
doi:10.1109/72.248452; Han et al. 2015, arXiv:1506.02626 and 2016, arXiv:1510.00149, where LeNet-300-100 lost 12 of 13 weights without
loss of accuracy.

Command: python -m experiments.compression        (half a minute on two CPU cores)
Expected: 8.5 % wrong with 318 kB; without nine of ten weights 13.5 % as it is and 8.4 % trained on, where random ones leave 80 and 19 %
and units 66 and 18 %; that net in 4 bits is 14 kB and 8.7 % wrong; the whole one in 2 bits 12 %, without the best limits 53 %.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, initializers, losses
from jaxnn.compress import hold_zeros, least_squares_limit, prune_units, prune_weights, quantize, size_in_bytes, without_dead_units
from jaxnn.learners import Supervised, image_and_label, supervised
from jaxnn.leaves import map_weights
from jaxnn.models import MLP, functional
from jaxnn.optimizers import adam
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import sweep
from jaxnn.types import Batch, InputError, Learner, PyTree

KINDS = {"weights": "weights, by magnitude", "random": "weights, at random", "units": "units, by strength"}
ROUNDINGS = {"full": "up to the largest weight", "clipped": "up to the best limit"}
COLOURS = {"weights": "#0072b2", "random": "0.6", "units": "#d55e00"}


@dataclass(frozen=True)
class Config:
    hidden: int = 100
    """ReLU units."""
    steps: int = 600
    """Of Adam, before anything is pruned."""
    retrain_steps: int = 200
    """After that."""
    batch_size: int = 100
    """Images a step."""
    learning_rate: float = 1e-3
    """Of Adam, before and after."""
    shares: tuple[float, ...] = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
    """Of the weights, or of the hidden units, that are pruned; 0 is measured beside them."""
    quantized_share: float = 0.9
    """One of them, at which the pruned and retrained net is quantised too."""
    bits: tuple[int, ...] = (8, 4, 3, 2)
    """Of a quantised weight."""
    seeds: int = 3
    """Seeds 0 … n-1."""
    images: int | None = None
    """The first so many training images; None takes all."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, hidden=self.hidden, steps=self.steps, retrain_steps=self.retrain_steps, batch_size=self.batch_size)
        command.at_least(1, seeds=self.seeds, images=self.images)
        if not all(0 < share < 1 for share in self.shares):
            raise InputError(f"--shares must lie between 0 and 1, got {' '.join(map(str, self.shares))}")
        if self.quantized_share not in self.shares:
            raise InputError(f"--quantized-share must be one of --shares {self.shares}, got {self.quantized_share}")
        if not all(2 <= bits <= 8 for bits in self.bits):
            raise InputError(f"--bits must be from 2 to 8, got {' '.join(map(str, self.bits))}")


def make_learner(config: Config, **axes: Any) -> Learner:
    """784-hidden-10 under Adam; zero weights stay zero, and none starts at zero. What only the start of a net depends on is no matter."""
    model = functional(MLP((config.hidden, 10), activations.relu, initializers.he_normal))
    optimizer = hold_zeros(adam(config.learning_rate))
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*model, loss, optimizer, metrics={"accuracy": losses.accuracy})


def prune(kind: str, params: PyTree, share: Array) -> PyTree:
    """One of KINDS."""
    if kind == "units":
        return prune_units(params, "hidden_1", "output", share)
    if kind == "weights":
        return prune_weights(params, share)
    shuffled = map_weights(lambda w: jax.random.uniform(jax.random.key(w.size), w.shape) + 1, params)
    return map_weights(lambda w, mask: jnp.where(mask != 0, w, 0), params, prune_weights(shuffled, share))


def shares(config: Config) -> list[float]:
    return [0.0, *sorted(set(config.shares))]


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train = command.load_digits(config.digits, "train" if config.images is None else f"train[:{config.images}]")
    test = command.load_digits(config.digits, "test")
    loop = partial(sweep, partial(make_learner, config), jax.random.key(0), train.arrays, seeds=config.seeds, batch_size=config.batch_size)
    before = loop(num_steps=config.steps, checkpoint=keep.checkpoint("training"), label="training")
    pruned = every_kind_and_share(config, before.state)
    after = loop(
        num_steps=config.steps + config.retrain_steps,
        axes={"kind": range(len(KINDS)), "share": shares(config)},
        start=(config.steps, pruned),
        checkpoint=keep.checkpoint("retraining"),
        label="retraining",
    )
    data, history = jax.device_put(test.arrays), {"loss": before.history.train["loss"]}
    for name, state in (("pruned", pruned), ("retrained", after.state)):
        wrong, size = errors(state.variables["params"], data), sizes(state.variables["params"])
        history |= {f"{name}/{kind}": wrong[:, i] for i, kind in enumerate(KINDS)}
        history |= {f"bytes_{name}/{kind}": size[:, i] for i, kind in enumerate(KINDS)}
    at = list(KINDS).index("weights"), shares(config).index(config.quantized_share)
    small = jax.tree.map(lambda leaf: leaf[:, *at], after.state.variables["params"])
    for name, params in (("dense", before.state.variables["params"]), ("sparse", small)):
        history |= quantized(name, config, params, data)
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds([before.history, after.history])}
    return command.Outcome(history, axes, list(compare_all(config, history)), about)


AXES = {
    "loss": ("seed", "step"),
    **dict.fromkeys(("pruned", "retrained", "bytes_pruned", "bytes_retrained"), ("seed", "share")),
    **dict.fromkeys(("quantized", "bytes_quantized"), ("seed", "bits")),
    **dict.fromkeys(("float", "bytes_float"), ("seed",)),
}


def every_kind_and_share(config: Config, state: Supervised) -> Supervised:
    """The states (seeds, kinds, shares) of the nets (seeds,) that training left, pruned, with a fresh optimizer."""
    optimizer = hold_zeros(adam(config.learning_rate))

    def one(params: PyTree, share: Array) -> Supervised:
        after = [prune(kind, params, share) for kind in KINDS]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *after)
        return Supervised({"params": stacked}, jax.vmap(optimizer.init)(stacked))

    over_shares = jax.vmap(one, in_axes=(None, 0), out_axes=1)
    return jax.jit(jax.vmap(over_shares, in_axes=(0, None)))(state.variables["params"], jnp.array(shares(config)))


def errors(params: PyTree, data: Batch) -> np.ndarray:
    """Test errors in per cent of nets with leading axes, one after another."""
    lead = jax.tree.leaves(params)[0].shape[:-1]
    return np.asarray(_errors(jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *leaf.shape[len(lead) :])), params), data)).reshape(lead)


@jax.jit
def _errors(params: PyTree, data: Batch) -> Array:
    x, label = image_and_label(data)
    apply = functional(MLP((params["hidden_1"]["bias"].shape[-1], 10), activations.relu)).apply
    return jax.lax.map(lambda net: 100 * (1 - losses.accuracy(apply({"params": net}, x, train=False)[0], label).mean()), params)


def sizes(params: PyTree, bits: int = 32) -> np.ndarray:
    """The bytes of nets with leading axes, each without its dead units."""
    host = jax.tree.map(np.asarray, params)
    lead = jax.tree.leaves(host)[0].shape[:-1]
    each = [jax.tree.map(lambda leaf, at=at: leaf[at], host) for at in np.ndindex(*lead)]
    return np.array([size_in_bytes(without_dead_units(net, "hidden_1", "output"), bits) for net in each]).reshape(lead)


def quantized(name: str, config: Config, params: PyTree, data: Batch) -> dict[str, np.ndarray]:
    """Error and bytes of the nets (seeds,) in float32 and in every number of bits."""
    arrays = {f"float/{name}": errors(params, data), f"bytes_float/{name}": sizes(params)}
    for rounding in ROUNDINGS:
        found = []
        for bits in config.bits:
            after = round_weights(params, rounding, bits)
            found.append((errors(after, data), sizes(after, bits)))
        arrays[f"quantized/{name}/{rounding}"], arrays[f"bytes_quantized/{name}/{rounding}"] = (
            np.stack(columns, -1) for columns in zip(*found, strict=True)
        )
    return arrays


@partial(jax.jit, static_argnums=(1, 2))
def round_weights(params: PyTree, rounding: str, bits: int) -> PyTree:
    """The weights of nets (seeds,), every layer of each in `bits` bits."""
    limit = (lambda w: None) if rounding == "full" else partial(least_squares_limit, bits=bits)
    return map_weights(jax.vmap(lambda w: quantize(w, bits, limit(w)).values), params)


def compare_all(config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """The whole net, some of the pruned ones, and all the quantised ones."""
    kilobytes = lambda name, *at: f"{np.median(history[name][:, *at]) / 1000:.1f} kB"  # noqa: E731
    yield compare(f"float32, {kilobytes('bytes_float/dense')}: test error, %", history["float/dense"])
    every = shares(config)
    for kind, label in KINDS.items():
        for i, share in enumerate(every):
            if share in (0.5, config.quantized_share, every[-1]):
                for name in ("pruned", "retrained"):
                    what = f"{share:.0%} of {label}, {name}, {kilobytes(f'bytes_{name}/{kind}', i)}: test error, %"
                    yield compare(what, history[f"{name}/{kind}"][:, i])
    for name, net in (("dense", "whole net"), ("sparse", f"net without {config.quantized_share:.0%} of its weights")):
        for rounding, how in ROUNDINGS.items():
            for i, bits in enumerate(config.bits):
                size = kilobytes(f"bytes_quantized/{name}/{rounding}", i)
                yield compare(f"{net}, {bits} bits {how}, {size}: test error, %", history[f"quantized/{name}/{rounding}"][:, i])


def plot(record: Record) -> Mapping[str, Figure]:
    return {"pruning": draw_pruning(record), "bytes": draw_bytes(record)}


def draw_pruning(record: Record) -> Figure:
    """The error against the share that is left, with and without training on."""
    heading = f"784-{record.config['hidden']}-10 on digits: what is left after pruning, and the test error"
    figure, axes = figures.panels(1, 2, heading, size=(5.0, 3.9), sharey=True)
    left = 100 * (1 - np.array([0.0, *sorted(set(record.config["shares"]))]))
    titles = {"pruned": "as it is", "retrained": f"after {record.config['retrain_steps']} more steps"}
    for ax, (name, title) in zip(axes[0], titles.items(), strict=True):
        for kind, label in KINDS.items():
            figures.band(ax, left, record.history[f"{name}/{kind}"], COLOURS[kind], label)
            ax.lines[-1].set_marker("o")
            ax.lines[-1].set_markersize(4)
        ax.set_title(title, fontsize=10)
        ax.set(xscale="log", xlabel="left, %")
        ax.set_xticks([100, 30, 10, 3, 1], ["100", "30", "10", "3", "1"])
        ax.minorticks_off()
        ax.set_xlim(115, 0.87 * left.min())
        ax.set_ylim(0, 100)
    axes[0, 0].set_ylabel("test error, %")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def draw_bytes(record: Record) -> Figure:
    """The error of every compressed net against its bytes, to the left and down being better."""
    history, bits = record.history, record.config["bits"]
    figure, axes = figures.panels(1, 1, "What a net needs on disk, and its test error: medians over seeds", size=(7.6, 4.8))
    ax = axes[0, 0]
    median = lambda name: np.median(history[name], 0)  # noqa: E731
    ax.plot(median("bytes_retrained/weights") / 1000, median("retrained/weights"), "-o", color="0.6", markersize=4, label="pruned, float32")
    markers = {"full": "--s", "clipped": "-o"}
    for name, net, colour in (
        ("dense", "all weights", "#0072b2"),
        ("sparse", f"{1 - record.config['quantized_share']:.0%} left", "#d55e00"),
    ):
        for rounding, how in ROUNDINGS.items():
            x, y = median(f"bytes_quantized/{name}/{rounding}") / 1000, median(f"quantized/{name}/{rounding}")
            ax.plot(x, y, markers[rounding], color=colour, markersize=5, linewidth=1.2, label=f"{net}, bits {how}")
            for number, *at in zip(bits, x, y, strict=True) if rounding == "clipped" else ():
                ax.annotate(str(number), at, xytext=(0, -12), textcoords="offset points", fontsize=8, color=colour, ha="center")
    least = min(values.min() for name, values in history.items() if name.startswith(("retrained", "quantized")))
    ax.set(xscale="log", yscale="log", xlabel="kB; a number at a mark: bits of a weight", ylabel="test error, %")
    ax.set_ylim(0.75 * max(least, 0.5), 100)
    ax.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    ax.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    ax.minorticks_off()
    sizes = [values.min() for name, values in history.items() if name.startswith(("bytes_quantized", "bytes_retrained/weights"))]
    ax.set_xlim(0.8 * min(sizes) / 1000, 1.3 * history["bytes_float/dense"].max() / 1000)
    ax.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
