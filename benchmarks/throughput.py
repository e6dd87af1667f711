"""How fast does the loop train? Steps/s of [784,30,30,10] alone and in sweeps, beside PyTorch and NumPy, in one run on the same digits.

Everyone does the same in the `mlp` works: a permutation an epoch, uint8 pixels to float32 / 255 in every step, softmax and
cross-entropy, plain gradient descent, the loss of every step kept (`benchmarks.peers`; a test holds losses and weights equal). Batch
1000 is the first 1,000 images, all of them in each step. An `mlp_sweep` is over learning rates of one seed, whose members share their
batches, and its rate is in model-steps: it stands beside one model of the peer. An `optimizer_grid` is 16 rates × 3 seeds of one of the
seven optimizers, beside PyTorch at three rates, one model after the other; it is named by its group too, such as
`optimizer_grid_batch10`, whose ratio is the median of the seven.

Ours runs through `fit` and `sweep`; rates leave out compilation (or loading from the compilation cache), which is reported apart;
repeats are in turns, ratios medians of theirs. NumPy and PyTorch take their default number of threads or one, whichever is faster.
`ratio` lines are ours over theirs, above 1 is faster; `rate` lines give the achieved operations a second too, as a share of the best
float32 matrix product on the same device.

Source: lecture row 158 (S0:160-163), which names speed on CPU and GPU as what a framework is for; row 168 (S1:155-158).

Command: python -m benchmarks.throughput        (4 minutes on two CPU cores; --only mlp_batch10 20 s)
Expected on two CPU cores: 11 times PyTorch eager in mlp_batch10, 3 times in mlp_sweep8_batch1000, 11 and 5.7 times in the grids; NumPy's
rate 1.3 times or more.
"""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import peers, scales, workloads
from benchmarks.race import Match, Scores, compete, faster, matmul_rate, ours, peer
from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses, optimizers
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, fit, sweep
from jaxnn.types import Batch, Learner, unknown

BATCHES = (1, 10, 100, 1000)
FULL_BATCH = 1000
LEARNING_RATE = 0.1
GRID_RATES = (0.001, 0.01, 0.1)
"""What PyTorch trains of a grid; ours has 16 rates between the first and the last."""


@dataclass(frozen=True)
class Config:
    only: tuple[str, ...] | None = None
    """Works to measure, such as mlp_batch10 or mlp_sweep8_batch1000; None takes all."""
    models: tuple[int, ...] | None = None
    """Sizes of the sweeps; None takes 8, 32, 128, and on an accelerator 512 and 4096 too."""
    repeats: int = 5
    """Timed runs of each."""
    seconds: float = 0.4
    """Length of a timed run, about."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, models=self.models, repeats=self.repeats)


def matches(config: Config, data: Batch) -> list[Match]:
    """All that can be measured. A new net is one entry here."""
    default = (8, 32, 128) if jax.default_backend() == "cpu" else (8, 32, 128, 512, 4096)
    mlps = [mlp(batch_size, config.models or default, data) for batch_size in BATCHES]
    return mlps + [optimizer_grid(name, batch_size, data) for batch_size in (10, 100) for name in peers.TORCH_OPTIMIZERS]


def mlp(batch_size: int, sizes: Iterable[int], data: Batch) -> Match:
    """[784,30,30,10] with sigmoid units: alone, in sweeps over learning rates, and elsewhere."""
    if batch_size == FULL_BATCH:
        data = {name: rows[:FULL_BATCH] for name, rows in data.items()}
    net = mlp_learner(LEARNING_RATE)
    layers = mlp_layers(net, data)
    flops = mlp_flops(layers, batch_size)
    guess = 15e-6 + flops / 30e9

    def alone(num_steps: int) -> Run:
        return fit(net, jax.random.key(0), data, batch_size=batch_size, num_steps=num_steps, label=None)

    def swept(models: int, num_steps: int) -> Run:
        rates = {"learning_rate": np.geomspace(LEARNING_RATE / 10, LEARNING_RATE, models)}
        return sweep(mlp_learner, jax.random.key(0), data, seeds=1, axes=rates, batch_size=batch_size, num_steps=num_steps, label=None)

    works = {f"mlp_batch{batch_size}": ours(alone, 1, guess)}
    works |= {f"mlp_sweep{models}_batch{batch_size}": ours(partial(swept, models), models, models * guess) for models in sizes}
    theirs = {name: peer(partial(start, layers, data, batch_size)) for name, start in PEERS.items()}
    return Match(works, theirs, flops)


def optimizer_grid(name: str, batch_size: int, data: Batch) -> Match:
    """The tuning grid of `benchmarks.optimizer_family`, 16 rates × 3 seeds as one program; PyTorch trains one model after the other."""
    make_optimizer = optimizers.by_name(name)
    layers = mlp_layers(mlp_learner(LEARNING_RATE), data)
    rates = {"learning_rate": np.geomspace(GRID_RATES[0], GRID_RATES[-1], 16)}

    def learner(learning_rate: Any) -> Learner:
        return workloads.WORKLOADS["sigmoid_30_30"].learner(make_optimizer, learning_rate)

    def swept(num_steps: int) -> Run:
        return sweep(learner, jax.random.key(0), data, seeds=3, axes=rates, batch_size=batch_size, num_steps=num_steps, label=None)

    flops = mlp_flops(layers, batch_size)
    theirs = {"torch_eager": peer(partial(start_torch_grid, layers, data, batch_size, name))}
    return Match({f"optimizer_grid_batch{batch_size}.{name}": ours(swept, 48, 48 * (50e-6 + flops / 60e9))}, theirs, flops)


def mlp_learner(learning_rate: float) -> Learner:
    loss = losses.softmax_cross_entropy_with_integer_labels
    return supervised(*functional(MLP((30, 30, 10))), loss, optax.sgd(learning_rate))


def mlp_layers(net: Learner, data: Batch) -> peers.Layers:
    """The weights that a learner's training starts from, for the peers."""
    params = net.init(jax.random.key(0), {name: jnp.asarray(rows[:1]) for name, rows in data.items()}).variables["params"]
    return [(np.array(layer["kernel"]), np.array(layer["bias"])) for layer in params.values()]


def mlp_flops(layers: peers.Layers, batch_size: int) -> int:
    """2B(3 Σ_l m_l n_l - m_1 n_1) of a training step, for kernels m_l × n_l.

    A product of B × m by m × n is 2Bmn operations: one a layer forward, one for its kernel's gradient, and one for its input's, which
    the first layer does without. Elementwise work is not counted.
    """
    products = [kernel.size for kernel, _ in layers]
    return 2 * batch_size * (3 * sum(products) - products[0])


def start_numpy(layers: peers.Layers, data: Batch, batch_size: int) -> Callable[[int], object]:
    """NumPy with its default number of threads, or with one where that is faster: two wait for each other on a busy machine."""
    by_hand = advance(peers.numpy_mlp(layers, LEARNING_RATE), data, batch_size)
    candidates = {threads: peers.in_blas_threads(by_hand, threads) for threads in (None, 1)}
    return candidates[faster(candidates)]


def start_torch(layers: peers.Layers, data: Batch, batch_size: int, *, compiled: bool) -> Callable[[int], object]:
    """PyTorch, eager or compiled, with the better of the same two for eager."""
    device = peers.torch_device(jax.default_backend())
    eager = advance(peers.torch_mlp(layers, LEARNING_RATE, device), data, batch_size)
    threads = faster({number: peers.in_torch_threads(eager, number) for number in (peers.torch_default_threads(), 1)})
    if not compiled:
        return peers.in_torch_threads(eager, threads)
    return peers.in_torch_threads(advance(peers.torch_mlp(layers, LEARNING_RATE, device, compiled), data, batch_size), threads)


def start_torch_grid(layers: peers.Layers, data: Batch, batch_size: int, optimizer: str) -> Callable[[int], object]:
    """A third of the steps at each of three rates, one model after the other, with PyTorch's default number of threads or one."""
    device = peers.torch_device(jax.default_backend())
    models = [advance(peers.torch_mlp(layers, rate, device, optimizer=optimizer), data, batch_size) for rate in GRID_RATES]

    def one_after_the_other(num_steps: int) -> None:
        for number, model in enumerate(models):
            if steps := (num_steps + number) // len(models):
                model(steps)

    threads = faster({number: peers.in_torch_threads(one_after_the_other, number) for number in (peers.torch_default_threads(), 1)})
    return peers.in_torch_threads(one_after_the_other, threads)


def advance(made: peers.Peer, data: Batch, batch_size: int) -> Callable[[int], object]:
    """A peer's `advance(num_steps)`."""
    data = {key: made.put(rows) for key, rows in data.items()}
    return lambda num_steps: peers.train(made, data, batch_size, num_steps, np.random.default_rng(0))


PEERS: dict[str, Callable[..., Callable[[int], object]]] = {
    "numpy": start_numpy,
    "torch_eager": partial(start_torch, compiled=False),
    "torch_compile": partial(start_torch, compiled=True),
}


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    dataset = command.load_digits(config.digits, "train")
    chosen = choose(matches(config, dataset.arrays), config.only)
    device_rate = float(keep.part("matmul", lambda: {"rate": np.array(matmul_rate())})["rate"])
    print(f"matmul {device_rate / 1e9:.4g} GFLOP/s", flush=True)
    history: dict[str, Any] = {"matmul_rate": device_rate}
    skipped: dict[str, str] = {}
    comparisons: list[Comparison] = []
    for match in chosen:
        part = " ".join(match.works)
        scores = Scores.of(keep.part(part, partial(race_of, match, config)))
        comparisons += report(match, scores, device_rate)
        for work in match.works:
            pairs = [("jaxnn", work), *((name, name) for name in match.peers if name in scores.rates)]
            history |= {f"rate/{work}/{who}": scores.rates[name] for who, name in pairs} | {f"flops/{work}": match.flops}
            history |= {f"compile_seconds/{work}/{who}": scores.compile_seconds[name] for who, name in pairs}
            skipped |= {f"{work}/{name}": why for name, why in scores.skipped.items()}
    comparisons += report_groups(comparisons)
    axes = {key: ("repeat",)[: np.ndim(value)] for key, value in history.items()}
    about = {"data": dataset.source, "skipped": skipped, "peers": versions("numpy", "torch")}
    return command.Outcome(history, axes, comparisons, about)


def race_of(match: Match, config: Config) -> dict[str, np.ndarray]:
    return compete(match, config.seconds, config.repeats).arrays()


def choose(all_matches: Sequence[Match], only: Sequence[str] | None) -> list[Match]:
    """The works named, alone or as a group, with their peers. Raises `InputError` for a name that is not there."""
    known = [work for match in all_matches for work in match.works]
    names = dict.fromkeys(name for work in known for name in (group(work), work))
    for name in only or ():
        if name not in names:
            raise unknown("work", name, names)
    wanted = {work for work in known if not only or work in only or group(work) in only}
    kept = [match._replace(works={n: start for n, start in match.works.items() if n in wanted}) for match in all_matches]
    return [match for match in kept if match.works]


def group(work: str) -> str:
    """What several works are measured for together: `optimizer_grid_batch10` of `optimizer_grid_batch10.adam`, else the work itself."""
    return work.partition(".")[0]


def report_groups(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Print the median ratio of each group of works, and return it."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in comparisons:
        work, _, name = row.what.partition(" / ")
        if group(work) != work:
            ratios.setdefault((group(work), name), []).append(row.median)
    medians = [compare(f"{work} / {name}, median of {len(values)}", [np.median(values)]) for (work, name), values in ratios.items()]
    for (work, name), row in zip(ratios, medians, strict=True):
        print(f"ratio {work} {name} {row.median:.3g}", flush=True)
    return medians


def report(match: Match, scores: Scores, device_rate: float) -> list[Comparison]:
    """Print what was measured, one plain line each; return the ratios."""
    for name, rates in scores.rates.items():
        rate, share = np.median(rates), np.median(rates) * match.flops / device_rate
        compiled = f"compiled in {scores.compile_seconds[name]:.1f} s"
        where = "" if name in match.works else f" beside {next(iter(match.works))}"
        print(f"rate {name}{where}: {rate:.4g} model-steps/s, {share:.2g} of the matmul rate, {compiled}", flush=True)
    comparisons = []
    for work in match.works:
        for name in match.peers:
            if name in scores.skipped:
                print(f"skipped {work} {name} {scores.skipped[name]}", flush=True)
                continue
            comparisons.append(compare(f"{work} / {name}", scores.rates[work] / scores.rates[name]))
            print(f"ratio {work} {name} {comparisons[-1].median:.3g}", flush=True)
    return comparisons


def versions(*packages: str) -> dict[str, str]:
    installed = {d.name: d.version for d in importlib.metadata.distributions() if d.name in packages}
    return {name: installed.get(name, "not installed") for name in packages}


def plot(record: Record) -> Mapping[str, Figure]:
    """Rates, and the share of the device's matmul rate that they are."""
    device = record.history["matmul_rate"]
    rates = draw(record, "Training steps a second of one model", "model-steps / s", lambda rate, flops: rate)
    label = f"% of the best float32 matrix product, {device / 1e9:.3g} GFLOP/s"
    shares = draw(record, "Achieved floating-point operations a second", label, lambda rate, flops: 100 * rate * flops / device)
    return {"rates": rates, "share_of_matmul_rate": shares}


def draw(record: Record, title: str, label: str, quantity: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Figure:
    """A row a work: everyone's median and range of repeats; beside it, how many times faster jaxnn is than each peer."""
    rates = {tuple(key.split("/")[1:]): values for key, values in record.history.items() if key.startswith("rate/")}
    works, names = ([*dict.fromkeys(column)] for column in zip(*rates, strict=True))
    size = (5.2, 1.2 + 0.3 * len(works))
    figure, axes = figures.panels(1, 2, title, size, sharey=True, gridspec_kw={"width_ratios": [2.2, 1]})
    ax = axes[0, 0]
    for (work, who), values in rates.items():
        row, column, colour = works.index(work), names.index(who), figures.COLOURS[names.index(who)]
        low, median, high = np.quantile(quantity(values, record.history[f"flops/{work}"]), [0, 0.5, 1])
        ax.plot([low, high], [row, row], color=colour, linewidth=2.5, alpha=0.4)
        ax.plot(median, row, "osD^v"[column % 5], color=colour, markersize=7, label=who if row == 0 else None)
        if column:
            text = f"{np.median(rates[work, 'jaxnn'] / values):.3g}×"
            axes[0, 1].text(column, row, text, ha="center", va="center", fontsize=10)
    ax.set(xscale="log", xlabel=label, yticks=range(len(works)), yticklabels=works, ylim=(len(works) - 0.5, -0.5))
    scales.plain(ax.xaxis)
    draw_table(axes[0, 1], names[1:])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def draw_table(ax: Axes, names: Sequence[str]) -> None:
    ax.set(xlim=(0.5, len(names) + 0.5) if names else (0, 1), xticks=range(1, len(names) + 1), xticklabels=names)
    ax.set_title("rate of jaxnn over that of", fontsize=9)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0, labelleft=False, labelsize=8)


if __name__ == "__main__":
    command.main(Config, run, plot)
