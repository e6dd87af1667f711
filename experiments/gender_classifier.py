"""Boy or girl, from hair, height and weight: one neuron with weights set by reasoning does nearly as well as with trained ones.

The lecture's exercise: 60 pupils, 40 to train and 20 to test, logistic regression P(boy) = σ(w·x + b), with weights found by
experience: the sign says whether a feature speaks for or against a boy, the size how much it counts. Beside them the weights of
gradient descent on the cross-entropy, and the best that any classifier can do (Bayes' rule with the true distributions).

THE PUPILS ARE GENERATED, not measured: half of them girls, features independent and normal,

              hair (cm)         height (cm)    weight (kg)
    girls     30 ± 12           160 ± 6        52 ± 7
    boys       8 ±  5           168 ± 8        59 ± 9

hair being cut off at 0. A feature enters as (hair - 20 cm)/10 cm, (height - 164 cm)/10 cm and (weight - 56 kg)/10 kg. By hand: hair
speaks against a boy and is the most telling, -2; height for one, +1; weight for one, less, +½; no bias, for the middles are out.

Source: lecture row 24 (S1:52-88); the class's own data are not in the slides. One output 0 or 1 for two classes: row 25.

Command: python -m experiments.gender_classifier        (10 seconds on one CPU core)
Expected: of the 20 pupils to test 89 % right by hand and 90 % trained, as means over 20 classes; Bayes' rule gets 92 %.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses
from jaxnn.learners import supervised
from jaxnn.models import MLP, functional
from jaxnn.optimizers import sgd
from jaxnn.record import Record, compare
from jaxnn.train import fit
from jaxnn.types import Batch, Learner, PyTree

FEATURES = ("hair", "height", "weight")
GIRLS = np.array([[30, 160, 52], [12, 6, 7]], np.float32)
BOYS = np.array([[8, 168, 59], [5, 8, 9]], np.float32)
"""Means, and standard deviations, in cm, cm and kg."""
MIDDLE = np.array([20, 164, 56], np.float32)
UNIT = np.array([10, 10, 10], np.float32)
BY_HAND = np.array([-2.0, 1.0, 0.5, 0.0], np.float32)
"""Of hair, height and weight, and the bias."""


@dataclass(frozen=True)
class Config:
    pupils: int = 60
    """Of each class, half of them girls."""
    train: int = 40
    """Of them to train on; the others test."""
    steps: int = 300
    """Of gradient descent on all of these at once."""
    learning_rate: float = 1.0
    """Its η."""
    classes: int = 20
    """Classes of pupils, each generated and learnt anew; the first one's net is kept."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, train=self.train, steps=self.steps, classes=self.classes)
        command.at_least(self.train + 1, pupils=self.pupils)


def pupils(key: Array, count: int) -> dict[str, Array]:
    """`features` (count, 3) in cm, cm and kg, and `boy`, 0 or 1, in random order."""
    order_key, feature_key = jax.random.split(key)
    boy = jax.random.permutation(order_key, jnp.arange(count) % 2)
    mean, deviation = jnp.moveaxis(jnp.array([GIRLS, BOYS])[boy], 1, 0)
    features: Array = mean + deviation * jax.random.normal(feature_key, (count, 3))
    return {"features": features.at[:, 0].max(0.0), "boy": boy}


def scaled(batch: Batch) -> tuple[Array, Array]:
    """Features in units of ten around their middles; the target as (B, 1)."""
    features = batch["features"]
    boy = batch.get("boy", jnp.zeros(len(features), jnp.int32))
    return (features - jnp.broadcast_to(MIDDLE, features.shape)) / jnp.broadcast_to(UNIT, features.shape), boy[:, None]


def learner(learning_rate: float) -> Learner:
    """Logistic regression by gradient descent; predicts the log-odds of a boy, (B, 1)."""
    return supervised(*functional(MLP((1,))), losses.sigmoid_cross_entropy, sgd(learning_rate), preprocess=scaled)


def weights_of(state: PyTree) -> np.ndarray:
    """(w_hair, w_height, w_weight, b)."""
    output = state.variables["params"]["output"]
    return np.append(output["kernel"][:, 0], output["bias"])


def log_odds(weights: np.ndarray, batch: Batch) -> np.ndarray:
    """w·x + b of each pupil."""
    return np.asarray(scaled(batch)[0]) @ weights[:3] + weights[3]


def bayes_log_odds(features: np.ndarray) -> np.ndarray:
    """log p(x | boy) - log p(x | girl) of the distributions that the pupils come from, hair as if it were not cut off at 0."""
    z_boy, z_girl = ((features - mean) / deviation for mean, deviation in (BOYS, GIRLS))
    return (0.5 * (z_girl**2 - z_boy**2) + np.log(GIRLS[1] / BOYS[1])).sum(-1)


def accuracy(odds: Float[Array, "B"] | np.ndarray, boy: np.ndarray) -> float:
    return float(np.mean((np.asarray(odds) >= 0) == (np.asarray(boy) == 1)))


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    net, keys = learner(config.learning_rate), jax.random.split(jax.random.key(0), config.classes)
    groups, states = [], []
    for key in keys:
        pupil_key, fit_key = jax.random.split(key)
        groups.append(pupils(pupil_key, config.pupils))
        train = {name: values[: config.train] for name, values in groups[-1].items()}
        states.append(fit(net, fit_key, train, num_steps=config.steps, label=None).state)
    tests = [{name: np.asarray(values[config.train :]) for name, values in group.items()} for group in groups]
    weights = np.stack([weights_of(state) for state in states])
    found = {
        "trained": [accuracy(log_odds(w, test), test["boy"]) for w, test in zip(weights, tests, strict=True)],
        "by_hand": [accuracy(log_odds(BY_HAND, test), test["boy"]) for test in tests],
        "bayes": [accuracy(bayes_log_odds(test["features"]), test["boy"]) for test in tests],
    }
    history = {"features": groups[0]["features"], "boy": groups[0]["boy"], "weights": weights}
    axes: dict[str, tuple[str, ...]] = {"features": ("pupil", "feature"), "boy": ("pupil",), "weights": ("seed", "weight")}
    history |= {f"accuracy/{name}": np.array(values) for name, values in found.items()}
    axes |= {f"accuracy/{name}": ("seed",) for name in found}
    names = {
        "by_hand": "weights by hand",
        "trained": "weights trained on the others",
        "bayes": "Bayes' rule, which knows how they were made",
    }
    comparisons = [compare(f"right of the pupils to test, %: {names[name]}", 100 * np.array(found[name])) for name in names]
    comparisons += [compare(f"trained weight of {name}", weights[:, i]) for i, name in enumerate(FEATURES)]
    return command.Outcome(history, axes, comparisons, {"data": "generated from normal distributions, not measured"}, states[0])


def plot(record: Record) -> Mapping[str, Figure]:
    figure, axes = figures.panels(1, 3, "Boy or girl? One neuron, by hand and trained (60 generated pupils, 40 to train)", (4.0, 3.5))
    _draw_pupils(axes[0, 0], record)
    _draw_weights(axes[0, 1], record.history["weights"])
    _draw_accuracy(axes[0, 2], record.history)
    return {"gender_classifier": figure}


def _draw_pupils(ax: Axes, record: Record) -> None:
    features, boy, count = record.history["features"], record.history["boy"], record.config["train"]
    for value, name in enumerate(("girls", "boys")):
        for part, face, kind in ((slice(count), figures.COLOURS[value], name), (slice(count, None), "white", f"{name} to test")):
            hair, height, _ = features[part][boy[part] == value].T
            ax.scatter(hair, height, s=20, facecolors=face, edgecolors=figures.COLOURS[value], linewidths=1.0, label=kind)
    hair = np.array([-2.0, 1.1 * features[:, 0].max()])
    for w, style, name in ((BY_HAND, "--", "by hand"), (record.history["weights"][0], "-", "trained")):
        height = MIDDLE[1] - UNIT[1] * (w[0] * (hair - MIDDLE[0]) / UNIT[0] + w[3]) / w[1]
        ax.plot(hair, height, style, color="0.25", linewidth=1.2, label=f"boundary {name}")
    ax.set(xlabel="hair (cm)", ylabel="height (cm)", xlim=hair, ylim=(features[:, 1].min() - 4, features[:, 1].max() + 26))
    ax.set_title("the first class, boundaries at a weight of 56 kg", fontsize=9)
    ax.legend(fontsize=7, frameon=False, ncols=2, loc="upper right")


def _draw_weights(ax: Axes, weights: np.ndarray) -> None:
    places = np.arange(4)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.bar(places - 0.2, BY_HAND, 0.36, color=figures.COLOURS[4], label="by hand")
    low, median, high = np.quantile(weights, [0.05, 0.5, 0.95], axis=0)
    ax.bar(places + 0.2, median, 0.36, color=figures.COLOURS[0], label=f"trained, {len(weights)} classes")
    ax.errorbar(places + 0.2, median, [median - low, high - median], fmt="none", ecolor="k", elinewidth=1, capsize=3)
    ax.set_xticks(places, ["hair\n(per 10 cm)", "height\n(per 10 cm)", "weight\n(per 10 kg)", "bias"], fontsize=8)
    ax.set_title("what each feature says of P(boy)", fontsize=9)
    ax.legend(fontsize=8, frameon=False)


def _draw_accuracy(ax: Axes, history: Mapping[str, np.ndarray]) -> None:
    names = {"by_hand": "by hand", "trained": "trained", "bayes": "Bayes' rule"}
    for place, (name, colour) in enumerate(zip(names, (figures.COLOURS[4], figures.COLOURS[0], "0.5"), strict=True)):
        values, counts = np.unique(100 * history[f"accuracy/{name}"], return_counts=True)
        ax.scatter(np.full(len(values), place), values, s=24 * counts, color=colour, alpha=0.8)
        ax.hlines(100 * history[f"accuracy/{name}"].mean(), place - 0.3, place + 0.3, color="k", linewidth=1.2)
    ax.set_xticks(range(3), list(names.values()), fontsize=9)
    ax.set(ylabel="right of the pupils to test (%)", xlim=(-0.6, 2.6))
    ax.set_title("a disc's area counts classes, the line is their mean", fontsize=9)


if __name__ == "__main__":
    command.main(Config, run, plot)
