"""What `benchmarks.optimizer_family` reads off its accuracies: steps to a target, the chosen rate, summary table, performance profile."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.command import number
from jaxnn.record import Comparison, compare

TUNED, DEFAULT = 0, 1
"""Places on the axis `tuned_and_default` of a report."""
PROFILE_TO = 4.0
"""The performance profile is integrated up to so many times the steps of the quickest, as AlgoPerf does."""
QUARTILES = (0.25, 0.5, 0.75)

History = Mapping[str, np.ndarray]


class Entry(NamedTuple):
    """One optimizer on one workload."""

    workload: str
    optimizer: str

    def key(self, quantity: str) -> str:
        return f"{quantity}/{self.workload}/{self.optimizer}"


class Result(NamedTuple):
    """Of runs (...,); NaN for those that diverged."""

    steps: np.ndarray
    """Until the validation accuracy first exceeds the target; NaN where it never does."""
    best: np.ndarray
    """The best validation accuracy."""
    best_at: np.ndarray
    """Which evaluation that is."""
    diverged_at: np.ndarray


def result(accuracy: np.ndarray, evaluated_at: np.ndarray, diverged_at: np.ndarray, target: float) -> Result:
    """`accuracy` (..., evaluations) on the validation split."""
    alive, reached = diverged_at < 0, accuracy > target
    steps = np.where(reached.any(-1) & alive, evaluated_at[reached.argmax(-1)], np.nan)
    return Result(steps, np.where(alive, accuracy.max(-1), np.nan), accuracy.argmax(-1), diverged_at)


def choose(tuning: Result) -> int:
    """The rate with the fewest median steps, of equals that with the highest median best accuracy; (seeds, rates) -> index.

    A rate at which a seed diverged comes after all others; the lowest rate is taken where each is one of those.
    """
    out = (tuning.diverged_at >= 0).any(0)
    steps = np.where(out, np.inf, np.median(unreached_last(tuning.steps), 0))
    best = np.where(out, -np.inf, np.median(tuning.best, 0))
    return int(np.lexsort((-best, steps, out))[0])


def unreached_last(steps: np.ndarray) -> np.ndarray:
    """Steps with inf in place of NaN, so that a median counts those that never reach the target."""
    return np.where(np.isnan(steps), np.inf, steps)


class Report(NamedTuple):
    """One optimizer at one of its two rates, over fresh seeds, (seeds,)."""

    rate: float
    steps: np.ndarray
    seconds: np.ndarray
    validation: np.ndarray
    """The best validation accuracy."""
    test: np.ndarray
    """The test accuracy at that moment."""
    diverged: int


def report(entry: Entry, history: History, target: float, which: int) -> Report:
    validation, test, diverged_at = (history[entry.key(name)][:, which] for name in ("validation_accuracy", "test_accuracy", "diverged_at"))
    found = result(validation, history[entry.key("evaluated_at")], diverged_at, target)
    at_best = np.take_along_axis(test, found.best_at[:, None], 1)[:, 0]
    seconds = found.steps * history[entry.key("step_seconds")]
    test_at_best = np.where(diverged_at < 0, at_best, np.nan)
    rate = float(history[entry.key("reported_rates")][which])
    return Report(rate, found.steps, seconds, found.best, test_at_best, int((diverged_at >= 0).sum()))


COLUMNS = ("optimizer", "rate", "steps to target", "seconds", "best validation %", "its test %")


def summary(entries: Sequence[Entry], history: History, targets: Mapping[str, float]) -> str:
    """A Markdown table a workload: medians and quartiles over fresh seeds, at the tuned and at the default rate."""
    return "\n\n".join(_table(workload, [e for e in entries if e.workload == workload], history, targets) for workload in targets)


def _table(workload: str, entries: Sequence[Entry], history: History, targets: Mapping[str, float]) -> str:
    target = targets[workload]
    header = (*COLUMNS, *(f"default {name}" for name in ("rate", "steps", "its test %")))
    rows = [(entry.optimizer, *_cells(entry, history, target)) for entry in entries]
    table = [header, ("---",) * len(header), *rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"{workload}, validation accuracy above {target:.4g}: median [quartiles] over fresh seeds\n\n{lines}"


def _cells(entry: Entry, history: History, target: float) -> tuple[str, ...]:
    tuned, default = (report(entry, history, target, which) for which in (TUNED, DEFAULT))
    rates = history[entry.key("rates")]
    at_edge = "" if len(rates) < 3 or rates[0] < tuned.rate < rates[-1] else " (edge)"
    return (
        number(tuned.rate) + at_edge,
        to_target(tuned.steps, tuned.diverged, ",.0f"),
        to_target(tuned.seconds, tuned.diverged, ".3g"),
        percent(tuned.validation, tuned.diverged),
        percent(tuned.test, tuned.diverged),
        number(default.rate),
        to_target(default.steps, default.diverged, ",.0f"),
        percent(default.test, default.diverged),
    )


def quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Those of values of which some may be infinite: between a finite and an infinite one lies an infinite one.

    >>> quantiles(np.array([10.0, 20.0, np.inf, np.inf]), [0, 0.25, 0.5])
    array([10. , 17.5,  inf])
    """
    with np.errstate(invalid="ignore"):  # ∞ - ∞ and 0 · ∞, in NumPy's interpolation
        found = np.quantile(values, at)
    return np.where(np.isnan(found), np.quantile(values, at, method="higher"), found)


def to_target(values: np.ndarray, diverged: int, form: str) -> str:
    """Median and quartiles of steps or seconds, with those that never reach the target as the slowest; how many reach it."""
    if diverged == len(values):
        return "all diverged"
    reached = np.isfinite(values).sum()
    if reached == 0:
        return "never"
    text, share = _spread(quantiles(unreached_last(values), QUARTILES), form), f"{reached} of {len(values)}"
    if reached == len(values):
        return text
    return f"{text} ({share})" if text else share


def percent(accuracy: np.ndarray, diverged: int) -> str:
    """Median and quartiles without those that diverged; how many did."""
    if diverged == len(accuracy):
        return "all diverged"
    text = _spread(100 * quantiles(accuracy[np.isfinite(accuracy)], QUARTILES), ".2f")
    return f"{text} ({diverged} of {len(accuracy)} diverged)" if diverged else text


def _spread(quartiles: np.ndarray, form: str) -> str:
    """`median [low, high]`, as far as they are finite."""
    low, median, high = (f"{value:{form}}" for value in quartiles)
    return f"{median} [{low}, {high}]" if np.isfinite(quartiles[2]) else median if np.isfinite(quartiles[1]) else ""


def in_a_line(entry: Entry, history: History, targets: Mapping[str, float]) -> str:
    """What came out for one optimizer on one workload."""
    tuned = report(entry, history, targets[entry.workload], TUNED)
    steps, test = to_target(tuned.steps, tuned.diverged, ",.0f"), percent(tuned.test, tuned.diverged)
    return f"rate {number(tuned.rate)}, steps {steps}, test {test} %, {history[entry.key('run_seconds')]:.0f} s"


def compare_entry(entry: Entry, history: History, target: float) -> Iterator[Comparison]:
    """Steps to the target, and test accuracy, tuned and at the default rate."""
    for which, name in ((TUNED, "tuned"), (DEFAULT, "default")):
        found = report(entry, history, target, which)
        title = f"{entry.workload}, {entry.optimizer}, {name} rate {number(found.rate)}"
        diverged = history[entry.key("diverged_at")][:, which] >= 0
        reached = np.isfinite(found.steps)
        if reached.any():
            yield compare(f"{title}: steps to {target:.4g} ({reached.sum()} of {reached.size} reach it)", found.steps[reached])
        yield compare(f"{title}: test accuracy at best validation", found.test, diverged=diverged)


def profile(entries: Sequence[Entry], history: History, targets: Mapping[str, float], which: int) -> dict[str, np.ndarray]:
    """Each optimizer's steps over those of the quickest, for every pair of workload and seed that anyone solves; inf where it does not."""
    names = list(dict.fromkeys(entry.optimizer for entry in entries))
    steps = {
        name: np.concatenate([report(Entry(w, name), history, target, which).steps for w, target in targets.items()]) for name in names
    }
    table = unreached_last(np.stack([steps[name] for name in names]))
    quickest = table.min(0)
    solved = np.isfinite(quickest)
    return {name: row[solved] / np.maximum(quickest[solved], 1) for name, row in zip(names, table, strict=True)}


def score(ratios: np.ndarray) -> float:
    """The performance profile's mean over τ from 1 to PROFILE_TO: 1 for an optimizer that is always the quickest.

    >>> score(np.array([1.0, 4.0, np.inf, 2.5]))
    0.375
    """
    return float(np.mean(np.clip((PROFILE_TO - ratios) / (PROFILE_TO - 1), 0, 1))) if len(ratios) else 0.0


def scores(entries: Sequence[Entry], history: History, targets: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Each optimizer's profile score, tuned and at its default rate."""
    tuned, default = (profile(entries, history, targets, which) for which in (TUNED, DEFAULT))
    return {name: (score(tuned[name]), score(default[name])) for name in tuned}
