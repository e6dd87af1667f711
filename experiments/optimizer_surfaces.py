"""How the lecture's seven optimizers, and today's, move on Beale's function, a long valley, Rosenbrock's banana and a saddle.

    beale        (1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²    from (1, 1.5); least at (3, ½), where it is 0
    long_valley  (x²/100 + y²)/2, a hundred times as curved across as along   from (-9, 1.5); least at (0, 0), where it is 0
    rosenbrock   (1 - x)² + 100(y - x²)²                                      from (-1.2, 1); least at (1, 1), where it is 0
    saddle       x² - y², curvatures 2 and -2, without a least value          from (-1, 10⁻⁴), beside the ridge

All see the exact gradient. The rate of a curve is chosen and stands in its legend: of 8 rates a decade from 10⁻⁴ to 10³, the same for all
optimizers, those below the first with which the path leaves the picture, be it for a while; of these the one with the least score, which
is the mean over the steps of log₁₀ of the largest loss still to come. So a path that passes the minimum and goes on gains nothing, and
losses below 10⁻¹⁰, where float32 ends, count as 10⁻¹⁰. L-BFGS, which searches along its direction by itself, keeps its rate of 1; a step
of it takes several values of the loss and the gradient, a step of the others one gradient.

On the saddle the larger rate leaves sooner, so none is best: all get .01, and those that set their own scale (Adadelta, Prodigy,
L-BFGS) their papers' 1. SGD's distance from the ridge grows by the factor 1 + 2η a step, so that it takes ln(Y/y_0)/ln(1 + 2η) steps from
y_0 to Y: the nearer the ridge the longer. Momentum's factor at .01 is 1.107 for SGD's 1.02, and a method that divides by the gradient's
size moves off at once.

Drawn are Nesterov's textbook iterate, and the average at which schedule-free AdamW is evaluated. What leaves the picture for good ends in
a cross at its last point inside; what is no longer finite keeps its last finite point in the record. AdamW's decay keeps it off a minimum
that is not the origin, and a constant rate keeps Lion and RMSprop from settling in one.

Source: lecture rows 55 (S3:246-249: SGD's rate is hard to choose, saddles hold it) and 64 (S3:346-355, two figures that are lost; the
usual pair are the animations of A. Radford, 2014). Beale 1958, On an iterative method for finding a local minimum of a function of more
than one variable; Rosenbrock 1960, doi:10.1093/comjnl/3.3.175.

Command: python -m experiments.optimizer_surfaces        (30 to 50 seconds on two CPU cores)
Expected: beside the saddle SGD is still at y = .04 after 300 steps, where momentum leaves after 99, Adam after 108 and L-BFGS after 2;
to a thousandth of the loss along the valley SGD takes 156 steps, momentum 68, Adam 60, Adagrad 9 and L-BFGS 6; on Rosenbrock's
function SGD, Adagrad, RMSprop and Adadelta do not get there in 300, momentum takes 91, Adam 184 and L-BFGS 28.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command
from experiments.surfaces import FLOOR, SURFACES, Surface, animate, draw_rates, draw_surface
from experiments.unfinished import NOTHING, Keep
from jaxnn import optimizers
from jaxnn.record import Animation, Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, Metrics, PyTree, unknown

GRID = tuple(float(f"{rate:.3g}") for rate in np.logspace(-4, 3, 57))
"""Learning rates to choose from."""
OWN_SCALE = ("adadelta", "prodigy", "lbfgs")
"""Their papers have no rate, that is 1."""
REACHED = 1e-3
"""Of the loss at the start."""
ANIMATED = ("beale", "long_valley", "saddle")
"""The contours and the saddle of the usual pair, and a valley."""


@dataclass(frozen=True)
class Config:
    optimizers: tuple[str, ...] = (
        *(factory.__name__ for factory in optimizers.SEVEN),
        *("nadam", "adamw", "lion", "schedule_free_adamw", "prodigy", "lbfgs"),
    )
    """Any of `jaxnn.optimizers`; muon differs from its NAdamW on matrices alone, of which there are none here."""
    surfaces: tuple[str, ...] = tuple(SURFACES)
    """beale, long_valley, rosenbrock, saddle."""
    steps: int = 300
    """Updates."""
    rates: tuple[float, ...] | None = None
    """Learning rates to choose from; None is 8 a decade from 1e-4 to 1000."""
    saddle_rate: float = 0.01
    """η on the saddle of all but adadelta, prodigy and lbfgs, which have 1."""
    frames: int = 60
    """Of each animation, at most; 0 draws none."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, steps=self.steps)
        command.at_least(0, frames=self.frames)
        for flag in ("optimizers", "surfaces", "rates"):
            if getattr(self, flag) == ():
                raise InputError(f"--{flag} needs at least one")
        for name in self.optimizers:
            optimizers.by_name(name)
        for name in self.surfaces:
            if name not in SURFACES:
                raise unknown("surface", name, SURFACES)
        for flag, rates in (("rates", self.rates or ()), ("saddle-rate", (self.saddle_rate,))):
            if not all(0 < rate < 1e38 for rate in rates):  # of float32
                raise InputError(f"--{flag} must be above 0 and below 1e38, got {' '.join(map(str, rates))}")


class State(NamedTuple):
    w: Float[Array, "K 2"]
    """A point for each optimizer."""
    opt_states: tuple[optax.OptState, ...]


def learner(names: Sequence[str], surfaces: Sequence[Surface], rate: Any, number: Any) -> Learner:
    """Optimizers of one rate side by side on the surface of that number, both of them traced; measured before each update.

    There is no data, and no chance. Side by side they compile in a third of the time that they take one by one.
    """
    all_optimizers = [optimizers.by_name(name)(learning_rate=rate) for name in names]

    def loss(w: Float[Array, "2"]) -> Float[Array, ""]:
        return jax.lax.switch(number, [surface.loss for surface in surfaces], w)

    def init(key: jax.Array, batch: Batch) -> State:
        start = jnp.array([surface.start for surface in surfaces])[number]
        return State(jnp.stack([start] * len(names)), tuple(optimizer.init(start) for optimizer in all_optimizers))

    def step(key: jax.Array, state: State, batch: Batch) -> tuple[State, Metrics]:
        points = jnp.stack([iterate(w, opt_state) for w, opt_state in zip(*state, strict=True)])
        values, gradients = jax.vmap(jax.value_and_grad(loss))(state.w)
        of_each = zip(all_optimizers, gradients, state.opt_states, state.w, values, strict=True)
        changes = [optimizer.update(g, s, w, value=v, grad=g, value_fn=loss) for optimizer, g, s, w, v in of_each]
        updates, opt_states = zip(*changes, strict=True)
        return State(state.w + jnp.stack(updates), opt_states), {"point": points, "loss": jax.vmap(loss)(points)}

    return Learner(init, step, lambda key, state, batch: {})


def iterate(w: PyTree, opt_state: optax.OptState) -> PyTree:
    """The point that the method is about: not where nesterov and schedule_free_adamw take their gradients."""
    if isinstance(opt_state, optimizers.NesterovState):
        return optimizers.nesterov_iterate(w, opt_state)
    return optimizers.evaluation_point(w, opt_state)


class Paths(NamedTuple):
    """One optimizer on one surface, at every rate: (rates, points 0 … steps), and when they went wrong: (rates,), -1 for never."""

    points: np.ndarray
    loss: np.ndarray
    diverged_at: np.ndarray
    """The first point that is not finite, or has no finite loss. From there on the one before it stands."""
    left_at: np.ndarray
    """The first point outside the picture after which none is inside."""
    strayed_at: np.ndarray
    """The first point outside."""


def paths(surface: Surface, points: np.ndarray, loss: np.ndarray) -> Paths:
    finite = np.isfinite(points).all(-1) & np.isfinite(loss)
    last = np.where(finite.all(-1), finite.shape[-1], (~finite).argmax(-1)) - 1
    at = np.minimum(np.arange(finite.shape[-1]), last[..., None])
    points, loss = np.take_along_axis(points, at[..., None], -2), np.take_along_axis(loss, at, -1)
    inside = ((points >= surface.low) & (points <= surface.high)).all(-1) & np.logical_and.accumulate(finite, -1)
    left = np.where(inside[..., -1], -1, inside.shape[-1] - inside[..., ::-1].argmax(-1))
    return Paths(points, loss, _first(~finite), left, _first(~inside))


def _first(flags: np.ndarray) -> np.ndarray:
    return np.where(flags.any(-1), flags.argmax(-1), -1)


def scores(found: Paths) -> np.ndarray:
    """Mean over the steps of log₁₀ of the largest loss still to come, for rates in ascending order; Inf from the first that strays on."""
    to_come = np.maximum.accumulate(found.loss[..., ::-1], -1)[..., ::-1]
    return np.where(np.logical_or.accumulate(found.strayed_at >= 0), np.inf, np.log10(np.maximum(to_come, FLOOR)).mean(-1))


def best(found: Paths) -> int:
    """The rate's place: that of the lowest score, or of the longest stay where the least rate strays."""
    score = scores(found)
    stay = np.where(found.strayed_at < 0, found.loss.shape[-1], found.strayed_at)
    return int(np.argmin(score) if np.isfinite(score).any() else np.argmax(stay))


def all_rates(config: Config) -> list[float]:
    """Those to choose from in ascending order, and the two customary ones."""
    return [*sorted(set(config.rates or GRID)), config.saddle_rate, 1.0]


def descend(names: Sequence[str], surfaces: Sequence[str], config: Config, keep: Keep = NOTHING) -> tuple[np.ndarray, np.ndarray, History]:
    """All points (surfaces, optimizers, rates, points, 2) and their losses, from one program."""
    _, measured = sweep(
        lambda surface, rate: learner(names, [SURFACES[name] for name in surfaces], rate, surface),
        jax.random.key(0),
        seeds=1,
        axes={"surface": np.arange(len(surfaces)), "rate": np.array(all_rates(config), np.float32)},
        num_steps=config.steps + 1,
        checkpoint=keep.checkpoint("surfaces"),
        label="surfaces",
    )
    points, loss = (measured.train[name][0] for name in ("point", "loss"))
    return np.moveaxis(points, 3, 1), np.moveaxis(loss, 3, 1), measured


class Chosen(NamedTuple):
    rate: float
    path: Paths
    """At that rate: (points, …)."""
    scores: np.ndarray
    """Of all rates to choose from."""


def choose(name: str, surface: str, found: Paths, config: Config) -> Chosen:
    """The best rate; for L-BFGS and on the saddle the customary one."""
    grid = Paths(*(part[:-2] for part in found))
    fixed = name == "lbfgs" or SURFACES[surface].minimum is None
    place = best(grid) if not fixed else -1 if name in OWN_SCALE else -2
    return Chosen(all_rates(config)[place], Paths(*(part[place] for part in found)), scores(grid))


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    names, surfaces = list(dict.fromkeys(config.optimizers)), list(dict.fromkeys(config.surfaces))
    points, loss, measured = descend(names, surfaces, config, keep)
    history: dict[str, np.ndarray] = {"rates": np.array(all_rates(config)[:-2])}
    axes: dict[str, tuple[str, ...]] = {"rates": ("rate",)}
    for s, surface in enumerate(surfaces):
        found = [paths(SURFACES[surface], points[s, i], loss[s, i]) for i in range(len(names))]
        chosen = [choose(name, surface, each, config) for name, each in zip(names, found, strict=True)]
        series: dict[str, tuple[list, tuple[str, ...]]] = {
            "trajectory": ([each.path.points for each in chosen], ("optimizer", "point", "coordinate")),
            "loss": ([each.path.loss for each in chosen], ("optimizer", "step")),
            "rate": ([each.rate for each in chosen], ("optimizer",)),
            "diverged_at": ([each.path.diverged_at for each in chosen], ("optimizer",)),
            "left_at": ([each.path.left_at for each in chosen], ("optimizer",)),
        }
        if SURFACES[surface].minimum is not None:
            series["score"] = [each.scores for each in chosen], ("optimizer", "rate")
        history |= {f"{quantity}/{surface}": np.stack(values) for quantity, (values, _) in series.items()}
        axes |= {f"{quantity}/{surface}": named for quantity, (_, named) in series.items()}
    about = {
        "optimizers": names,
        "surfaces": {surface: {**SURFACES[surface]._asdict(), "loss": surface} for surface in surfaces},
        "seconds": command.seconds([measured]),
    }
    comparisons = [row for surface in surfaces for row in compare_on(surface, names, history)]
    return command.Outcome(history, axes, comparisons, about)


def compare_on(surface: str, names: Sequence[str], history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """Steps to leave the saddle; else steps until the loss has fallen for good to a thousandth, and the loss at the end."""
    for i, name in enumerate(names):
        loss, left = history[f"loss/{surface}"][i], int(history[f"left_at/{surface}"][i])
        what = f"{surface}: {name}, η = {history[f'rate/{surface}'][i]:.3g}"
        if SURFACES[surface].minimum is None:
            yield compare(f"{what}: steps to leave (blank: it stays)", [left if left >= 0 else np.nan], diverged=[False])
            continue
        above = np.flatnonzero(loss > REACHED * loss[0])
        steps = above[-1] + 1 if above[-1] + 1 < len(loss) else np.nan
        yield compare(f"{what}: steps to 1/1000 of the loss (blank: never)", [steps], diverged=[left >= 0])
        yield compare(f"{what}: loss after {len(loss) - 1} steps", loss[-1:], diverged=[left >= 0])


def plot(record: Record) -> Mapping[str, Figure | Animation]:
    """Paths and losses on each surface, what they owe to the rate, and the animations."""
    there = list(record.meta["surfaces"])
    drawn: dict[str, Figure | Animation] = {surface: draw_surface(record, surface) for surface in there}
    scored = [surface for surface in there if f"score/{surface}" in record.history]
    if scored and len(record.history["rates"]) > 1:
        drawn["rates"] = draw_rates(record, scored)
    moving = [surface for surface in there if surface in ANIMATED and record.config["frames"]]
    return drawn | {f"{surface}_moving": animate(record, surface, record.config["frames"]) for surface in moving}


if __name__ == "__main__":
    command.main(Config, run, plot)
