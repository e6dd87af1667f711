"""Units that look at a few frames, alike at all times, bear a shift of a consonant better than units that look at the whole window.

Generated /b, d, g/ (`experiments.formants`), 15 frames in 16 mel channels, to be told apart by where the second formant comes from, are
learnt in one place or at shifts by up to three frames, and tested at every shift by up to five:

    TDNN           the net of 1989, 515 parameters: 8 units that see 3 frames, 3 that see 5, their squares summed up over time
    MLP-2, -30     an MLP on the whole window with 2 or 30 hidden units: 491 parameters, about as many, or 7,323
    HMM-diagonal   a hidden Markov model a class, 5 states from left to right with Gaussian emissions (`experiments.phoneme_hmm`): 972
    HMM-full       the same with full covariances: 8,412

The nets learn by Adam on the softmax's cross-entropy, each at the rate of a grid that does best on tokens held out; the sums of squares
are taken as logits. The paper's own loss is the squared error. The models see the channels and their slopes; they are hmmlearn's (of
`jaxnn[peers]`), and are left out where it is not installed.

Summing up over time does not make the net invariant in a window as short as this: a unit of the output sees 7 of the 15 frames, so
there is no place where none of them sees an end. It does bear twice the shift, and learns from shifted tokens what holds everywhere.

There is no number of the paper to compare with: its 98.5 %, and the 93.7 % of its hidden Markov models, which emit discrete symbols, are
of recorded words by three speakers. Nor do generated tokens say which method is the better one for speech.

Source: Waibel, Hanazawa, Hinton, Shikano, Lang 1989, doi:10.1109/29.21701; lecture row 98 (S4:248), erratum E26 (whose net it is).

Command: python -m experiments.tdnn_phonemes        (2 minutes on one CPU core)
Expected: learnt at shifts by up to 3 frames, 9 % of the tokens moved by 1 to 3 frames are named wrongly by the TDNN, 11 % by MLP-30, 31 %
by MLP-2, 16 % by HMM-full and 43 % by HMM-diagonal, medians of 5 seeds; of those moved by 4 and 5, 24, 56, 60, 22 and 55 %. Learnt in one
place, moved by 1 to 3: 20, 48, 58, 19 and 40 %; not moved: 6, 2.2, 16, 14 and 35 %. So where nothing moves the large MLP is the best, where
tokens move the TDNN and the full Gaussians are, and those bear the largest shifts best if they learnt in one place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure

from experiments import command, phoneme_hmm
from experiments.descent import best
from experiments.formants import CHANNELS, CLASSES, FRAMES, draw
from experiments.tdnn_phonemes_figures import draw_delays, draw_errors, draw_inside, draw_tokens
from experiments.unfinished import NOTHING, Keep
from jaxnn import losses
from jaxnn.activations import sigmoid
from jaxnn.learners import supervised
from jaxnn.models import MLP, TDNN, functional, layers
from jaxnn.models.functional import Module
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, PyTree, unknown

NETS: dict[str, Module] = {"TDNN": TDNN(), "MLP-2": MLP((2, 3)), "MLP-30": MLP((30, 3))}
"""Those on the whole window have 2 and 30 hidden units."""
HMMS: dict[str, phoneme_hmm.Covariance] = {"HMM-diagonal": "diag", "HMM-full": "full"}
"""By name, the covariances of what a state emits."""
CONDITIONS = ("in place", "shifted")
INSIDE = (-3, 0, 3)
"""Shifts at which one token is followed through the net."""


@dataclass(frozen=True)
class Config:
    tokens: int = 600
    """Generated tokens to learn from, a third of each class; half as many more choose the learning rate."""
    test_tokens: int = 600
    """Tokens to test on, each at every shift."""
    train_shift: int = 3
    """Half of the nets and models learn from tokens shifted by up to so many frames, the others from tokens that stand in one place."""
    test_shift: int = 5
    """Each is tested at all shifts up to so many frames."""
    noise: float = 0.25
    """Standard deviation of the noise that is added to the logarithm of each channel's energy."""
    batch_size: int = 60
    """Tokens a step."""
    steps: int = 1500
    """Of Adam, for every net."""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """The grid of Adam's rates; each net takes that of the lowest loss on the held-out tokens."""
    states: int = 5
    """Of each hidden Markov model."""
    methods: tuple[str, ...] = (*NETS, *HMMS)
    """Which nets and models to compare."""
    seeds: int = 5
    """Draws of the tokens, of the nets' starts and of their batches."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(6, tokens=self.tokens, test_tokens=self.test_tokens)
        command.at_least(1, batch_size=self.batch_size, steps=self.steps, seeds=self.seeds, states=self.states)
        command.at_least(0, train_shift=self.train_shift, test_shift=self.test_shift)
        for name in self.methods:
            if name not in {**NETS, **HMMS}:
                raise unknown("method", name, {**NETS, **HMMS})
        if "TDNN" not in self.methods:
            raise InputError("--methods must name the TDNN: the figures look into it")
        if self.batch_size > self.tokens:
            raise InputError(f"--batch-size must not exceed --tokens {self.tokens}, got {self.batch_size}")
        if not 0 <= self.noise < np.inf:
            raise InputError(f"--noise must be from 0 and finite, got {self.noise}")
        if self.states > FRAMES:
            raise InputError(f"--states must be at most {FRAMES}, the frames of a token, got {self.states}")


class Tokens(NamedTuple):
    """Of one seed."""

    train: Batch
    held_out: Batch
    test: Batch
    """The same tokens at every shift: `x` (shifts, N, 15, 16), `label` (N,)."""


class Net(NamedTuple):
    """What all seeds of a net share."""

    make: Callable[..., Learner]
    predict: Callable[[PyTree, Array], Array]


class Result(NamedTuple):
    """Of one method that learnt one seed's tokens."""

    error: np.ndarray
    """The share of the test tokens named wrongly, (shifts,)."""
    learning_rate: float = np.nan
    """The one that was chosen; a model has none."""
    variables: PyTree = None
    history: History | None = None


def shifts(config: Config) -> np.ndarray:
    """All at which tokens are tested, in frames."""
    return np.arange(-config.test_shift, config.test_shift + 1)


def tokens_of(config: Config, seed: int, widest: int) -> Tokens:
    """Training and held-out tokens are shifted by up to `widest` frames; the test tokens of a seed are the same whatever that is."""
    train, held_out, test = jax.random.split(jax.random.fold_in(jax.random.key(1), seed), 3)
    learnt = shifted(train, config.tokens, widest, config.noise), shifted(held_out, config.tokens // 2, widest, config.noise)
    tested = at_every_shift(test, config.test_tokens, jnp.asarray(shifts(config)), config.noise)
    return Tokens(*learnt, {"x": tested["x"], "label": tested["label"][0]})


@partial(jax.jit, static_argnums=1)
def at_every_shift(key: PRNGKeyArray, count: int, shift: Array, noise: float) -> Batch:
    """The same tokens at each shift (S,): `x` (S, count, 15, 16), `label` (S, count)."""
    return jax.vmap(lambda one: draw(key, count, one, noise))(shift)


@partial(jax.jit, static_argnums=1)
def shifted(key: PRNGKeyArray, count: int, widest: int, noise: float) -> Batch:
    """Tokens, each shifted by a whole number of frames from -widest to widest."""
    token_key, shift_key = jax.random.split(key)
    return draw(token_key, count, jax.random.randint(shift_key, (count,), -widest, widest + 1), noise)


def learner_of(module: Module, learning_rate: float) -> Learner:
    """Adam on the cross-entropy of what the net gives, taken for logits."""
    loss, inputs = losses.softmax_cross_entropy_with_integer_labels, lambda batch: (batch["x"], batch["label"])
    return supervised(*functional(module), loss, optax.adam(learning_rate), preprocess=inputs)


def prepared(module: Module) -> Net:
    """What all seeds of a net share, so that it is compiled once."""
    apply = functional(module).apply
    return Net(partial(learner_of, module), jax.jit(lambda variables, x: apply(variables, x, train=False)[0]))


def by_net(net: Net, tokens: Tokens, config: Config, seed: int, name: str, keep: Keep) -> Result:
    """All rates side by side, on the same batches; then the best of them is tested."""
    state, history = sweep(
        net.make,
        jax.random.fold_in(jax.random.key(0), seed),
        tokens.train,
        seeds=1,
        axes={"learning_rate": config.learning_rates},
        batch_size=config.batch_size,
        num_steps=config.steps,
        eval_every=config.steps,
        eval_data=tokens.held_out,
        checkpoint=keep.checkpoint(f"{name}, seed {seed}"),
        label=f"{name}, seed {seed}",
    )
    at = best(history.evaluation["loss"], history.diverged_at)
    variables = jax.tree.map(lambda x: jnp.asarray(x)[0, at], state.variables)
    x, label = tokens.test["x"], tokens.test["label"]
    said = net.predict(variables, x.reshape(-1, FRAMES, CHANNELS)).argmax(-1).reshape(x.shape[:2])
    return Result(np.asarray(said != label[None]).mean(-1), config.learning_rates[at], variables, history)


def by_hmm(covariance: phoneme_hmm.Covariance, tokens: Tokens, config: Config, part: str, keep: Keep) -> Result:
    def make() -> dict[str, np.ndarray]:
        train, test = jax.tree.map(np.asarray, (tokens.train, tokens.test))
        models = phoneme_hmm.fit(train["x"], train["label"], len(CLASSES), config.states, covariance)
        return {"error": np.array([(phoneme_hmm.classify(models, x) != test["label"]).mean() for x in test["x"]])}

    return Result(keep.part(part, make)["error"])


def at_hand(methods: Iterable[str]) -> list[str]:
    """Without the hidden Markov models where there is no library for them."""
    names = list(methods)
    if set(names) & set(HMMS) and phoneme_hmm.library() is None:
        print("hmmlearn is not installed: without the HMMs. pip install 'jaxnn[peers]' brings it.", flush=True)
        names = [name for name in names if name not in HMMS]
    return names


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    names = at_hand(config.methods)
    nets = {name: prepared(NETS[name]) for name in names if name in NETS}
    results: dict[str, list[Result]] = {}
    for condition, widest in zip(CONDITIONS, (0, config.train_shift), strict=True):
        for seed in range(config.seeds):
            tokens = tokens_of(config, seed, widest)
            for name in names:
                what = f"{condition}/{name}"
                one = by_net(nets[name], tokens, config, seed, what, keep) if name in nets else None
                one = one or by_hmm(HMMS[name], tokens, config, f"{what}, seed {seed}", keep)
                results.setdefault(what, []).append(one)
    history: dict[str, Any] = {"shift": shifts(config)} | {f"parameters/{name}": parameters(name, config) for name in names}
    for what, of_seeds in results.items():
        history[f"error/{what}"] = np.stack([one.error for one in of_seeds])
        history[f"learning_rate/{what}"] = np.array([one.learning_rate for one in of_seeds])
    history |= looked_into(results["shifted/TDNN"][0].variables, config)
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"seconds": command.seconds(one.history for group in results.values() for one in group if one.history), "methods": names}
    return command.Outcome(history, axes, list(compare_all(names, config, history)), about, results["shifted/TDNN"][0].variables)


AXES: dict[str, tuple[str, ...]] = {
    "shift": ("shift",),
    "parameters": (),
    "error": ("seed", "shift"),
    "learning_rate": ("seed",),
    "token": ("token", "frame", "channel"),
    "inside": ("shift", "frame", "unit"),
    "delays": ("delay", "channel", "unit"),
}


def parameters(name: str, config: Config) -> np.ndarray:
    """How many a method has to learn."""
    if name in HMMS:
        return np.array(phoneme_hmm.parameters(len(CLASSES), config.states, CHANNELS, HMMS[name]))
    shapes = jax.eval_shape(functional(NETS[name]).init, jax.random.key(0), jnp.zeros((1, FRAMES, CHANNELS)))
    return np.array(sum(leaf.size for leaf in jax.tree.leaves(shapes)))


def looked_into(variables: PyTree, config: Config) -> dict[str, np.ndarray]:
    """Some tokens; one of d at three shifts with what each layer makes of it; the first layer's weights."""
    x = at_every_shift(jax.random.key(2), 18, jnp.array(INSIDE), config.noise)["x"]
    again = x[:, 1]
    sums = layers(TDNN(), variables, again)
    found = {"token/x": x[INSIDE.index(0)], "inside/x": again, "delays/weights": variables["params"]["delays_1"]["kernel"]}
    found |= {f"inside/{number}": sigmoid(sums[f"delays_{number}"]) for number in (1, 2)}
    return {name: np.asarray(values) for name, values in found.items()}


def within(history: Mapping[str, np.ndarray], what: str, least: int, most: int) -> np.ndarray:
    """The mean error at shifts of so many frames, either way, (seeds,)."""
    distance = np.abs(history["shift"])
    return history[f"error/{what}"][:, (distance >= least) & (distance <= most)].mean(1)


def compare_all(names: list[str], config: Config, history: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """Errors in % where tokens stand, of shifted ones, and of those shifted further than any to learn from."""
    edge, end = config.train_shift, config.test_shift
    for condition in CONDITIONS:
        for name in names:
            what = f"{condition}/{name}"
            yield compare(f"trained {condition}, {name}: error in place, %", 100 * within(history, what, 0, 0))
            if edge > 0 and end > 0:
                yield compare(f"trained {condition}, {name}: error shifted by 1 to {edge}, %", 100 * within(history, what, 1, edge))
            if end > edge:
                yield compare(f"trained {condition}, {name}: error shifted further, %", 100 * within(history, what, edge + 1, end))


def plot(record: Record) -> Mapping[str, Figure]:
    return {
        "errors": draw_errors(record, CONDITIONS),
        "inside": draw_inside(record, INSIDE, CLASSES),
        "delays": draw_delays(record),
        "tokens": draw_tokens(record, CLASSES),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
