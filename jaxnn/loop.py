"""The host's side of the loop: between two compiled chunks it evaluates, looks for what is not finite, saves, and shows progress."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn import devices
from jaxnn.checkpoint import Checkpoints, Goal, Store
from jaxnn.interrupt import Interrupted, asked_to_stop
from jaxnn.progress import progress
from jaxnn.types import InputError, Metrics, PyTree

CHUNK_SECONDS = 0.5


class History(NamedTuple):
    """What a run measured. In a sweep every array but `evaluated_at` starts with the axes (seeds, *lengths of `axes`)."""

    train: dict[str, np.ndarray]
    """The metrics of each step, (steps, ...)."""
    evaluation: dict[str, np.ndarray]
    """Means over `eval_data`, (evaluations, ...)."""
    evaluated_at: np.ndarray
    """The step before which each evaluation was made, (evaluations,)."""
    diverged_at: np.ndarray
    """The first step whose metrics, or the evaluation before it, are NaN or infinite; -1 where there is none."""
    compile_seconds: float
    run_seconds: float
    """Both summed over the interruptions of a run; so is the next."""
    waited_seconds: float = 0.0
    """Of `run_seconds`, those in which the host waited for a stream's next batch."""


class Run(NamedTuple):
    """What `fit`, `fit_stream` and `sweep` return."""

    state: Any
    history: History


class Diverged(ArithmeticError):
    """A metric became NaN or infinite. `run` holds state and history up to the end of the chunk in which it did."""

    def __init__(self, message: str, run: Run):
        super().__init__(message)
        self.run = run


class EarlyStopping(NamedTuple):
    """Stop when the last `patience` evaluations brought nothing better than the best before them by more than `least`."""

    goal: Goal
    patience: int
    least: float = 0.0

    def stops(self, evaluations: Sequence[Mapping[str, Any]]) -> bool:
        """Whether to stop after these evaluations.

        >>> rule = EarlyStopping(Goal("loss", higher_is_better=False), patience=2)
        >>> losses = [{"loss": loss} for loss in (3.0, 1.0, 2.0, 1.5)]
        >>> [rule.stops(losses[:count]) for count in (1, 2, 3, 4)]
        [False, False, False, True]
        """
        best, since = -math.inf, 0
        for score in map(self.goal.score, evaluations):
            best, since = (score, 0) if score > best + self.least else (best, since + 1)
        return since >= self.patience


class Reached(NamedTuple):
    """Stop when an evaluation's metric is as good as `value`: step (5) of the BP algorithm, lecture row 45 (S2:446)."""

    goal: Goal
    value: float

    def stops(self, evaluations: Sequence[Mapping[str, Any]]) -> bool:
        """Whether to stop after these evaluations.

        >>> rule = Reached(Goal("loss", higher_is_better=False), 0.1)
        >>> rule.stops([{"loss": 0.3}]), rule.stops([{"loss": 0.3}, {"loss": 0.1}])
        (False, True)
        """
        enough = self.goal.score({self.goal.metric: self.value})
        return bool(evaluations) and self.goal.score(evaluations[-1]) >= enough


class Task(NamedTuple):
    """A run as the host sees it: functions of concrete states and step numbers."""

    init: Callable[[], Any]
    shapes: Callable[[], Any]
    """What `init` gives, as shapes, dtypes and, over a mesh, shardings."""
    advance: Callable[[Any, int, int], tuple[Any, Mapping[str, Any]]]
    """Steps begin … end-1; row i of the metrics is that of step begin + i."""
    evaluate: Callable[[Any, int], Metrics] | None
    num_steps: int
    eval_every: int
    capacity: int
    """Steps that one call of `advance` may take."""
    lead: tuple[int, ...] = ()
    """The leading axes of state and metrics: none for one learner, (seeds, size) for a sweep."""
    mesh: Mesh | None = None
    """The devices that take part, which may be those of several processes."""
    trim: Callable[[PyTree], PyTree] = lambda tree: tree
    """What is kept of arrays with the leading axes: a sweep's idle copies, which fill its last device, are not."""
    pad: Callable[[PyTree], PyTree] = lambda tree: tree
    """Its inverse."""
    identity: Callable[[], Mapping[str, Any]] = dict
    """What makes this run what it is, as JSON knows it; a checkpoint of another is refused."""
    position: Callable[[], Any] = lambda: None
    """Of the data stream, as JSON knows it."""
    seek: Callable[[Any], None] = lambda position: None
    waited: Callable[[], float] = lambda: 0.0
    """Seconds so far in which the host waited for the data stream."""
    batch_size: int | None = None
    """Rows a step of a data stream, for the progress bar."""


class Journal:
    """The history so far. The arrays of a sweep have the task's own leading axes."""

    def __init__(self, lead: tuple[int, ...]):
        self.lead = lead
        self.train: list[dict[str, np.ndarray]] = []
        self.evaluation: list[dict[str, np.ndarray]] = []
        self.evaluated_at: list[int] = []
        self.diverged_at = np.full(lead, -1)
        self.compile_seconds = self.run_seconds = self.waited_seconds = 0.0

    def trained(self, begin: int, rows: dict[str, np.ndarray]) -> None:
        self.train.append(rows)
        bad = _first_not_finite(rows, self.lead)
        self.diverged_at = np.where((self.diverged_at < 0) & (bad >= 0), begin + bad, self.diverged_at)

    def evaluated(self, step: int, values: dict[str, np.ndarray]) -> None:
        self.evaluation.append(values)
        self.evaluated_at.append(step)
        bad = np.any([~np.isfinite(value) for value in values.values()], axis=0)
        self.diverged_at = np.where((self.diverged_at < 0) & bad, step, self.diverged_at)

    def history(self) -> History:
        axis = len(self.lead)
        if len(self.train) > 1:  # once joined, the pieces are not joined again at the next checkpoint
            self.train = [{name: np.concatenate([piece[name] for piece in self.train], axis) for name in self.train[0]}]
        evaluation = jax.tree.map(lambda *values: np.stack(values, axis), *self.evaluation) if self.evaluation else {}
        seconds = self.compile_seconds, self.run_seconds, self.waited_seconds
        return History(self.train[0] if self.train else {}, evaluation, np.array(self.evaluated_at, int), self.diverged_at, *seconds)

    def arrays(self, trim: Callable) -> dict[str, np.ndarray]:
        """The history as named arrays, without idle copies."""
        history = self.history()
        by_member = {f"train/{name}": rows for name, rows in history.train.items()}
        by_member |= {f"evaluation/{name}": rows for name, rows in history.evaluation.items()}
        return {
            **trim({**by_member, "diverged_at": history.diverged_at}),
            "evaluated_at": history.evaluated_at,
            "seconds": np.array([history.compile_seconds, history.run_seconds, history.waited_seconds]),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], task: Task) -> "Journal":
        """The journal that `arrays` came from; the evaluation at the end of a run that now goes further is none of its own."""
        journal = Journal(task.lead)
        evaluated_at, seconds = arrays["evaluated_at"], arrays["seconds"]
        by_member = task.pad({name: rows for name, rows in arrays.items() if name not in ("evaluated_at", "seconds")})
        journal.diverged_at = by_member.pop("diverged_at")
        train = {name.removeprefix("train/"): rows for name, rows in by_member.items() if name.startswith("train/")}
        evaluation = {name.removeprefix("evaluation/"): rows for name, rows in by_member.items() if name.startswith("evaluation/")}
        journal.train = [train]
        for i, step in enumerate(evaluated_at.tolist()):
            if step % task.eval_every == 0 or step == task.num_steps:
                journal.evaluated_at.append(step)
                journal.evaluation.append({name: np.take(rows, i, len(task.lead)) for name, rows in evaluation.items()})
        journal.compile_seconds, journal.run_seconds, journal.waited_seconds = seconds.tolist()
        return journal


def drive(
    task: Task,
    start: tuple[int, Any] | None,
    label: str | None,
    checkpoint: Checkpoints | None = None,
    stop: EarlyStopping | Reached | None = None,
) -> Run:
    """Run a task to its end. A task of one learner (`lead == ()`) ends as soon as it diverged."""
    began = time.perf_counter()
    with _store(task, checkpoint) as (store, asked):
        step, state, journal = _beginning(task, start, store)
        if step < task.num_steps:
            state, metrics = task.advance(state, step, step)  # no step at all: it compiles
            journal.train = journal.train or [_rows(metrics, task.lead, 0)]
            if task.evaluate:
                jax.block_until_ready(task.evaluate(state, step))
        journal.compile_seconds += time.perf_counter() - began
        return _go_on(task, step, state, journal, store, asked, stop, label)


def _go_on(
    task: Task,
    step: int,
    state: Any,
    journal: Journal,
    store: Store | None,
    asked: Callable[[], int],
    stop: EarlyStopping | Reached | None,
    label: str | None,
) -> Run:
    tick, length, waited = time.perf_counter(), 1, task.waited()
    with progress(label if jax.process_index() == 0 else None, task.num_steps, step) as show:
        while True:
            score = _evaluate(task, step, state, journal, store)
            ended = step == task.num_steps or (stop is not None and stop.stops(journal.evaluation))
            diverged = task.lead == () and journal.diverged_at >= 0
            now = time.perf_counter()
            journal.run_seconds, tick = journal.run_seconds + now - tick, now
            journal.waited_seconds, waited = journal.waited_seconds + task.waited() - waited, task.waited()
            signal, kept = int(devices.agreed([asked()], task.mesh)[0]), False
            if store and not diverged and (signal or _is_best(store, score) or _is_time(task, store, ended)):
                kept = store.save(step, task.trim(state), journal.arrays(task.trim), task.position(), score)
            if store and signal:
                raise Interrupted(_say_interrupted(task, step, store, kept), signal)
            if ended or diverged:
                return Run(state, journal.history())
            end = min(step + length, task.num_steps, (step // task.eval_every + 1) * task.eval_every)
            chunk_began = time.perf_counter()
            state, metrics = task.advance(state, step, end)
            journal.trained(step, _rows(metrics, task.lead, end - step))
            seconds = time.perf_counter() - chunk_began
            in_time = (end - step) * CHUNK_SECONDS / seconds
            length = max(1, min(task.capacity, int(devices.of_first([in_time], task.mesh)[0])))  # one clock for all processes
            show(end, _shown(task, journal, end - step, seconds, task.waited() - waited))
            step = end


@contextmanager
def _store(task: Task, checkpoint: Checkpoints | None) -> Iterator[tuple[Store | None, Callable[[], int]]]:
    """The run's checkpoints, and what tells that a signal asked to stop: without checkpoints a signal stops at once."""
    if checkpoint is None:
        yield None, lambda: 0
        return
    store = Store(checkpoint, task.identity())
    try:
        with asked_to_stop() as asked:
            yield store, asked
    finally:
        store.close()


def _beginning(task: Task, start: tuple[int, Any] | None, store: Store | None) -> tuple[int, Any, Journal]:
    """Step, state and history to go on from: the newest checkpoint, else `start`, else step 0."""
    saved = store.newest(jax.eval_shape(task.trim, task.shapes())) if store else None
    if saved:
        if saved.step > task.num_steps:
            folder = store.checkpoints.folder  # type: ignore[union-attr]
            raise InputError(f"{folder} holds a checkpoint of step {saved.step}, beyond num_steps = {task.num_steps}; name another folder")
        if saved.step < task.num_steps:
            task.seek(saved.position)
        return saved.step, _copied(task.pad(saved.state), task.shapes()), Journal.of(saved.history, task)
    if start is None:
        return 0, task.init(), Journal(task.lead)
    if not 0 <= start[0] <= task.num_steps:
        raise InputError(f"start is at step {start[0]}, outside 0 … num_steps = {task.num_steps}")
    return start[0], _copied(start[1], task.shapes()), Journal(task.lead)


def _evaluate(task: Task, step: int, state: Any, journal: Journal, store: Store | None) -> float | None:
    """Evaluate where it is time to; return the score of this step by the goal of the checkpoints."""
    if task.evaluate and (step % task.eval_every == 0 or step == task.num_steps) and step not in journal.evaluated_at[-1:]:
        journal.evaluated(step, devices.to_host(task.evaluate(state, step)))
    goal = store.checkpoints.best if store else None
    if goal is None or step not in journal.evaluated_at[-1:]:
        return None
    score = goal.score(task.trim(journal.evaluation[-1]))
    return score if math.isfinite(score) else None


def _is_time(task: Task, store: Store, ended: bool) -> bool:
    return store.checkpoints.at_end if ended else bool(devices.of_first([store.due()], task.mesh)[0])


def _is_best(store: Store, score: float | None) -> bool:
    return score is not None and store.is_best(score)


def _say_interrupted(task: Task, step: int, store: Store, kept: bool) -> str:
    where = f"after step {step:,} of {task.num_steps:,}"
    if not kept:
        return f"stopped {where}, which could not be saved; older checkpoints in {store.checkpoints.folder} are as they were"
    return f"stopped {where}, which is saved in {store.checkpoints.folder}; the same call goes on from there"


def _shown(task: Task, journal: Journal, steps: int, seconds: float, waited: float) -> dict[str, Any]:
    """What the progress bar shows beside the step: the last metrics, and of a stream its rate and the share of waiting."""
    last = {name: np.median(rows[..., -1]) for name, rows in journal.train[-1].items() if rows.ndim == len(task.lead) + 1}
    if task.batch_size is None:
        return last
    return {"examples/s": steps * task.batch_size / seconds, "waiting %": 100 * waited / seconds, **last}


def _copied(state: Any, like: Any) -> Any:
    """The caller's state, so that his own is not donated. Raises `InputError` where it is not that of this learner."""
    trees = [str(jax.tree.structure(tree)) for tree in (state, like)]
    if trees[0] != trees[1]:
        raise InputError(f"start has a state of the tree {trees[0]}, this learner's is {trees[1]}")
    for (path, leaf), own in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(like), strict=True):
        if jnp.shape(leaf) != own.shape or jnp.result_type(leaf) != own.dtype:
            kinds = f"{jnp.result_type(leaf)}{jnp.shape(leaf)}, this learner's is {own.dtype}{own.shape}"
            raise InputError(f"start has a state whose leaf {jax.tree_util.keystr(path)} is {kinds}")
    return jax.tree.map(lambda x, own: devices.placed(jnp.array(x), own.sharding) if own.sharding else jnp.array(x), state, like)


def _rows(metrics: Mapping[str, Any], lead: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    return {name: rows[(slice(None),) * len(lead) + (slice(count),)].copy() for name, rows in devices.to_host(metrics).items()}


def _first_not_finite(metrics: dict[str, np.ndarray], lead: tuple[int, ...]) -> np.ndarray:
    """The first step with a NaN or Inf in any metric, -1 if none, for every member."""
    if not metrics:
        return np.full(lead, -1)
    bad = [~np.isfinite(rows).all(axis=tuple(range(len(lead) + 1, rows.ndim))) for rows in metrics.values()]
    any_bad = np.any(bad, axis=0)
    if any_bad.shape[-1] == 0:  # an evaluation before the first step
        return np.full(lead, -1)
    return np.where(any_bad.any(-1), any_bad.argmax(-1), -1)


def describe_divergence(history: History, causes: str = "") -> str:
    """The step, the metrics that are not finite, what in the data may be the cause, and what to try."""
    at = int(history.diverged_at)
    row = next((int(bad) for bad in [_first_not_finite(history.train, ())] if bad >= 0), None)
    values = {} if row is None else {name: rows[row] for name, rows in history.train.items()}
    if at in history.evaluated_at:
        values |= {f"evaluated {name}": rows[list(history.evaluated_at).index(at)] for name, rows in history.evaluation.items()}
    values = {name: value for name, value in values.items() if not np.isfinite(value).all()}
    found = ", ".join(f"{name} is {value}" for name, value in values.items())
    advice = f"{'If that is as it should be, try' if causes else 'Try'} a lower learning rate or clipped gradients"
    return f"diverged at step {at}: {found}. {causes}{advice}. The error's `run` holds the history."
