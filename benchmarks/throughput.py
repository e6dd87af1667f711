"""How fast does the loop train? Nets beside PyTorch and NumPy, self-organising maps beside MiniSom, in one run on the same digits.

Everyone does the same in the `mlp` works: a permutation an epoch, uint8 pixels to float32 / 255 in every step, softmax and
cross-entropy, plain gradient descent, the loss of every step kept (`benchmarks.peers`; a test holds losses and weights equal). Batch
1000 is the first 1,000 images, all of them in each step. An `mlp_sweep` is over learning rates of one seed, whose members share their
batches, and its rate is in model-steps: it stands beside one model of the peer. An `optimizer_grid` is 16 rates × 3 seeds of one of the
seven optimizers, beside PyTorch at three rates, one model after the other; it is named by its group too, such as
`optimizer_grid_batch10`, whose ratio is the median of the seven.

The `lenet` works are LeNet-5 with ReLU, batch 128, in the same way (`benchmarks.lenet_matches`): in the loop's scan, `stepped` by one
call a batch from Python, and on an accelerator in `bf16` too. `--only lenet` takes them all, as it takes all of any net. The `resnet`
works are residual nets on images of noise (`benchmarks.resnet_matches`); those of 18 and 50 layers are for accelerators.

The `som` works have 10 × 10 units; a model-step of theirs is one sample. `som_online` is what MiniSom does; `som_batch` is another
algorithm, beside MiniSom's online rule and its batch rule. `quality` lines give the quantization errors that training comes to.

Ours runs through `fit` and `sweep`; rates leave out compilation (or loading from the compilation cache), which is reported apart;
repeats are in turns, ratios medians of theirs. NumPy and PyTorch take their default number of threads or one, whichever is faster.
`ratio` lines are ours over theirs, above 1 is faster; `rate` lines give the achieved operations a second too, as a share of the best
float32 matrix product on the same device.

Source: lecture row 158 (S0:160-163), which names speed on CPU and GPU as what a framework is for; row 168 (S1:155-158).

Command: python -m benchmarks.throughput        (7 minutes on two CPU cores; --only mlp_batch10 20 s)
Expected on two CPU cores: 11 times PyTorch eager in mlp_batch10, 3 times in mlp_sweep8_batch1000, 11 and 5.7 times in the grids; NumPy's
rate 1.3 times or more. lenet_batch128 1.2 times PyTorch eager and 1.8 times torch.compile, stepped 1.15 and 1.7; resnet20_batch64 .74 of
PyTorch eager and .56 of torch.compile (with `--seconds 2`, 3 minutes). som_online presents 23 times MiniSom's samples a second, som_batch
121 times its online rule's and 100 times its batch rule's; ten passes of it come to a quantization error of 5.76, one pass online to 5.84,
MiniSom's to 5.79.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import lenet_matches, mlp_matches, resnet_matches, scales, som_matches
from benchmarks.race import Match, Scores, compete, matmul_rate
from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn.record import Comparison, Record, compare
from jaxnn.types import Batch, unknown


@dataclass(frozen=True)
class Config:
    only: tuple[str, ...] | None = None
    """Works to measure, such as mlp_batch10, or all of a net: mlp, optimizer, lenet, resnet20, som; None takes all."""
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
    """All that can be measured. A new net is a file of its own and an entry here."""
    default = (8, 32, 128) if jax.default_backend() == "cpu" else (8, 32, 128, 512, 4096)
    images = lenet_matches.matches(data) + resnet_matches.matches()
    return mlp_matches.matches(config.models or default, data) + images + som_matches.matches(data)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    dataset = command.load_digits(config.digits, "train")
    chosen = choose(matches(config, dataset.arrays), config.only)
    history: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    comparisons: list[Comparison] = []
    for match in chosen:
        part = " ".join(match.works)
        peak = float(keep.part(f"matmul {match.dtype}", partial(peak_of, match.dtype))["rate"])
        scores = Scores.of(keep.part(part, partial(race_of, match, config)))
        comparisons += report(match, scores, peak) + report_quality(match, keep.part(f"{part} quality", match.quality))
        for work in match.works:
            pairs = [("jaxnn", work), *((name, name) for name in match.peers if name in scores.rates)]
            history |= {f"rate/{work}/{who}": scores.rates[name] for who, name in pairs}
            history |= {f"flops/{work}": match.flops, f"peak/{work}": peak}
            history |= {f"compile_seconds/{work}/{who}": scores.compile_seconds[name] for who, name in pairs}
            skipped |= {f"{work}/{name}": why for name, why in scores.skipped.items()}
    comparisons += report_groups(comparisons)
    axes = {key: ("repeat",)[: np.ndim(value)] for key, value in history.items()}
    about = {"data": dataset.source, "skipped": skipped, "peers": versions("numpy", "torch", "minisom")}
    return command.Outcome(history, axes, comparisons, about)


def peak_of(dtype: str) -> dict[str, np.ndarray]:
    rate = matmul_rate(dtype)
    print(f"matmul {dtype} {rate / 1e9:.4g} GFLOP/s", flush=True)
    return {"rate": np.array(rate)}


def race_of(match: Match, config: Config) -> dict[str, np.ndarray]:
    return compete(match, config.seconds, config.repeats).arrays()


def choose(all_matches: Sequence[Match], only: Sequence[str] | None) -> list[Match]:
    """The works named, alone, as a group or as a net, with their peers. Raises `InputError` for a name that is not there."""
    known = {work: (net(work), group(work), work) for match in all_matches for work in match.works}
    names = dict.fromkeys(name for of_work in known.values() for name in of_work)
    for name in only or ():
        if name not in names:
            raise unknown("work", name, names)
    wanted = {work for work, of_work in known.items() if not only or not {*of_work}.isdisjoint(only)}
    kept = [match._replace(works={n: start for n, start in match.works.items() if n in wanted}) for match in all_matches]
    return [match for match in kept if match.works]


def net(work: str) -> str:
    """The first word of a work, which all works of a net share: `lenet` of `lenet_batch128_stepped`. They have no median in common."""
    return work.partition("_")[0]


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


def report(match: Match, scores: Scores, peak: float) -> list[Comparison]:
    """Print what was measured, one plain line each; return the ratios. `peak` is the rate of the best matrix product of that dtype."""
    for name, rates in scores.rates.items():
        rate, share = np.median(rates), np.median(rates) * match.flops / peak
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


def report_quality(match: Match, values: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Print what the contestants' training led to, and return it."""
    rows = [compare(f"{next(iter(match.works))}: {what}", [value]) for what, value in values.items()]
    for row in rows:
        print(f"quality {row.what} {row.median:.4g}", flush=True)
    return rows


def versions(*packages: str) -> dict[str, str]:
    installed = {d.name: d.version for d in importlib.metadata.distributions() if d.name in packages}
    return {name: installed.get(name, "not installed") for name in packages}


def plot(record: Record) -> Mapping[str, Figure]:
    """Rates, and the share of the device's matmul rate that they are."""
    history = record.history
    rates = draw(record, "Training steps a second of one model", "model-steps / s", lambda rate, work: rate)
    peaks = sorted({float(value) for key, value in history.items() if key.startswith("peak/")})
    label = f"% of the best matrix product of that dtype, {' and '.join(f'{peak / 1e9:.3g}' for peak in peaks)} GFLOP/s"
    share = lambda rate, work: 100 * rate * history[f"flops/{work}"] / history[f"peak/{work}"]  # noqa: E731
    shares = draw(record, "Achieved floating-point operations a second", label, share)
    return {"rates": rates, "share_of_matmul_rate": shares}


def draw(record: Record, title: str, label: str, quantity: Callable[[np.ndarray, str], np.ndarray]) -> Figure:
    """A row a work: everyone's median and range of repeats; beside it, how many times faster jaxnn is than each peer."""
    rates = {tuple(key.split("/")[1:]): values for key, values in record.history.items() if key.startswith("rate/")}
    works, names = ([*dict.fromkeys(column)] for column in zip(*rates, strict=True))
    size = (5.2, 1.2 + 0.3 * len(works))
    figure, axes = figures.panels(1, 2, title, size, sharey=True, gridspec_kw={"width_ratios": [2.2, 1]})
    ax = axes[0, 0]
    for (work, who), values in rates.items():
        row, column, colour = works.index(work), names.index(who), figures.COLOURS[names.index(who)]
        low, median, high = np.quantile(quantity(values, work), [0, 0.5, 1])
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
