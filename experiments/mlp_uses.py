"""An MLP does more than classify: it fits a function, forecasts a series and compresses images, where linear methods fall short.

Function fitting: sin(r)/r on a square from noisy samples, 2-20-1 against polynomials by least squares, one of them with as many
coefficients as the net has weights. Forecast: the Mackey-Glass series dx/dt = .2 x(t-17)/(1 + x(t-17)^10) - .1 x(t), generated here by
Runge-Kutta; x(t + h) from x(t), x(t-6), x(t-12), x(t-18), 4-20-1 against the linear autoregression on the same four and against
x(t) itself. Compression: digits through a bottleneck of k numbers, 784-128-k-128-784, against the k first principal components, which
no linear net can beat on what it learnt from (Baldi & Hornik 1989, doi:10.1016/0893-6080(89)90014-2). The net wins while k is small; with
30 numbers, few images and a short training PCA does.

Source: lecture row 26 (S2:529). Mackey & Glass 1977, doi:10.1126/science.267326; the split into 500 and 500 points of Jang 1993,
doi:10.1109/21.256541; PCA with 30 numbers on full MNIST 13.87: Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647.

Command: python -m experiments.mlp_uses        (a minute on two CPU cores)
Expected: root mean squared errors on sin(r)/r of .06 by the net and .17, most of it in the corners, by the polynomial; on the series
6 ahead, in its standard deviations, .016 by the net, .42 by the autoregression, .82 by x(t); a digit's squared error in 2, 8 and 30
numbers: 41, 23 and 16 by the net, 44, 30 and 14 by PCA.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from experiments import command
from experiments.mlp_uses_figures import METHODS, draw_codes, draw_fit, draw_forecast, draw_reconstructions
from experiments.unfinished import NOTHING, Keep
from jaxnn import activations, losses, schedules
from jaxnn.learners import supervised
from jaxnn.models import MLP, Functional, functional
from jaxnn.optimizers import adam, lbfgs
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import History, sweep
from jaxnn.types import Batch, InputError, Learner, Trained

DELAYS = (18, 12, 6, 0)
"""Of the values that a forecast sees."""
FIRST = 118
"""The t of the first example: what was there before it is the series finding its way."""
PUBLISHED_PCA = {30: 13.87}
"""Squared error of an MNIST test image, by the size of the code."""


@dataclass(frozen=True)
class Config:
    samples: int = 400
    """Noisy samples of sin(r)/r."""
    noise: float = 0.1
    """Their standard deviation."""
    horizons: tuple[int, ...] = (6, 50)
    """How far ahead to forecast, in the time units of the equation."""
    hidden: int = 20
    """Tanh units of the nets that fit and forecast."""
    steps: int = 300
    """Of L-BFGS, for these nets."""
    codes: tuple[int, ...] = (2, 8, 30)
    """Numbers that an image is compressed to."""
    bottleneck_hidden: int = 128
    """ReLU units on both sides of the code."""
    epochs: int = 30
    """Passes over the digits, with Adam."""
    batch_size: int = 100
    """Images a step."""
    seeds: int = 2
    """Seeds 0 … n-1 of each net."""
    images: int | None = None
    """The first so many training images; None takes all."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, horizons=self.horizons, hidden=self.hidden, steps=self.steps, codes=self.codes, seeds=self.seeds)
        command.at_least(1, bottleneck_hidden=self.bottleneck_hidden, epochs=self.epochs, batch_size=self.batch_size, images=self.images)
        command.at_least(3, samples=self.samples)
        if max(self.codes) > 784:
            raise InputError(f"--codes must not exceed the 784 pixels, got {max(self.codes)}")
        if self.noise < 0:
            raise InputError(f"--noise is a standard deviation, at least 0, got {self.noise}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    fitted, first = fit_function(config, keep)
    forecast, second = forecast_series(config, keep)
    train = command.load_digits(config.digits, "train" if config.images is None else f"train[:{config.images}]")
    test = command.load_digits(config.digits, "test")
    compressed, third = compress(config, train.arrays, test.arrays, keep)
    history = {**fitted, **forecast, **compressed}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds([*first, *second, *third])}
    return command.Outcome(history, axes, list(compare_all(config, history, train.source.name)), about)


AXES = {
    "samples": ("sample", "coordinate"),
    "truth": ("row", "column"),
    "fit": ("row", "column"),
    "fit_error": ("seed",),
    "series": ("time",),
    "target": ("time",),
    "forecast": ("time",),
    "forecast_error": ("seed",),
    "code_error": ("seed",),
    "shown": ("image", "row", "column"),
    "rebuilt": ("image", "row", "column"),
}


def regression(hidden: int) -> Learner:
    """One hidden layer of tanh units under the mean squared error, by L-BFGS on all examples."""
    model = functional(MLP((hidden, 1), activations.tanh))
    return supervised(*model, losses.half_squared_error, lbfgs(), preprocess=lambda batch: (batch["x"], batch["y"]))


def trained_on(x: np.ndarray, y: np.ndarray, config: Config, checkpoint: Any, label: str) -> tuple[Callable, History]:
    """Nets fitted to (N, D) and (N,), a seed each, as a function of further x (M, D) -> (seeds, M).

    Inputs and targets are standardised on the way in and out.
    """
    (x_mean, x_std), (y_mean, y_std) = ((part.mean(0), part.std(0)) for part in (x, y))
    data = {"x": np.float32((x - x_mean) / x_std), "y": ((y - y_mean) / y_std).astype(np.float32)[:, None]}
    learner = regression(config.hidden)
    loop = partial(sweep, lambda: learner, jax.random.key(0), data, seeds=config.seeds, num_steps=config.steps)
    state, history = loop(checkpoint=checkpoint, label=label)

    def predict(x: np.ndarray) -> np.ndarray:
        batch = {"x": np.float32((x - x_mean) / x_std), "y": np.zeros((len(x), 1), np.float32)}
        each = [Trained(learner, jax.tree.map(lambda leaf, seed=seed: leaf[seed], state)).predict(batch) for seed in range(config.seeds)]
        return np.asarray(each, float)[..., 0] * y_std + y_mean

    return predict, history


def hat(points: np.ndarray) -> np.ndarray:
    """sin(r)/r with r = 8 times the distance from the middle, (N, 2) -> (N,)."""
    return np.sinc(8 * np.linalg.norm(points, axis=-1) / np.pi)


def monomials(points: np.ndarray, degree: int) -> np.ndarray:
    """All u^i v^j with i + j ≤ degree, (N, 2) -> (N, (degree + 1)(degree + 2)/2).

    >>> monomials(np.array([[2.0, 3.0]]), 2)
    array([[1., 3., 9., 2., 6., 4.]])
    """
    u, v = points.T
    return np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)], -1)


def degree_with(coefficients: int) -> int:
    """The degree of the largest polynomial in two variables with at most so many coefficients.

    >>> degree_with(81), (11 + 1) * (11 + 2) // 2
    (11, 78)
    """
    return max(degree for degree in range(coefficients) if (degree + 1) * (degree + 2) // 2 <= coefficients)


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(x, y, rcond=None)[0]


def fit_function(config: Config, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """Root mean squared errors to the noiseless function on a grid; the surfaces, of the nets that of seed 0."""
    side, rng = np.linspace(-1, 1, 41), np.random.default_rng(0)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    points = rng.uniform(-1, 1, (config.samples, 2))
    values = hat(points) + config.noise * rng.normal(size=config.samples)
    degrees = {"plane": 1, "cubic": 3, "polynomial": degree_with(4 * config.hidden + 1)}
    surfaces = {name: (monomials(grid, p) @ least_squares(monomials(points, p), values))[None] for name, p in degrees.items()}
    predict, history = trained_on(points, values, config, keep.checkpoint("function"), "function fitting")
    surfaces["mlp"] = predict(grid)
    arrays = {"truth": hat(grid).reshape(41, 41), "samples": np.column_stack([points, values])}
    arrays |= {f"fit/{name}": surface[0].reshape(41, 41) for name, surface in surfaces.items()}
    return arrays | {f"fit_error/{name}": rmse(surface, hat(grid)) for name, surface in surfaces.items()}, [history]


def rmse(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(seeds, N) and (N,) -> (seeds,)."""
    return np.sqrt(np.mean((outputs - targets) ** 2, axis=-1))


def mackey_glass(length: int, start: float = 1.2, before: float = 0.0, delay: int = 17, per_unit: int = 10) -> Float[np.ndarray, "length"]:
    """x(0) … x(length - 1) of dx/dt = .2 x(t-τ)/(1 + x(t-τ)^10) - .1 x(t), with x(t) = `before` for t < 0.

    Runge-Kutta of fourth order, `per_unit` steps a unit of time; the delayed value halfway a step is the mean of those at its ends.
    """
    h, lag = 1 / per_unit, delay * per_unit
    x = np.full(lag + 1 + (length - 1) * per_unit, before, float)
    x[lag] = start
    slope = lambda now, then: 0.2 * then / (1 + then**10) - 0.1 * now  # noqa: E731
    for i in range(lag, len(x) - 1):
        now, then = x[i], x[i - lag]
        next_then = x[i - lag + 1] if i >= 2 * lag else before  # not `start`: up to t = 0 the past is constant
        middle = (then + next_then) / 2
        k1 = slope(now, then)
        k2 = slope(now + h / 2 * k1, middle)
        k3 = slope(now + h / 2 * k2, middle)
        x[i + 1] = now + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(now + h * k3, next_then))
    return x[lag::per_unit]


def windows(series: np.ndarray, horizon: int, count: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """(x(t-18), x(t-12), x(t-6), x(t)) and x(t + horizon) for `count` times from t = 118 on."""
    times = FIRST + np.arange(count)
    return np.stack([series[times - delay] for delay in DELAYS], -1), series[times + horizon]


def forecast_series(config: Config, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """RMSE over the standard deviation of what is forecast, on the 500 points after the 500 that were learnt."""
    series = mackey_glass(FIRST + 1000 + max(config.horizons))
    arrays: dict[str, Any] = {"series": series}
    times = []
    for h in config.horizons:
        x, y = windows(series, h)
        train, test = slice(0, 500), slice(500, 1000)
        with_one = np.column_stack([x, np.ones(len(x))])
        predict, history = trained_on(x[train], y[train], config, keep.checkpoint(f"forecast {h}"), f"forecast {h} ahead")
        times.append(history)
        linear = with_one[test] @ least_squares(with_one[train], y[train])
        forecasts = {"persistence": x[test, -1][None], "autoregression": linear[None], "mlp": predict(x[test])}
        arrays |= {f"target/{h}": y[test]} | {f"forecast/{name}/{h}": values[0] for name, values in forecasts.items()}
        arrays |= {f"forecast_error/{name}/{h}": rmse(values, y[test]) / y[test].std() for name, values in forecasts.items()}
    return arrays, times


def bottleneck(code: int, hidden: int) -> Functional:
    """784-hidden-code-hidden-784 with ReLU units and a linear code: one MLP after another."""
    encoder, decoder = (functional(MLP((hidden, outputs), activations.relu)) for outputs in (code, 784))

    def init(key: Array, x: Array) -> dict:
        encoder_key, decoder_key = jax.random.split(key)
        variables = encoder.init(encoder_key, x)
        codes = encoder.apply(variables, x, train=False)[0]
        return {"params": {"encoder": variables["params"], "decoder": decoder.init(decoder_key, codes)["params"]}}

    def apply(variables: Mapping, x: Array, *, train: bool, rngs: Any = None) -> tuple[Array, Mapping]:
        codes = encoder.apply({"params": variables["params"]["encoder"]}, x, train=train)[0]
        return decoder.apply({"params": variables["params"]["decoder"]}, codes, train=train)[0], variables

    return Functional(init, apply)


def pixels_twice(batch: Batch) -> tuple[Array, Array]:
    """(x, x): pixels from 0 to 1 as input and as target."""
    x = batch["image"].astype("float32").reshape(len(batch["image"]), -1) / 255
    return x, x


def principal_components(train: np.ndarray, test: np.ndarray, code: int) -> np.ndarray:
    """`test` (N, D) rebuilt from its first `code` principal components, which are those of `train`."""
    mean = train.mean(0)
    directions = np.linalg.eigh(np.cov((train - mean).T, bias=True))[1][:, ::-1][:, :code]
    return mean + (test - mean) @ directions @ directions.T


def compress(config: Config, train: Batch, test: Batch, keep: Keep = NOTHING) -> tuple[dict[str, np.ndarray], list[History]]:
    """The squared error of a test image, summed over its pixels, for every size of the code; ten images rebuilt by seed 0."""
    flat = {name: part["image"].reshape(len(part["image"]), -1) / 255 for name, part in (("train", train), ("test", test))}
    first = [int(np.argmax(test["label"] == digit)) for digit in range(10)]
    arrays: dict[str, Any] = {"shown": flat["test"][first].reshape(-1, 28, 28)}
    num_steps = config.epochs * (len(flat["train"]) // config.batch_size)
    times = []
    for code in config.codes:
        optimizer = partial(adam, schedules.cosine(2e-3, max(1, num_steps)))
        net = partial(supervised, *bottleneck(code, config.bottleneck_hidden), losses.half_squared_error, preprocess=pixels_twice)
        state, history = sweep(
            lambda net=net, optimizer=optimizer: net(optimizer()),
            jax.random.key(0),
            train,
            seeds=config.seeds,
            batch_size=config.batch_size,
            num_steps=num_steps,
            eval_data=test,
            checkpoint=keep.checkpoint(f"code {code}"),
            label=f"bottleneck of {code}",
        )
        times.append(history)
        learner, one = net(optimizer()), jax.tree.map(lambda x: x[0], state)
        linear = principal_components(flat["train"], flat["test"], code)
        arrays[f"code_error/mlp/{code}"] = 2 * history.evaluation["loss"][:, -1]
        arrays[f"code_error/pca/{code}"] = ((linear - flat["test"]) ** 2).sum(-1).mean()[None]
        rebuilt = np.asarray(Trained(learner, one).predict({"image": test["image"][first]}))
        arrays |= {f"rebuilt/mlp/{code}": rebuilt.reshape(-1, 28, 28), f"rebuilt/pca/{code}": linear[first].reshape(-1, 28, 28)}
    return arrays, times


def compare_all(config: Config, history: Mapping[str, np.ndarray], data: str) -> Iterator[Comparison]:
    for name in ("plane", "cubic", "polynomial", "mlp"):
        yield compare(f"sin(r)/r, {METHODS[name]}: RMSE to the function without noise", history[f"fit_error/{name}"])
    for h in config.horizons:
        for name in ("persistence", "autoregression", "mlp"):
            what = f"Mackey-Glass (generated), {h} ahead, {METHODS[name]}: RMSE / standard deviation"
            yield compare(what, history[f"forecast_error/{name}/{h}"])
    for code in config.codes:
        for name in ("pca", "mlp"):
            published = PUBLISHED_PCA.get(code) if (name, data) == ("pca", "mnist") else None
            what = f"digits in {code} numbers, {METHODS[name]}: squared error of a test image"
            yield compare(what, history[f"code_error/{name}/{code}"], published)


def plot(record: Record) -> Mapping[str, Any]:
    return {
        "function": draw_fit(record),
        "forecast": draw_forecast(record),
        "compression": draw_codes(record),
        "reconstructions": draw_reconstructions(record),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
