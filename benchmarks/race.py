"""How two implementations of one work are timed against each other: in turns, several times, in one process.

A rate is in model-steps a second. What a contestant needs once, above all its compilation, is kept apart from it, and its results
are on the host before the clock is read.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train import Run

T = TypeVar("T")


class Contestant(NamedTuple):
    rate: Callable[[], float]
    """Runs for a while and returns its model-steps a second."""
    compile_seconds: float


Start = Callable[[float], Contestant]
"""Makes a contestant ready, its timed runs to last about so many seconds each."""


class Match(NamedTuple):
    """Works of ours, and the peers that every one of them is compared with: all do the same in a model-step."""

    works: Mapping[str, Start]
    peers: Mapping[str, Start]
    flops: float
    """Floating-point operations of a model-step; NaN where nobody has counted them."""
    quality: Callable[[], Mapping[str, np.ndarray]] = dict
    """What training led to, ours and theirs, for works that do not all end alike."""
    dtype: str = "float32"
    """What the operations are done in."""


class Scores(NamedTuple):
    rates: dict[str, np.ndarray]
    """Of every work and peer that ran, (repeats,)."""
    compile_seconds: dict[str, float]
    skipped: dict[str, str]
    """Why a peer did not run."""

    def arrays(self) -> dict[str, np.ndarray]:
        """As named arrays, to be kept in a file."""
        return {f"{field}/{name}": np.array(value) for field, by_name in self._asdict().items() for name, value in by_name.items()}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> "Scores":
        """What `arrays()` came from."""
        kept: dict[str, dict[str, np.ndarray]] = {field: {} for field in Scores._fields}
        for key, values in arrays.items():
            field, _, name = key.partition("/")
            kept[field][name] = values
        seconds = {name: float(value) for name, value in kept["compile_seconds"].items()}
        return Scores(kept["rates"], seconds, {name: str(why) for name, why in kept["skipped"].items()})


def compete(match: Match, seconds: float, repeats: int) -> Scores:
    """Start all, then time all in turns, so that a busy machine is busy for everyone. A peer that does not start is skipped."""
    ready, skipped = {name: start(seconds) for name, start in match.works.items()}, {}
    for name, start in match.peers.items():
        try:
            ready[name] = start(seconds)
        except Exception as error:  # not installed, no compiler, no such device: each library fails in ways of its own
            skipped[name] = _in_a_line(error)
    rounds = [[contestant.rate() for contestant in ready.values()] for _ in range(repeats)]
    rates = dict(zip(ready, np.array(rounds).T, strict=True))
    return Scores(rates, {name: contestant.compile_seconds for name, contestant in ready.items()}, skipped)


def ours(run: Callable[[int], Run], model_steps: int = 1, step_seconds: float = 1e-3) -> Start:
    """`run(num_steps)` is `fit` or `sweep` with all else given, whose History knows compile and run seconds.

    One of its steps is so many `model_steps`: one a model of a sweep, one a sample of a map. `step_seconds` is a guess at its time.
    Other numbers of steps may be other programs, so they are powers of two, which the compilation cache meets again in the next run of
    the benchmark, and the guess is taken unless it is far off.
    """

    def start(seconds: float) -> Contestant:
        steps = _power_of_two(seconds / step_seconds)
        history = run(steps).history
        better = _power_of_two(seconds * steps / history.run_seconds)
        if not steps / 4 <= better <= steps * 4:
            steps = better
            history = run(steps).history
        return Contestant(lambda: model_steps * steps / run(steps).history.run_seconds, history.compile_seconds)

    return start


def peer(prepare: Callable[[], Callable[[int], object]]) -> Start:
    """`prepare()` gives `advance(num_steps)`, of one model, which returns when it is done; its first step is its compilation."""

    def start(seconds: float) -> Contestant:
        advance = prepare()
        first, steps = _clock(advance, 1), 1
        while (taken := _clock(advance, steps)) < seconds / 10:
            steps *= 2
        steps = max(1, round(steps * seconds / taken))
        return Contestant(lambda: steps / _clock(advance, steps), first)

    return start


def faster(advances: Mapping[T, Callable[[int], object]], steps: int = 20) -> T:
    """The key of the quickest, by the better of two short runs each."""
    for advance in advances.values():
        advance(1)
    taken = {key: min(_clock(advance, steps) for _ in range(2)) for key, advance in advances.items()}
    return min(taken, key=taken.__getitem__)


def matmul_rate(dtype: str, repeats: int = 5) -> float:
    """Operations a second of the best product of two square matrices of that dtype, 2n³ each, at the precision that JAX is set to.

    n doubles from 512 until a product takes 50 ms, so that a fast device gets a large one.
    """
    product = jax.jit(jnp.matmul)

    def multiply(x: jax.Array, times: int = 1) -> None:
        for _ in range(times):
            product(x, x).block_until_ready()

    best, taken, n = 0.0, 0.0, 512
    while taken < 0.05 and n <= 16384:
        x = jax.random.normal(jax.random.key(0), (n, n), dtype)
        multiply(x)
        taken = min(_clock(partial(multiply, x), 1) for _ in range(repeats))
        best, n = max(best, 2 * n**3 / taken), 2 * n
    return best


def _clock(advance: Callable[[int], object], steps: int) -> float:
    began = time.perf_counter()
    advance(steps)
    return time.perf_counter() - began


def _power_of_two(number: float) -> int:
    return 2 ** max(0, round(math.log2(number)))


def _in_a_line(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
