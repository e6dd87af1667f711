"""The neocognitron: layers of S-cells, which answer to a feature in its place, and of C-cells, which answer wherever nearby it stands.

A stage has K planes of each kind. All S-cells of a plane share their weights a and b, so a plane looks for one feature everywhere:

    u_S(k, n) = r φ[(1 + Σ a(v, k', k) u_C'(k', n + v)) / (1 + 2r/(1 + r) b(k) v_C'(n)) - 1],    φ[x] = max(x, 0)
    v_C'(n)   = √Σ c(v) u_C'(k', n + v)²                                         the inhibitory cell; c ≥ 0 fixed, Σ_k' Σ_v c(v) = 1
    u_C(k, n) = ψ[(1 + Σ d(v) u_S(k, n + v)) / (1 + v_S(n)) - 1],                ψ[x] = φ[x / (α + x)]
    v_S(n)    = 1/K Σ_k Σ_v d(v) u_S(k, n + v)                                   inhibition by all planes; d fixed

with u_C' the C-cells of the stage before, or the image. Fully learnt, u_S = r φ[(1 + r)/r s - 1] with s the cosine of the angle between
what the cell sees and what it learnt (both weighted by c): 1 for the same, 0 for s ≤ r/(1 + r), so r is the selectivity.

Fukushima 1980 gives the planes, the sizes of layers and areas, r and α (`PAPER`), and says of c and d that they fall with the distance.
Ours are c(v) ∝ 0.9^|v| and d(v) = 0.9^|v|; and that cells lie on a grid with their areas centred over the layer before, zeros around it,
every C-cell two S-cells from the next. How it learns stands in `jaxnn.learners.neocognitron_rule`.

Source: Fukushima 1980, Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by shift
in position, Biological Cybernetics 36:193-202, doi:10.1007/BF00344251; lecture row 97 (S4:246), which dates it 1984: E25.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from jaxnn.types import InputError


class Stage(NamedTuple):
    """A layer of S-cells and the C-cells after it: all that is fixed."""

    planes: int
    """K, of S-cells and as many of C-cells."""
    size: int
    """An S-plane has size × size cells,"""
    pooled: int
    """and a C-plane pooled × pooled."""
    selectivity: float
    """r: learnt S-cells are silent where the cosine of what they see is r/(1 + r) or less."""
    area: int = 5
    """An S-cell sees area × area cells of each plane before."""
    pool: int = 5
    """A C-cell sees pool × pool cells of its S-plane."""
    stride: int = 2
    """From one C-cell to the next, in S-cells."""
    column: int = 5
    """An S-column holds column × column cells of every plane; it matters for learning alone."""
    saturation: float = 0.5
    """α: a C-cell's input that it answers with one half."""


Stages = Sequence[Stage]

PAPER = (
    Stage(planes=24, size=16, pooled=10, selectivity=4.0),
    Stage(planes=24, size=8, pooled=6, selectivity=1.5),
    Stage(planes=24, size=2, pooled=1, selectivity=1.5, pool=2, stride=1, column=2),
)
"""Three stages on 16 × 16 pixels: U_S1 16×16×24, U_C1 10×10×24, U_S2 8×8×24, U_C2 6×6×24, U_S3 2×2×24, U_C3 1×1×24."""
FALL = 0.9
"""c and d fall to this with every step from the centre."""


class Weights(NamedTuple):
    """What a stage learns; every S-cell of plane k has the same."""

    excitatory: Float[Array, "A P K"]
    """a ≥ 0: from the A = area² places of the P planes before."""
    inhibitory: Float[Array, "K"]
    """b ≥ 0."""


class Response(NamedTuple):
    """What the cells of a stage say to an image."""

    seen: Float[Array, "size size A P"]
    """What each place's S-cells see."""
    level: Float[Array, "size size"]
    """The inhibitory cells v of the layer before."""
    simple: Float[Array, "size size K"]
    complex: Float[Array, "pooled pooled K"]


def bell(side: int) -> Float[np.ndarray, "A"]:
    """0.9^|v| for the side² places v of an area, |v| their distance from its centre.

    >>> bell(3).reshape(3, 3)[1].round(3)
    array([0.9, 1. , 0.9], dtype=float32)
    """
    places = np.indices((side, side)).reshape(2, -1) - (side - 1) / 2
    return (FALL ** np.hypot(*places)).astype(np.float32)


def shares(area: int, planes: int) -> Float[np.ndarray, "A"]:
    """c(v), the inhibitory cell's fixed weights: Σ_k' Σ_v c(v) = 1 over the planes k' before."""
    return bell(area) / (bell(area).sum() * planes)


def check(stages: Stages, side: int) -> None:
    """Raise `InputError` for stages that do not fit on each other, or the first of them on side × side pixels."""
    if not stages:
        raise InputError("a neocognitron has at least one stage")
    for number, stage in enumerate(stages, 1):
        if min(stage.planes, stage.size, stage.pooled, stage.area, stage.pool, stage.stride, stage.column) < 1:
            raise InputError(f"stage {number}: every size must be at least 1, got {stage}")
        if stage.column > stage.size:
            raise InputError(
                f"stage {number}: an S-column of {stage.column} × {stage.column} cells is larger than its plane's {stage.size}"
            )
        if not (stage.selectivity > 0 and stage.saturation > 0):
            raise InputError(f"stage {number}: selectivity and saturation must be above 0, got {stage.selectivity} and {stage.saturation}")
        _check_cover(f"S-cells of stage {number}", side, stage.area, 1, stage.size)
        _check_cover(f"C-cells of stage {number}", stage.size, stage.pool, stage.stride, stage.pooled)
        side = stage.pooled


def _check_cover(what: str, side: int, area: int, stride: int, size: int) -> None:
    """Every cell before is seen, and every cell sees one."""
    least = math.ceil((side - area) / stride) + 1
    most = (side + 2 * (area - 1) - area) // stride + 1
    if not least <= size <= most:
        cells = f"{size} × {size} cells with areas of {area} × {area}, {stride} apart,"
        raise InputError(f"{what}: {cells} do not lie on {side} × {side}: {least} to {most} do")


def windows(u: Shaped[Array, "N N *K"], area: int, stride: int, size: int) -> Shaped[Array, "size size A *K"]:
    """What size × size cells see of u, area × area places each, their areas `stride` apart and centred over u; zeros around it.

    An odd zero goes below and to the right.
    """
    around = (size - 1) * stride + area - len(u)
    pad = (around // 2, around - around // 2)
    padded = jnp.pad(u, (pad, pad) + ((0, 0),) * (u.ndim - 2))
    seen = np.arange(size)[:, None] * stride + np.arange(area)
    both = jnp.moveaxis(padded[seen][:, :, seen], 1, 2)  # 25 slices would run in half the time, and compile in three times
    return both.reshape(size, size, area**2, *u.shape[2:])


def simple_cells(
    stage: Stage, weights: Weights, seen: Float[Array, "size size A P"]
) -> tuple[Float[Array, "size size"], Float[Array, "size size K"]]:
    """The inhibitory cells v and the S-cells u_S = r φ[(1 + Σ a u) / (1 + 2r/(1 + r) b v) - 1]."""
    r = stage.selectivity
    level = jnp.sqrt(jnp.einsum("ijap,a->ij", seen**2, shares(stage.area, seen.shape[-1])))
    excited = 1 + jnp.einsum("ijap,apk->ijk", seen, weights.excitatory)
    inhibited = 1 + 2 * r / (1 + r) * weights.inhibitory[None, None] * level[..., None]
    return level, r * jnp.maximum(excited / inhibited - 1, 0)


def complex_cells(stage: Stage, simple: Float[Array, "size size K"]) -> Float[Array, "pooled pooled K"]:
    """u_C = ψ[(1 + Σ d u_S) / (1 + v_S) - 1], with v_S the mean of Σ d u_S over the planes and ψ[x] = φ[x / (α + x)]."""
    near = jnp.einsum("ijak,a->ijk", windows(simple, stage.pool, stage.stride, stage.pooled), bell(stage.pool))
    x = jnp.maximum((1 + near) / (1 + near.mean(-1, keepdims=True)) - 1, 0)
    return x / (stage.saturation + x)


def respond(stages: Stages, weights: Sequence[Weights], image: Float[Array, "N N P"]) -> tuple[Response, ...]:
    """What every stage says to one image; the last C-plane is the answer. Batched by `vmap`."""
    check(stages, len(image))
    responses: list[Response] = []
    for stage, own in zip(stages, weights, strict=True):
        seen = windows(responses[-1].complex if responses else image, stage.area, 1, stage.size)
        level, simple = simple_cells(stage, own, seen)
        responses.append(Response(seen, level, simple, complex_cells(stage, simple)))
    return tuple(responses)


def initial_weights(key: PRNGKeyArray, stage: Stage, planes: int, scale: float, jitter: float) -> Weights:
    """Small a with another preferred orientation in every plane, and b = 0; for a stage on so many `planes`.

    a(v, k', k) = ε c(v) cos²(θ_v - πk/K) cos²(π(k'/K' - k/K)) (1 + ξ): θ_v is the direction of v (the centre has 1), ε = `scale` and
    ξ even in 0 … `jitter`. The last cosine is left out on a single plane. The paper's are some function of v, k/K and |k'/K' - k/K| that
    differs in orientation from plane to plane, with no randomness: ξ is ours, for runs that differ by seed.
    """
    down, right = np.indices((stage.area, stage.area)).reshape(2, -1) - (stage.area - 1) / 2
    turn = np.arange(stage.planes) / stage.planes
    along = np.where(np.hypot(down, right)[:, None] > 0, np.cos(np.arctan2(down, right)[:, None] - np.pi * turn) ** 2, 1)
    alike = np.cos(np.pi * (np.arange(planes)[:, None] / planes - turn)) ** 2 if planes > 1 else np.ones((1, stage.planes))
    tuned = jnp.asarray(scale * shares(stage.area, planes)[:, None, None] * along[:, None] * alike[None], jnp.float32)
    noise = jax.random.uniform(key, tuned.shape, maxval=jitter)
    return Weights(tuned * (1 + noise), jnp.zeros(stage.planes))


def initial(key: PRNGKeyArray, stages: Stages, planes: int = 1, scale: float = 1e-2, jitter: float = 0.1) -> tuple[Weights, ...]:
    """Weights before learning for an image of so many `planes` (colours)."""
    before = [planes, *(stage.planes for stage in stages)]
    keys = jax.random.split(key, len(stages))
    return tuple(initial_weights(k, stage, p, scale, jitter) for k, stage, p in zip(keys, stages, before, strict=False))
