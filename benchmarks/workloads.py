"""What optimizers are compared on: a net, its batches, its budget, and the validation accuracy to reach. A new one is one entry."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnn import activations, losses
from jaxnn.learners import supervised
from jaxnn.learners.supervised import image_and_label
from jaxnn.models import MLP, LeNet5, functional
from jaxnn.models.functional import Module
from jaxnn.optimizers import Optimizer
from jaxnn.types import Batch, InputError, Learner, unknown

VALIDATION = 6
"""One sixth of the training images, the last, is the validation split: 50,000 and 10,000 of MNIST, as AlgoPerf has it."""


class Budget(NamedTuple):
    """What every optimizer may spend on a workload."""

    rates: int = 16
    tuning_seeds: int = 3
    report_seeds: int = 10
    epochs: float = 20


class Workload(NamedTuple):
    """A supervised classifier of images, trained on the softmax's cross-entropy."""

    about: str
    model: Module
    targets: Mapping[str, float]
    """The validation accuracy to exceed, by data set."""
    batch_size: int = 100
    budget: Budget = Budget()
    preprocess: Callable[[Batch], tuple[Array, Array]] = image_and_label
    how: Literal["vmap", "map"] = "vmap"
    """How the members of a sweep run: all at once, or one after the other where that is quicker."""

    def learner(self, make_optimizer: Callable[..., Optimizer], learning_rate: Array | float) -> Learner:
        loss, metrics = losses.softmax_cross_entropy_with_integer_labels, {"accuracy": losses.accuracy}
        return supervised(*functional(self.model), loss, make_optimizer(learning_rate), preprocess=self.preprocess, metrics=metrics)

    def steps(self, epochs: float, data: Batch) -> int:
        """Whole steps in that many epochs of `data`, at least one."""
        return max(1, round(epochs * len(data["label"]) / self.batch_size))

    def target(self, data: str) -> float:
        if data not in self.targets:
            known = " and ".join(self.targets)
            raise InputError(f"no target is set for {data}, only for {known}; give the validation accuracy to exceed with --target")
        return self.targets[data]


def standardised(batch: Batch) -> tuple[Float[Array, "B H W C"], Array]:
    """Pixels from 0 … 1, less MNIST's mean .1307, over its standard deviation .3081."""
    x, y = image_and_label(batch)
    return (x - 0.1307) / 0.3081, y


WORKLOADS = {
    "logistic": Workload("logistic regression [784,10]", MLP((10,)), {"mnist": 0.92, "mnist_5k": 0.89}),
    "sigmoid_30_30": Workload("[784,30,30,10] sigmoid", MLP((30, 30, 10)), {"mnist": 0.95, "mnist_5k": 0.92}),
    "sigmoid_30x6": Workload("[784,30,30,30,30,30,30,10] sigmoid", MLP((30,) * 6 + (10,)), {"mnist": 0.93, "mnist_5k": 0.5}),
    "relu_256_256": Workload(
        "[784,256,256,10] ReLU",
        MLP((256, 256, 10), activations.relu),
        {"mnist": 0.975, "mnist_5k": 0.94},
        budget=Budget(rates=8, tuning_seeds=1, report_seeds=5, epochs=6),
    ),
    "lenet": Workload(
        "LeNet-5 of 61,706 parameters, ReLU and max pooling",
        LeNet5(),
        {"mnist": 0.985, "mnist_5k": 0.95},
        budget=Budget(rates=8, tuning_seeds=1, report_seeds=5, epochs=6),
        how="map",  # a model-step in .7 of vmap's time on a CPU, where a convolution by many kernels is a batched matrix product
    ),
    "algoperf_mnist": Workload(
        "AlgoPerf's MNIST, [784,128,10] sigmoid",
        MLP((128, 10)),
        {"mnist": 0.97, "mnist_5k": 0.92},
        batch_size=64,
        budget=Budget(epochs=7813 * 64 / 50_000),
        preprocess=standardised,
    ),
}
"""By name. AlgoPerf's own code (github.com/mlcommons/algorithmic-efficiency, workloads/mnist) confirms one hidden layer of 128 sigmoid
units, softmax and cross-entropy, the split of 50,000, 10,000 and 10,000, 7,813 steps as ten epochs of batch 64, and an accuracy above
.97 on validation and on test. Its inputs are (x - .1307)/.3081 with x from 0 to 255 in JAX; here x is from 0 to 1, where that mean and
that deviation are MNIST's."""


def by_name(name: str) -> Workload:
    """The workload of that name; an InputError names the nearest where there is none."""
    if name not in WORKLOADS:
        raise unknown("workload", name, WORKLOADS)
    return WORKLOADS[name]


def split(data: Batch) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training, validation) images and labels."""
    held_out = len(data["label"]) // VALIDATION
    return {name: rows[:-held_out] for name, rows in data.items()}, {name: rows[-held_out:] for name, rows in data.items()}


def on_both(validation: Batch, test: Batch) -> tuple[dict[str, np.ndarray], Callable[[Learner], Learner]]:
    """Both splits as one set, and what makes a learner report `validation_…` and `test_…` on it.

    The mean of each such metric over the whole set is the mean over its own split.
    """
    counts = {"validation": len(validation["label"]), "test": len(test["label"])}
    both = {name: np.concatenate([validation[name], test[name]]) for name in validation}
    both["test"] = np.repeat([False, True], [*counts.values()])

    def evaluated_on_both(learner: Learner) -> Learner:
        def evaluate(key: Array, state: Any, batch: Batch) -> dict[str, Array]:
            values = learner.evaluate(key, state, {name: batch[name] for name in validation})
            inside = {"validation": ~batch["test"], "test": batch["test"]}
            weights = {name: jnp.where(inside[name], sum(counts.values()) / count, 0.0) for name, count in counts.items()}
            return {f"{name}_{metric}": value * weight for name, weight in weights.items() for metric, value in values.items()}

        return learner._replace(evaluate=evaluate)

    return both, evaluated_on_both
