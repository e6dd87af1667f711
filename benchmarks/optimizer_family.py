"""Which optimizer trains what fastest? The lecture's seven and today's, tuned on equal budgets, reported on fresh seeds.

For each workload (`benchmarks.workloads`) and optimizer:

1. Tuning: every learning rate of one log grid, the same for all, on the same seeds, which share their initial weights and their
   batches; one program, vmapped but for lenet. The chosen rate is that with the fewest steps until the validation accuracy exceeds the
   target, as the median over seeds; of equals, and where most seeds never reach it, that with the highest best validation accuracy. A
   rate at which any seed diverges is out. Everything else of an optimizer stays at its textbook default.
2. Report: the chosen rate, and the optimizer's default rate, on fresh seeds. Steps to the target; seconds to it, without compilation
   and with the evaluations, as a model's share of the sweep that it ran in; the best validation accuracy, and the test accuracy at
   that moment.

The performance profile counts pairs of workload and seed: the share that an optimizer solves within τ times the steps of the quickest.
The accuracy is measured before step 0 and up to 40 times a run; steps to the target are as fine as that.
What is finished is kept: after an interruption `--resume auto` goes on. Several devices share the members of a sweep.

Source: lecture rows 52-66 (S3:202-355); Schneider et al. 2019, arXiv:1903.05499 (DeepOBS: a log grid, ten fresh seeds); Schmidt et al.
2021, arXiv:2007.01547 (defaults do about as well as one tuned); Dahl et al. 2023, arXiv:2306.07179 (AlgoPerf: time to a target, profiles).

Command: python -m benchmarks.optimizer_family        (5 minutes on two CPU cores, 1.5 GB)
LeNet-5, to a validation accuracy above .95, 15 minutes on one core: python -m benchmarks.optimizer_family --workloads lenet
With the full MNIST: JAXNN_DATA=… python -m benchmarks.optimizer_family --data mnist --workloads sigmoid_30_30 sigmoid_30x6 algoperf_mnist
Expected on mnist_5k: with two hidden sigmoid layers all seven pass .92 within 136 to 240 steps, Nesterov's first; with six, Adam, Adagrad
and RMSprop alone leave chance, to .87, .61 and .58 on the test images. LeNet-5 passes .95 within 65 steps (RMSprop) to 110 (SGD, Adagrad).
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import workloads
from benchmarks.optimizer_figures import plot
from benchmarks.optimizer_results import Entry, choose, compare_entry, in_a_line, result, summary
from benchmarks.workloads import Budget, Workload
from experiments import command
from experiments.unfinished import NOTHING, Keep
from jaxnn import optimizers
from jaxnn.data import Dataset
from jaxnn.optimizers import SEVEN, Optimizer
from jaxnn.train import Run, sweep
from jaxnn.types import InputError, Learner


@dataclass(frozen=True)
class Config:
    optimizers: tuple[str, ...] = tuple(factory.__name__ for factory in SEVEN)
    """Any of jaxnn.optimizers: the seven, nadam, adamw, lion, muon, schedule_free_adamw, prodigy, lbfgs."""
    workloads: tuple[str, ...] = ("sigmoid_30_30", "sigmoid_30x6")
    """logistic, sigmoid_30_30, sigmoid_30x6, relu_256_256, lenet, algoperf_mnist."""
    low: float = 10**-3.5
    """Lowest learning rate of the grid."""
    high: float = 10**1.5
    """Highest learning rate of the grid."""
    rates: int | None = None
    """Learning rates; None takes the workload's: 16, for relu_256_256 and lenet 8."""
    tuning_seeds: int | None = None
    """None takes the workload's: 3, for relu_256_256 and lenet 1."""
    report_seeds: int | None = None
    """Fresh ones; None takes the workload's: 10, for relu_256_256 and lenet 5."""
    epochs: float | None = None
    """None takes the workload's: 20, for relu_256_256 and lenet 6, for algoperf_mnist 10, which are its 7,813 steps."""
    evaluations: int = 40
    """Looks at the validation images in a run, at most, beside that before step 0."""
    target: float | None = None
    """Validation accuracy to exceed; None takes the workload's for the data set."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    sharing: command.SharingFields = field(default_factory=command.Sharing)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        seeds = {"tuning_seeds": self.tuning_seeds, "report_seeds": self.report_seeds}
        command.at_least(1, rates=self.rates, evaluations=self.evaluations, **seeds)
        if not 0 < self.low <= self.high < float("inf"):
            raise InputError(f"--low and --high must be learning rates with 0 < low ≤ high, got {self.low} and {self.high}")
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise InputError(f"--epochs must be above 0, got {self.epochs}")
        if self.target is not None and not 0 < self.target < 1:
            raise InputError(f"--target must be an accuracy between 0 and 1, got {self.target}")
        for flag in ("optimizers", "workloads"):
            if getattr(self, flag) == ():
                raise InputError(f"--{flag} needs at least one")
        for names, find in ((self.optimizers, optimizers.by_name), (self.workloads, workloads.by_name)):
            for name in names:
                find(name)

    def budget(self, workload: Workload) -> Budget:
        own = {name: getattr(self, name) for name in Budget._fields}
        return workload.budget._replace(**{name: value for name, value in own.items() if value is not None})


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train, test = (command.load_digits(config.digits, part) for part in ("train", "test"))
    targets = {name: config.target or workloads.by_name(name).target(train.source.name) for name in config.workloads}
    entries = [Entry(workload, optimizer) for workload in targets for optimizer in dict.fromkeys(config.optimizers)]
    history: dict[str, np.ndarray] = {}
    of = {"train": train.source.sha256, "test": test.source.sha256}
    for number, entry in enumerate(entries, 1):
        label = f"{entry.optimizer} on {entry.workload} ({number}/{len(entries)})"
        found = keep.part(label, partial(measure, entry, config, train, test, targets[entry.workload], label, keep), of)
        keep.forget(f"{label}, tuning", f"{label}, report")
        history |= {entry.key(name): values for name, values in found.items()}
        print(f"{label}: {in_a_line(entry, history, targets)}", flush=True)
    print(summary(entries, history, targets), flush=True)
    about = {
        "data": train.source,
        "test_data": test.source,
        "budgets": {name: config.budget(workloads.by_name(name))._asdict() for name in targets},
        "targets": targets,
        "entries": [entry._asdict() for entry in entries],
        "seconds": {part: round(float(sum(history[entry.key(f"{part}_seconds")] for entry in entries)), 2) for part in ("compile", "run")},
    }
    comparisons = [row for entry in entries for row in compare_entry(entry, history, targets[entry.workload])]
    axes = {entry.key(name): names for entry in entries for name, names in AXES.items()}
    return command.Outcome(history, axes, comparisons, about)


AXES = {
    "rates": ("rate",),
    "tuning_best": ("seed", "rate"),
    "tuning_steps": ("seed", "rate"),
    "tuning_diverged_at": ("seed", "rate"),
    "reported_rates": ("tuned_and_default",),
    "evaluated_at": ("evaluation",),
    "validation_accuracy": ("seed", "tuned_and_default", "evaluation"),
    "test_accuracy": ("seed", "tuned_and_default", "evaluation"),
    "diverged_at": ("seed", "tuned_and_default"),
    "step_seconds": (),
    "compile_seconds": (),
    "run_seconds": (),
}


def measure(
    entry: Entry, config: Config, train: Dataset, test: Dataset, target: float, label: str, keep: Keep = NOTHING
) -> dict[str, np.ndarray]:
    """Tune one optimizer on one workload, and report it on fresh seeds."""
    workload, make_optimizer = workloads.by_name(entry.workload), optimizers.by_name(entry.optimizer)
    budget, (data, validation) = config.budget(workload), workloads.split(train.arrays)
    steps = workload.steps(budget.epochs, data)
    both, evaluated_on_both = workloads.on_both(validation, test.arrays)

    learner = partial(workload.learner, make_optimizer)
    train_all: Callable[..., Run] = partial(
        sweep,
        data=data,
        batch_size=workload.batch_size,
        num_steps=steps,
        eval_every=math.ceil(steps / config.evaluations),
        how=workload.how,
        **config.sharing.out(),
    )
    tuning_key, report_key = jax.random.split(jax.random.key(0))
    rates = np.geomspace(config.low, config.high, budget.rates)
    grid = {"learning_rate": rates}
    seeds, name = budget.tuning_seeds, f"{label}, tuning"
    tuning = train_all(
        learner, tuning_key, seeds=seeds, axes=grid, eval_data=validation, checkpoint=keep.checkpoint(name), label=name
    ).history
    tuned = result(tuning.evaluation["accuracy"], tuning.evaluated_at, tuning.diverged_at, target)
    reported = np.array([rates[choose(tuned)], default_rate(make_optimizer)])

    def reporter(learning_rate: Any) -> Learner:
        return evaluated_on_both(learner(learning_rate))

    pair = {"learning_rate": reported}
    seeds, name = budget.report_seeds, f"{label}, report"
    report = train_all(reporter, report_key, seeds=seeds, axes=pair, eval_data=both, checkpoint=keep.checkpoint(name), label=name).history
    return {
        "rates": rates,
        "tuning_best": tuned.best,
        "tuning_steps": tuned.steps,
        "tuning_diverged_at": tuning.diverged_at,
        "reported_rates": reported,
        "evaluated_at": report.evaluated_at,
        "validation_accuracy": report.evaluation["validation_accuracy"].astype(np.float32),
        "test_accuracy": report.evaluation["test_accuracy"].astype(np.float32),
        "diverged_at": report.diverged_at,
        "step_seconds": np.array(report.run_seconds / (report.diverged_at.size * steps)),
        "compile_seconds": np.array(tuning.compile_seconds + report.compile_seconds),
        "run_seconds": np.array(tuning.run_seconds + report.run_seconds),
    }


def default_rate(make_optimizer: Callable[..., Optimizer]) -> float:
    """What the optimizer takes when it is given no learning rate."""
    return inspect.signature(make_optimizer).parameters["learning_rate"].default


if __name__ == "__main__":
    command.main(Config, run, plot)
