"""Does a neocognitron that nobody tells the classes give drawn digits planes of their own, and know them shifted and deformed?

The paper's demonstration: thin digits 0 to 4, 20 times each in random places, teach the three stages of the paper all at once; then every
digit in every place should call one plane of the last layer, the same for all places and another for each digit. A second net sees them
in the middle alone: what it knows of shifted ones is due to the shared weights and the C-cells. Both stand beside template matching on
the same pixels, with the means of the same images as templates. Layer by layer, `planes that answer a digit` and `digits that a plane
answers` show the decomposition: many planes share a digit in the first layer, one names it in the last.

Then real digits, reduced to 16 × 16 pixels: the paper's net as it stands, and one with more planes that learns stage by stage. A plane
takes the name of the class that it wins most often; beside that, template matching on the last layer's answers and on the pixels. Where
digits stand in the middle the pixels win; what the net is for shows when they move. Deformations without a shift cost the net more than
templates of the middle alone: it tolerates slight ones. Templates of random places are blurred, and near chance everywhere.

Source: Fukushima 1980, doi:10.1007/BF00344251, figures 6 and 7; lecture row 97 (the year: E25). Strokes and measurements are ours.

Command: python -m experiments.neocognitron_digits        (about a minute on two CPU cores)
Expected: drawn digits shown in random places 100 % right in the median of 5 seeds (80 % in the worst: two digits then share a plane), 3
pixels off as in the middle, templates 36 and 20 %; shown in the middle alone 80 % at every distance, templates 100 % there and 14 % 3
pixels off. Real digits 52 % and 70 % by named planes, pixels 82 %; after a shift of 4 pixels 44 %, 58 % and 15 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import command
from experiments import neocognitron_patterns as patterns
from experiments.neocognitron_figures import draw_answers, draw_digits_tolerance, draw_responses, draw_tolerance, draw_weights
from experiments.neocognitron_patterns import Patterns, class_means, deformed, matched, named, names_of_planes, reduced, shifted
from experiments.unfinished import NOTHING, Keep
from jaxnn.learners import neocognitron_rule
from jaxnn.models.neocognitron import PAPER, Response, Stages, respond
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, fit, sweep
from jaxnn.types import Batch, InputError, Learner, Trained

RATES = (1.0, 16.0, 16.0)
"""q of the three stages, as in the paper."""
CLASSES = 10
PLACES = {"random places": patterns.REACH, "the middle alone": 0}
"""How far from the middle the drawn digits are presented."""
DRAWS = 50
"""Deformed copies of every drawn digit, at each strength."""
CHUNK = 256
"""Images that a net is asked about at a time, always as many: one program a net."""


@dataclass(frozen=True)
class Config:
    presentations: int = 20
    """Of each drawn digit; the paper's 20."""
    seeds: int = 5
    """Nets for the drawn digits: other first weights, another order."""
    images: int = 1000
    """Real digits to learn from."""
    tested: int = 500
    """Real digits for every shift and deformation."""
    planes: tuple[int, ...] = (24, 48, 100)
    """Of the wider net's three stages."""
    shifts: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the real digits, in pixels of the data set."""
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0)
    """Of the deformations: 1 scales by up to e^±0.15, squeezes by e^±0.1 and shears by ±0.25."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, presentations=self.presentations, seeds=self.seeds, images=self.images, tested=self.tested, planes=self.planes)
        command.at_least(0, shifts=self.shifts)
        if len(self.planes) != len(PAPER):
            raise InputError(f"--planes must be {len(PAPER)} numbers, one a stage, got {len(self.planes)}")
        if not all(0 <= strength < np.inf for strength in self.strengths):
            raise InputError(f"--strengths must be numbers from 0, got {' '.join(map(str, self.strengths))}")


class Judge(NamedTuple):
    """What sees images as vectors, and the ways in which these name a class."""

    see: Callable[[Any], np.ndarray]
    """Images, grey values from 0 … 255 -> (B, D)."""
    ways: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    """(B, D) -> (B,) classes."""


def pixels(images: Any) -> np.ndarray:
    return np.asarray(reduced({"image": jnp.asarray(images)})).reshape(len(images), -1)


def judge_of(see: Callable[[Any], np.ndarray], shown: Batch, classes: int, *, planes: bool) -> Judge:
    """Templates, and for a net the names of its planes, from the images that it has seen."""
    x, labels = see(shown["image"]), np.asarray(shown["label"])
    templates: dict[str, Any] = {"templates": partial(matched, class_means(x, labels, classes))}
    named_planes = {"named planes": partial(named, names_of_planes(x, labels, classes))} if planes else {}
    return Judge(see, named_planes | templates)


@cache
def learner_of(stages: Stages) -> Learner:
    """One for all nets of these stages, so that `predict` is compiled once."""
    return neocognitron_rule(stages, preprocess=reduced)


def answers_of(stages: Stages, state: Any, images: Any) -> np.ndarray:
    """The last C-cells (B, K)."""
    images = np.asarray(images, np.float32)
    whole = np.concatenate([images, np.zeros((-len(images) % CHUNK, *images.shape[1:]), np.float32)])
    said = [Trained(learner_of(stages), state).predict({"image": jnp.asarray(part)}) for part in np.split(whole, len(whole) // CHUNK)]
    return np.concatenate(said)[: len(images)]


def drawn_nets(config: Config, reach: int) -> tuple[list[Any], Patterns, Run]:
    """The states of a net a seed, taught by drawn digits; and what they saw."""
    shown = patterns.presented(jax.random.key(0), config.presentations, reach)
    make = lambda: neocognitron_rule(PAPER, rates=RATES, preprocess=reduced)  # noqa: E731
    how: dict[str, Any] = {"seeds": config.seeds, "batch_size": len(patterns.DRAWN), "num_steps": config.presentations}
    past = sweep(make, jax.random.key(1), shown.batch, label="drawn digits", **how)
    return [jax.tree.map(lambda a, s=seed: a[s], past.state) for seed in range(config.seeds)], shown, past


def right(said: np.ndarray, labels: np.ndarray) -> float:
    return float((said == labels).mean())


def by_distance(said: np.ndarray, found: Patterns) -> list[float]:
    """The share of classes that are right at each distance from the middle, the larger of the two shifts."""
    distance = np.abs(found.shift).max(1)
    return [right(said[distance == d], found.label[distance == d]) for d in range(patterns.REACH + 1)]


def measure_drawn(config: Config, states: list[Any], shown: Patterns) -> dict[str, np.ndarray]:
    """The classes that nets and templates name: by distance, by strength of deformation; and how many planes name them."""
    tests, count = patterns.everywhere(), len(patterns.DRAWN)
    middle = patterns.placed(*(np.repeat(a, DRAWS, 0) for a in (np.arange(count), np.zeros((count, 2), int))))
    bent = [np.asarray(deformed(jax.random.key(7), jnp.asarray(middle.image), strength)) for strength in config.strengths]
    plain = judge_of(pixels, shown.batch, count, planes=False)
    nets = [judge_of(partial(answers_of, PAPER, state), shown.batch, count, planes=True) for state in states]
    answers = [net.see(tests.image) for net in nets]
    said = [net.ways["named planes"](answer) for net, answer in zip(nets, answers, strict=True)]
    match = plain.ways["templates"]
    return {
        "everywhere": np.array([right(s, tests.label) for s in said]),
        "own planes": np.array([own_planes(answer, tests.label) for answer in answers]),
        "planes at once": np.array([(answer >= 0.5 * answer.max(1, keepdims=True)).sum(1).mean() for answer in answers]),
        "by distance": np.array([by_distance(s, tests) for s in said]),
        "by strength": np.array([[right(net.ways["named planes"](net.see(i)), middle.label) for i in bent] for net in nets]),
        "templates by distance": np.array(by_distance(match(pixels(tests.image)), tests)),
        "templates by strength": np.array([right(match(pixels(images)), middle.label) for images in bent]),
        "answers": np.array([[answer[tests.label == c] for c in range(count)] for answer in answers]),
    }


def own_planes(answers: np.ndarray, labels: np.ndarray) -> int:
    """How many digits have a plane that is the strongest for most of their places, and for no other digit's."""
    most = [np.bincount(answers[labels == c].argmax(1)).argmax() for c in np.unique(labels)]
    return sum(most.count(plane) == 1 for plane in most)


def decomposition(states: list[Any]) -> dict[str, np.ndarray]:
    """Planes that answer a digit and digits that a plane answers, (seeds, layers); and all responses to a 4, (seeds, ...)."""
    count = len(patterns.DRAWN)
    middle = reduced(patterns.placed(np.arange(count), np.zeros((count, 2), int)).batch)
    say = jax.jit(jax.vmap(lambda weights, image: respond(PAPER, weights, image), (None, 0)))
    by_net = [_layers(say(state.weights, middle)) for state in states]
    answer = [[patterns.answering(u) for u in layers.values()] for layers in by_net]
    return {
        "planes that answer a digit": np.array([[a.sum(1).mean() for a in net] for net in answer]),
        "digits that a plane answers": np.array([[a.sum(0)[a.any(0)].mean() for a in net] for net in answer]),
        "responses/U0": np.repeat(np.asarray(middle)[-1:], len(states), 0),
        **{f"responses/{layer}": np.stack([layers[layer][-1] for layers in by_net]) for layer in by_net[0]},
    }


def _layers(responses: Sequence[Response]) -> dict[str, np.ndarray]:
    """S1, C1, S2 …, (patterns, size, size, K) each."""
    return {f"{kind}{n}": np.asarray(u) for n, r in enumerate(responses, 1) for kind, u in (("S", r.simple), ("C", r.complex))}


def real_nets(config: Config, shown: Batch, keep: Keep) -> tuple[dict[str, tuple[Stages, Any]], list[Run]]:
    """The paper's net, all stages at once; and the wider one, stage by stage, each through all images."""
    wide = tuple(stage._replace(planes=planes) for stage, planes in zip(PAPER, config.planes, strict=True))
    alone = [tuple(rate if n == stage else 0.0 for n, rate in enumerate(RATES)) for stage in range(len(RATES))]
    size = min(50, len(shown["image"]))
    steps = len(shown["image"]) // size
    plans: dict[str, tuple[Stages, list[tuple[float, ...]]]] = {"paper": (PAPER, [RATES]), "wider": (wide, alone)}
    nets: dict[str, tuple[Stages, Any]] = {}
    runs: list[Run] = []
    for name, (stages, plan) in plans.items():
        start = None
        for number, rates in enumerate(plan, 1):
            learner, label = neocognitron_rule(stages, rates=rates, preprocess=reduced), f"{name} {number}"
            how: dict[str, Any] = {"batch_size": size, "num_steps": number * steps, "start": start}
            runs.append(fit(learner, jax.random.key(2), shown, checkpoint=keep.checkpoint(label), label=label, **how))
            start = number * steps, runs[-1].state
        nets[name] = stages, runs[-1].state
    return nets, runs


def measure_real(config: Config, nets: Mapping[str, tuple[Stages, Any]], shown: Batch, test: Batch) -> dict[str, np.ndarray]:
    """The share of right names for what the nets and the pixels say, in the middle, shifted and deformed."""
    judges = {"pixels": judge_of(pixels, shown, CLASSES, planes=False)}
    judges |= {name: judge_of(partial(answers_of, *net), shown, CLASSES, planes=True) for name, net in nets.items()}
    labels, few = np.asarray(test["label"]), test["image"][: config.tested]
    sets = {f"shift/{shift}": shifted(few, shift) for shift in config.shifts}
    sets |= {f"strength/{strength}": deformed(jax.random.key(8), few, strength) for strength in config.strengths}
    found: dict[str, Any] = {}
    for name, judge in judges.items():
        seen, still = judge.see(test["image"]), {what: judge.see(images) for what, images in sets.items()}
        for way, say in judge.ways.items():
            said = say(seen)
            found[f"accuracy/{name}, {way}"] = right(said, labels)
            for what in ("shift", "strength"):
                after = [say(x) for key, x in still.items() if key.startswith(what)]
                found[f"right by {what}/{name}, {way}"] = [right(s, labels[: len(few)]) for s in after]
                found[f"kept by {what}/{name}, {way}"] = [right(s, said[: len(few)]) for s in after]
    return {name: np.asarray(values) for name, values in found.items()}


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history: dict[str, Any] = {}
    comparisons: list[Comparison] = []
    runs: list[Run] = []
    for where, reach in PLACES.items():
        states, shown_drawn, past = drawn_nets(config, reach)
        measured = measure_drawn(config, states, shown_drawn)
        runs.append(past)
        comparisons += _drawn_rows(f"0 … 4 in {where}", measured)
        history |= {f"{name}/{where}": values for name, values in measured.items()}
        if reach:
            history |= decomposition(states)
            history |= {f"learnt/{n}": np.asarray(own.excitatory) for n, own in enumerate(past.state.weights, 1)}
    train_set, test_set = (command.load_digits(config.digits, split) for split in ("train", "test"))
    shown = jax.tree.map(lambda a: jnp.asarray(a[: config.images]), train_set.arrays)
    nets, real_runs = real_nets(config, shown, keep)
    history |= measure_real(config, nets, shown, jax.tree.map(jnp.asarray, test_set.arrays))
    comparisons += _layer_rows(history) + _real_rows(config, history)
    about = {"data": train_set.source, "seconds": command.seconds([past.history for past in runs + real_runs])}
    axes = {key: AXES[key.partition("/")[0]] for key in history}
    return command.Outcome(history, axes, comparisons, about, nets["wider"][1])


def _drawn_rows(what: str, measured: Mapping[str, np.ndarray]) -> list[Comparison]:
    slightly = measured["by strength"].shape[1] // 2
    return [
        compare(f"{what}: right in all 49 places", measured["everywhere"]),
        compare(f"{what}: right {patterns.REACH} pixels off", measured["by distance"][:, -1]),
        compare(f"{what}: right {patterns.REACH} pixels off, templates", [measured["templates by distance"][-1]]),
        compare(f"{what}: right, deformed by the middle strength", measured["by strength"][:, slightly]),
        compare(f"{what}: right, deformed by the middle strength, templates", [measured["templates by strength"][slightly]]),
        compare(f"{what}: digits with a plane of their own, of 5", measured["own planes"]),
        compare(f"{what}: last planes above half of the strongest", measured["planes at once"]),
    ]


def _layer_rows(history: Mapping[str, np.ndarray]) -> list[Comparison]:
    names = ("planes that answer a digit", "digits that a plane answers")
    return [compare(f"{name}, {layer}", history[name][:, n]) for name in names for n, layer in ((0, "S1"), (2, "S2"), (5, "C3"))]


def _real_rows(config: Config, history: Mapping[str, np.ndarray]) -> list[Comparison]:
    rows = []
    for name in [key.partition("/")[2] for key in history if key.startswith("accuracy/")]:
        rows.append(compare(f"digits, {name}: accuracy", [history[f"accuracy/{name}"]]))
        rows.append(compare(f"digits, {name}: right at a shift of {config.shifts[-1]}", [history[f"right by shift/{name}"][-1]]))
        rows.append(compare(f"digits, {name}: right at strength {config.strengths[-1]:g}", [history[f"right by strength/{name}"][-1]]))
    return rows


AXES = {
    "everywhere": ("seed",),
    "own planes": ("seed",),
    "planes at once": ("seed",),
    "by distance": ("seed", "distance"),
    "by strength": ("seed", "strength"),
    "templates by distance": ("distance",),
    "templates by strength": ("strength",),
    "answers": ("seed", "digit", "place", "plane"),
    "planes that answer a digit": ("seed", "layer"),
    "digits that a plane answers": ("seed", "layer"),
    "responses": ("seed", "row", "column", "plane"),
    "learnt": ("seed", "place", "plane before", "plane"),
    "accuracy": (),
    "right by shift": ("shift",),
    "right by strength": ("strength",),
    "kept by shift": ("shift",),
    "kept by strength": ("strength",),
}


def plot(record: Record) -> Mapping[str, Figure]:
    """What every layer says to a 4, what the S-cells learnt, the last layer's answers, and both tolerances."""
    return {
        "responses": draw_responses(record),
        "weights": draw_weights(record),
        "answers": draw_answers(record),
        "tolerance": draw_tolerance(record),
        "digits": draw_digits_tolerance(record),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
