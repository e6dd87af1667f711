"""Filters can be learnt from data: gradient descent finds Sobel's and Laplace's kernels from an image before and after.

w ← w - η ∂/∂w of the mean over pixels of ½(Σ p w - t)², with p the 3×3 pixels of a window and t what the unknown filter made of them,
from random weights. The cost is a quadric whose curvature is R = mean of ppᵀ; η is 1/λ_max of R, and the error along an eigenvector
shrinks by 1 - λ/λ_max a step. So the image decides: pixels of white noise are independent and the kernel is there within hundreds of
steps; neighbours in a photograph are alike, λ_max/λ_min is in the hundreds, and the differences of neighbours, which both kernels
are made of, are learnt last. There a momentum of .9 shortens the wait ten times.

Source: lecture row 160 (S4:427 asks whether filters can be learnt from data), rows 76 and 81 for the kernels, row 61 for momentum.
LeCun, Kanter, Solla 1991, doi:10.1103/PhysRevLett.66.2396, for the eigenvalues of the curvature and the time of learning.

Command: python -m experiments.learnt_filters        (30 s)
Expected: every weight is within .01 after about 150 steps (Sobel) and 180 (Laplacian) on noise, 2,500 and 3,800 on the photograph, and
220 and 330 there with momentum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.convolution_arithmetic import LAPLACIAN, SOBEL, correlate
from experiments.photograph import SOURCE, photograph
from experiments.unfinished import NOTHING, Keep
from jaxnn.learners import supervised
from jaxnn.losses import half_squared_error
from jaxnn.models.locally_connected import shared, windows
from jaxnn.record import Record, compare
from jaxnn.train import sweep
from jaxnn.types import Batch, InputError, Learner

TRUE = {"Sobel": SOBEL, "Laplacian": LAPLACIAN}
WANTED = 1e-2
"""Row 160: every weight of the kernel to a hundredth."""


@dataclass(frozen=True)
class Config:
    width: int = 64
    """Of the images, in pixels; they are 7/6 as high."""
    steps: int = 8_000
    """Of gradient descent, each on all pixels."""
    every: int = 20
    """Steps between two recorded errors."""
    momenta: tuple[float, ...] = (0.0, 0.9)
    """β of v ← βv + g, w ← w - ηv; 0 is plain gradient descent."""
    seeds: int = 3
    """Seeds 0 … n-1 of the first weights, N(0, 1)."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, steps=self.steps, every=self.every, seeds=self.seeds)
        command.at_least(3, width=self.width)
        for momentum in self.momenta:
            if not 0 <= momentum < 1:
                raise InputError(f"--momenta must be from 0 to below 1, got {momentum}")


def images(width: int) -> dict[str, np.ndarray]:
    """The photograph, and white noise from 0 to 1 of its size."""
    image = photograph(width)
    return {"photograph": image, "noise": np.random.default_rng(0).random(image.shape, np.float32)}


def before_and_after(image: np.ndarray) -> Batch:
    """What is learnt from: the image, and what the true kernels make of it, one map a kernel."""
    after = jnp.stack([correlate(image, kernel) for kernel in TRUE.values()], axis=-1)
    return {"image": jnp.asarray(image)[None, ..., None], "after": after[None]}


def curvatures(image: np.ndarray) -> np.ndarray:
    """The eigenvalues of mean ppᵀ over the windows p, from the least."""
    p = np.asarray(windows(jnp.asarray(image)[..., None], 3), float).reshape(-1, 9)
    return np.linalg.eigvalsh(p.T @ p / len(p))


def init(key: Array, x: Float[Array, "B H W 1"]) -> dict[str, Any]:
    return {"params": {"kernel": jax.random.normal(key, (3, 3, 1, len(TRUE)))}}


def apply(variables: Mapping[str, Any], x: Float[Array, "B H W 1"], *, train: bool, rngs: Any = None) -> tuple[Array, Mapping[str, Any]]:
    return shared(x, variables["params"]["kernel"]), variables


def mean_over_pixels(outputs: Float[Array, "B P Q K"], targets: Float[Array, "B P Q K"]) -> Float[Array, "B"]:
    return half_squared_error(outputs, targets).mean((-2, -1))


def filter_learner(learning_rate: float, momentum: Any) -> Learner:
    """Gradient descent on the kernels, reporting after each step how far the worst weight of each still is from the true one."""
    optimizer = optax.sgd(learning_rate, momentum)
    learner = supervised(init, apply, mean_over_pixels, optimizer, preprocess=lambda batch: (batch["image"], batch["after"]))
    true = np.stack(list(TRUE.values()), axis=-1)[:, :, None]

    def step(key: Array, state: Any, batch: Batch) -> tuple[Any, dict[str, Array]]:
        state, metrics = learner.step(key, state, batch)
        return state, {"error": jnp.abs(state.variables["params"]["kernel"] - true).max((0, 1, 2)), **metrics}

    return learner._replace(step=step)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    history: dict[str, np.ndarray] = {}
    for name, image in images(config.width).items():
        curvature = curvatures(image)
        trained = sweep(
            lambda momentum, rate=1 / curvature[-1]: filter_learner(rate, momentum),
            jax.random.key(0),
            before_and_after(image),
            seeds=config.seeds,
            axes={"momentum": config.momenta},
            num_steps=config.steps,
            checkpoint=keep.checkpoint(name),
            label=name,
        )
        error = np.asarray(trained.history.train["error"])
        history |= {f"curvature/{name}": curvature, f"image/{name}": image, f"kernel/{name}": trained.state.variables["params"]["kernel"]}
        history |= {f"error/{name}": error[:, :, config.every - 1 :: config.every], f"there/{name}": there(error)}
    compared = [row for name in images(config.width) for row in compare_all(config, name, history)]
    axes = {name: AXES[name.split("/")[0]] for name in history}
    return command.Outcome({name: np.asarray(values) for name, values in history.items()}, axes, compared, {"photograph": SOURCE})


AXES: dict[str, tuple[str, ...]] = {
    "curvature": ("eigenvalue",),
    "image": ("row", "column"),
    "kernel": ("seed", "momentum", "row", "column", "map", "filter"),
    "error": ("seed", "momentum", "time", "filter"),
    "there": ("seed", "momentum", "filter"),
}


def there(error: np.ndarray) -> np.ndarray:
    """The step from which on the error stays within `WANTED`; NaN where it never does. (seeds, momenta, steps, filters) in."""
    outside = error > WANTED
    last = error.shape[2] - np.argmax(outside[:, :, ::-1], axis=2)
    return np.where(outside[:, :, -1], np.nan, np.where(outside.any(2), last, 0))


def compare_all(config: Config, name: str, history: Mapping[str, np.ndarray]) -> list:
    """How stretched the quadric is; then each filter's error at the end, and the steps to a hundredth."""
    curvature = history[f"curvature/{name}"]
    rows = [compare(f"{name}: λ_max/λ_min of its windows", [curvature[-1] / curvature[0]])]
    for number, momentum in enumerate(config.momenta):
        for column, kernel in enumerate(TRUE):
            words = f"{name}, {kernel}, β = {momentum:g}"
            rows += [
                compare(f"row 160: {words}: steps until every weight is within {WANTED}", history[f"there/{name}"][:, number, column]),
                compare(f"row 160: {words}: error of the worst weight at the end", history[f"error/{name}"][:, number, -1, column]),
            ]
    return rows


def plot(record: Record) -> Mapping[str, Figure]:
    return {"errors": _draw_errors(record), "kernels": _draw_kernels(record)}


def _draw_errors(record: Record) -> Figure:
    figure, axes = figures.panels(1, 2, "How far the worst weight of a learnt filter is from the true one", size=(5.0, 3.8), sharey=True)
    for ax, name in zip(axes[0], ("noise", "photograph"), strict=True):
        error, curvature = record.history[f"error/{name}"], record.history[f"curvature/{name}"]
        steps = np.arange(1, error.shape[2] + 1) * record.config["every"]
        for column, kernel in enumerate(TRUE):
            for number, momentum in enumerate(record.config["momenta"]):
                colour = figures.COLOURS[2 * column + number % 2]
                figures.band(ax, steps, error[:, number, :, column], colour, f"{kernel}, β = {momentum:g}")
        ax.axhline(WANTED, color="0.4", linestyle="--", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel=r"step of gradient descent, $\eta = 1/\lambda_\max$")
        ax.set_title(rf"{name}: $\lambda_\max/\lambda_\min$ = {curvature[-1] / curvature[0]:,.0f}", fontsize=10)
    axes[0, 0].set_ylabel("max |w - true|, median and 5–95 % of seeds")
    axes[0, 1].legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def _draw_kernels(record: Record) -> Figure:
    """Seed 0, with the last of the momenta."""
    title = f"True kernels and those learnt after {record.config['steps']:,} steps, β = {record.config['momenta'][-1]:g}"
    figure, axes = figures.panels(len(TRUE), 3, title, size=(2.9, 2.7))
    for row, (name, kernel) in enumerate(TRUE.items()):
        limit = float(np.abs(kernel).max())
        figures.cells(axes[row, 0], kernel, name, limit)
        for column, image in enumerate(("noise", "photograph"), 1):
            learnt = record.history[f"kernel/{image}"][0, -1, :, :, 0, row]
            figures.cells(axes[row, column], learnt.round(2) + 0.0, f"learnt from the {image}", limit, "{:.2f}")  # no -0.00
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
