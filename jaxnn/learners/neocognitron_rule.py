"""How the neocognitron organises itself: of each S-column the strongest cell is a candidate, of each plane the strongest candidate learns.

Such a representative's weights grow, and all cells of its plane copy them: they are the plane's weights.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxnn.learners.pixels import pixels
from jaxnn.models.neocognitron import PAPER, Response, Stage, Stages, Weights, check, initial, respond, shares, windows
from jaxnn.types import Batch, InputError, Learner, Metrics

AT_ONCE = 64
"""Images that `evaluate` and `predict` take at a time: what the S-cells of one image see of 24 planes fills 200 kB."""


class Neocognitron(NamedTuple):
    """The state of `neocognitron_rule`."""

    weights: tuple[Weights, ...]
    """A stage each."""


def neocognitron_rule(
    stages: Stages = PAPER,
    *,
    rates: Sequence[Array | float] = (1.0, 16.0, 16.0),
    scale: float = 1e-2,
    jitter: float = 0.1,
    preprocess: Callable[[Batch], Float[Array, "B H W P"]] = pixels,
) -> Learner:
    """Δa(v, k', k) = q c(v) u_C'(k', n + v), Δb(k) = q/2 v_C'(n) for the representative n of every plane k that has one.

    A step presents the images of its batch in their order, and each presentation teaches all stages at once, from what they said
    before it. `rates` has q of each stage; with the others' at 0 one stage learns alone. `scale` and `jitter` of the first weights
    are those of `jaxnn.models.neocognitron.initial`.
    `step` reports the mean `mismatch`, 1 - the strongest u_S of the last stage (0: what it sees is what a plane learnt; 1: no plane
    answers), before each presentation, and the share of each stage's planes that have `learnt` something; `evaluate` the mismatch;
    `predict` the last C-cells (B, K), the mean of a plane where it has several.

    With Δb = q v, as in the paper of 1982 where the inhibition is r/(1 + r) b v, a cell with r ≥ 1 would fall silent to what it
    learnt: by 2r/(1 + r) b v it takes the half.

    Raises `InputError` for stages that do not fit, for images that are not square, and for another number of rates.
    Source: Fukushima 1980, doi:10.1007/BF00344251, whose q are the defaults; lecture row 97. Fukushima and Miyake 1982,
    doi:10.1016/0031-3203(82)90024-3.
    """
    if len(rates) != len(stages):
        raise InputError(f"rates must have one of each stage, {len(stages)}, got {len(rates)}")

    def init(key: PRNGKeyArray, batch: Batch) -> Neocognitron:
        image = preprocess(batch)
        if image.shape[1] != image.shape[2]:
            raise InputError(f"a neocognitron's images must be square, got {image.shape[1]} × {image.shape[2]} pixels")
        check(stages, image.shape[1])
        return Neocognitron(initial(key, stages, image.shape[-1], scale, jitter))

    def step(key: PRNGKeyArray, state: Neocognitron, batch: Batch) -> tuple[Neocognitron, Metrics]:
        weights, mismatches = lax.scan(lambda weights, image: present(stages, weights, image, rates), state.weights, preprocess(batch))
        learnt = jnp.stack([(own.inhibitory > 0).mean() for own in weights])
        return Neocognitron(weights), {"mismatch": mismatches.mean(), "learnt": learnt}

    def evaluate(key: PRNGKeyArray, state: Neocognitron, batch: Batch) -> Metrics:
        return {"mismatch": _one_by_one(lambda image: mismatch(respond(stages, state.weights, image)), preprocess(batch))}

    def predict(state: Neocognitron, batch: Batch) -> Array:
        return _one_by_one(lambda image: respond(stages, state.weights, image)[-1].complex.mean((0, 1)), preprocess(batch))

    return Learner(init, step, evaluate, predict)


def _one_by_one(function: Callable[[Array], Array], images: Float[Array, "B H W P"]) -> Array:
    """vmap, some images at a time."""
    return lax.map(function, images, batch_size=min(AT_ONCE, len(images)))


def mismatch(responses: Sequence[Response]) -> Float[Array, ""]:
    """1 - the strongest S-cell of the last stage, not below 0."""
    return jnp.maximum(1 - responses[-1].simple.max(), 0)


def present(
    stages: Stages, weights: tuple[Weights, ...], image: Float[Array, "N N P"], rates: Sequence[Array | float]
) -> tuple[tuple[Weights, ...], Float[Array, ""]]:
    """The weights after one image, and its mismatch before."""
    responses = respond(stages, weights, image)
    after = (reinforced(*each) for each in zip(stages, weights, responses, rates, strict=True))
    return tuple(after), mismatch(responses)


def reinforced(stage: Stage, weights: Weights, response: Response, rate: Array | float) -> Weights:
    """a + q c u_C' and b + q/2 v_C' of the representatives; planes without one stay as they are."""
    places, chosen = representatives(response.simple, stage.column)
    seen, level = (jnp.reshape(a, (stage.size**2, *a.shape[2:]))[places] for a in (response.seen, response.level))
    teach = rate * chosen
    grown = jnp.moveaxis(seen, 0, -1) * shares(stage.area, seen.shape[-1])[:, None, None]
    return Weights(weights.excitatory + teach[None, None] * grown, weights.inhibitory + teach / 2 * level)


def representatives(simple: Float[Array, "size size K"], column: int) -> tuple[Int[Array, "K"], Bool[Array, "K"]]:
    """The place (row · size + column) of every plane's representative, and whether it has one.

    S-columns are all column × column cells side by side, of all planes; they overlap. The strongest cell of each is a candidate, of equal
    ones the first row by row, then plane by plane; none where all are silent. Of several candidates in one plane the strongest stands.
    """
    size, planes = len(simple), simple.shape[-1]
    strongest, which = simple.max(-1), simple.argmax(-1)
    numbers = jnp.arange(size * size).reshape(size, size)
    in_column, number = (windows(a, column, 1, size - column + 1).reshape(-1, column**2) for a in (strongest, numbers))
    place = jnp.take_along_axis(number, in_column.argmax(-1)[:, None], 1)[:, 0]
    candidate = jnp.zeros((size * size, planes), bool).at[place, which.ravel()[place]].set(True)
    answers = jnp.where(candidate, simple.reshape(-1, planes), 0)
    return answers.argmax(0), answers.max(0) > 0
