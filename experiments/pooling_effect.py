"""What local connection, sharing and pooling each buy: parameters, errors, and how far an answer survives shifts, turns and scaling.

Six nets with one hidden layer of ReLU units and a softmax output, trained alike on the same few digits:

    full        784 inputs to 12×12×6 units, every weight its own
    unshared    5×5 windows, every other pixel, 12×12×6 units with weights of their own (row 162)
    strided     the same with one kernel for each of 6 maps: a convolution with stride 2
    plain       a convolution with stride 1: 24×24×6 units, no pooling
    max, mean   `plain`, its maps pooled 2×2 to 12×12×6

`strided` has exactly the parameters and the outputs of `max` and `mean`: what these do better is pooling's, not its fewer parameters'.
An invariance is measured twice: by the error on test digits that are shifted, turned or scaled, and by ‖h(Tx) - h(x)‖/‖h(x)‖, how much
the hidden layer's answer h moves. The slides let pooling give invariance to scale and rotation (erratum E49): one layer of it gives
invariance to nothing, and saves up to a few points of error wherever strokes move little, as in a scaling of a digit by a fifth too.

Source: lecture rows 94, 162 and 164 (S3:612-613, S4:467-501, S4:719-722). LeCun et al. 1998, doi:10.1109/5.726791; Scherer, Müller,
Behnke 2010, doi:10.1007/978-3-642-15825-4_10 (pooling against sub-sampling).

Command: python -m experiments.pooling_effect        (2 minutes on two CPU cores)
Expected: a median test error of 10.0 % with `max`, 11.2 % with `strided` of as many parameters, 10.4 % with `full` of 78 times as
many (a spread of 1 % over seeds); 14.9, 17.6 and 16.4 % after a shift by one pixel, 36, 40 and 37 % by two, 51, 53 and 52 % turned by 30°.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import command
from experiments.pooling_effect_figures import draw_errors, draw_parameters
from experiments.unfinished import NOTHING, Keep
from jaxnn.activations import relu
from jaxnn.learners import image_and_label, supervised
from jaxnn.losses import accuracy, softmax_cross_entropy_with_integer_labels
from jaxnn.models.locally_connected import shared, unshared
from jaxnn.models.pooling import max_pool, mean_pool
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import sweep
from jaxnn.types import Batch, InputError, Learner, PyTree, unknown

SIDE, MAPS, KERNEL = 28, 6, 5
DISTORTIONS = {
    "shift": (-6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
    "rotation": (-45.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 45.0),
    "scale": (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
}
"""To the right in pixels, anticlockwise in degrees, and as a factor."""
NOTHING_DONE = {"shift": 0.0, "rotation": 0.0, "scale": 1.0}


@dataclass(frozen=True)
class Config:
    images: int = 1000
    """The first so many training images, which are all that is trained on."""
    test_images: int = 500
    """The first so many test images; each is distorted in every way."""
    batch_size: int = 50
    """Images a step."""
    epochs: int = 20
    """Passes over the images."""
    learning_rate: float = 0.002
    """Adam's, for every net."""
    seeds: int = 5
    """Seeds 0 … n-1 of each net."""
    nets: tuple[str, ...] = ("full", "unshared", "strided", "plain", "max", "mean")
    """Which of the six to train."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        fields = {"images": self.images, "test_images": self.test_images, "batch_size": self.batch_size}
        command.at_least(1, epochs=self.epochs, seeds=self.seeds, **fields)
        if self.batch_size > self.images:
            raise InputError(f"--batch-size must not exceed --images {self.images}, got {self.batch_size}")
        for name in self.nets:
            if name not in NETS:
                raise unknown("net", name, NETS)
        if not 0 < self.learning_rate < np.inf:
            raise InputError(f"--learning-rate must be above 0 and finite, got {self.learning_rate}")


class Net(NamedTuple):
    """A hidden layer: its parts' shapes, how many inputs a unit has, and h(x)."""

    kernel: tuple[int, ...]
    bias: tuple[int, ...]
    fan_in: int
    answer: Callable[[PyTree, Array], Array]
    units: int
    """What the output layer sees."""


def full(hidden: PyTree, x: Float[Array, "B H W 1"]) -> Array:
    return relu(x.reshape(len(x), -1) @ hidden["kernel"] + hidden["bias"][None])


def unshared_layer(hidden: PyTree, x: Float[Array, "B H W 1"]) -> Array:
    return relu(unshared(x, hidden["kernel"], 2) + hidden["bias"][None])


def convolution(hidden: PyTree, x: Float[Array, "B H W 1"], stride: int = 1, pool: Callable[[Array], Array] = lambda maps: maps) -> Array:
    return pool(relu(shared(x, hidden["kernel"], stride) + hidden["bias"][None, None, None]))


KERNELS = ((KERNEL, KERNEL, 1, MAPS), (MAPS,), KERNEL**2)
NETS = {
    "full": Net((SIDE**2, 864), (864,), SIDE**2, full, 864),
    "unshared": Net((12, 12, KERNEL, KERNEL, 1, MAPS), (12, 12, MAPS), KERNEL**2, unshared_layer, 864),
    "strided": Net(*KERNELS, partial(convolution, stride=2), 864),
    "plain": Net(*KERNELS, convolution, 3456),
    "max": Net(*KERNELS, partial(convolution, pool=max_pool), 864),
    "mean": Net(*KERNELS, partial(convolution, pool=mean_pool), 864),
}


def init(net: Net, key: Array, x: Float[Array, "B 28 28 1"]) -> dict[str, Any]:
    """W ~ N(0, 2/n_in) before ReLU units (He et al. 2015), N(0, 1/n_in) before the output, biases 0."""
    hidden_key, output_key = jax.random.split(key)
    hidden = {"kernel": jax.random.normal(hidden_key, net.kernel) * (2 / net.fan_in) ** 0.5, "bias": jnp.zeros(net.bias)}
    output = {"kernel": jax.random.normal(output_key, (net.units, 10)) * net.units**-0.5, "bias": jnp.zeros(10)}
    return {"params": {"hidden": hidden, "output": output}}


def apply(net: Net, variables: Mapping[str, Any], x: Array, *, train: bool, rngs: Any = None) -> tuple[Array, Mapping[str, Any]]:
    params = variables["params"]
    answer = net.answer(params["hidden"], x).reshape(len(x), -1)
    return answer @ params["output"]["kernel"] + params["output"]["bias"][None], variables


def parameters(net: Net) -> int:
    shapes = jax.eval_shape(partial(init, net), jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 1)))
    return sum(part.size for part in jax.tree.leaves(shapes))


def learner_of(net: Net, learning_rate: float) -> Learner:
    loss, optimizer = softmax_cross_entropy_with_integer_labels, optax.adam(learning_rate)
    return supervised(partial(init, net), partial(apply, net), loss, optimizer, metrics={"accuracy": accuracy})


@partial(jax.jit, static_argnums=1)
def distorted(images: Float[Array, "B H W 1"], kind: str, amount: Float[Array, ""]) -> Float[Array, "B H W 1"]:
    """The images shifted, turned or scaled about their centre, bilinear, with 0 from outside."""
    rows, columns = jnp.meshgrid(*(jnp.arange(n) - (n - 1) / 2 for n in images.shape[1:3]), indexing="ij")
    if kind == "shift":
        rows, columns = rows, columns - amount
    elif kind == "rotation":
        cos, sin = jnp.cos(jnp.deg2rad(amount)), jnp.sin(jnp.deg2rad(amount))
        rows, columns = cos * rows + sin * columns, cos * columns - sin * rows
    else:
        rows, columns = rows / amount, columns / amount
    places = [rows + (images.shape[1] - 1) / 2, columns + (images.shape[2] - 1) / 2]
    return jax.vmap(lambda image: map_coordinates(image[..., 0], places, 1))(images)[..., None]


def measured(net: Net, variables: PyTree, x: Array, label: Array) -> dict[str, np.ndarray]:
    """By distortion and amount: the share of wrong answers, and how far the hidden layer's answer moves; (seeds, amounts)."""

    @jax.jit
    def of_all_seeds(other: Array) -> tuple[Array, Array]:
        def of_a_seed(variables: PyTree) -> tuple[Array, Array]:
            here, there = (net.answer(variables["params"]["hidden"], images).reshape(len(x), -1) for images in (x, other))
            moved = jnp.linalg.norm(there - here, axis=-1) / jnp.linalg.norm(here, axis=-1)
            return 1 - accuracy(apply(net, variables, other, train=False)[0], label).mean(), moved.mean()

        return lax.map(of_a_seed, variables)

    results: dict[str, np.ndarray] = {}
    for kind, amounts in DISTORTIONS.items():
        pairs = [of_all_seeds(distorted(x, kind, jnp.float32(amount))) for amount in amounts]
        results |= {
            f"{name}/{kind}": np.stack(column, -1) for name, column in zip(("error", "moved"), zip(*pairs, strict=True), strict=True)
        }
    return results


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train = command.load_digits(config.digits, f"train[:{config.images}]")
    test = command.load_digits(config.digits, f"test[:{config.test_images}]")
    data, (x, label) = jax.device_put(train.arrays), image_and_label(jax.device_put(test.arrays))
    if x.shape[1:] != (SIDE, SIDE, 1):
        raise InputError(f"--data {config.digits.data}: its images are {x.shape[1:]}, the nets are for {(SIDE, SIDE, 1)}")
    history: dict[str, Any] = {f"amount/{kind}": np.array(amounts) for kind, amounts in DISTORTIONS.items()}
    histories = []
    for name in config.nets:
        net = NETS[name]
        trained = train_net(name, net, config, data, keep)
        histories.append(trained.history)
        history |= {f"{what}/{name}": values for what, values in measured(net, trained.state.variables, x, label).items()}
        history[f"train_error/{name}"] = 1 - trained.history.evaluation["accuracy"][:, -1]
        history[f"parameters/{name}"] = np.array(parameters(net))
    about = {"data": [train.source, test.source], "seconds": command.seconds(histories)}
    axes = {name: AXES[name.split("/")[0]] for name in history}
    return command.Outcome({name: np.asarray(values) for name, values in history.items()}, axes, compare_all(config.nets, history), about)


AXES: dict[str, tuple[str, ...]] = {
    "amount": ("amount",),
    "error": ("seed", "amount"),
    "moved": ("seed", "amount"),
    "train_error": ("seed",),
    "parameters": (),
}


def train_net(name: str, net: Net, config: Config, data: Batch, keep: Keep) -> Any:
    """All seeds of one net, one after the other: on a CPU they would only drive each other out of its cache."""
    steps = config.images // config.batch_size * config.epochs
    return sweep(
        partial(learner_of, net, config.learning_rate),
        jax.random.key(0),
        data,
        seeds=config.seeds,
        batch_size=config.batch_size,
        num_steps=steps,
        eval_every=steps,
        eval_data=data,
        how="map",
        checkpoint=keep.checkpoint(name),
        label=name,
    )


def at(history: Mapping[str, np.ndarray], what: str, name: str, kind: str, *amounts: float) -> np.ndarray:
    """The mean over these amounts, (seeds,)."""
    chosen = np.isin(history[f"amount/{kind}"], amounts)
    return history[f"{what}/{kind}/{name}"][:, chosen].mean(-1)


def compare_all(nets: Sequence[str], history: Mapping[str, np.ndarray]) -> list[Comparison]:
    """Each net's parameters, its errors where it was trained and where not, and its errors and moves under distortion."""
    rows = []
    for name in nets:
        rows += [
            compare(f"{name}: parameters", [history[f"parameters/{name}"]]),
            compare(f"{name}: training error", history[f"train_error/{name}"]),
            compare(f"{name}: test error", at(history, "error", name, "shift", 0.0)),
        ]
        for words, kind, amounts in WATCHED:
            rows += [
                compare(f"{name}: test error, {words}", at(history, "error", name, kind, *amounts)),
                compare(f"{name}: ‖h(Tx) - h(x)‖/‖h(x)‖, {words}", at(history, "moved", name, kind, *amounts)),
            ]
    return rows


WATCHED = (
    ("shifted by 1", "shift", (-1.0, 1.0)),
    ("shifted by 2", "shift", (-2.0, 2.0)),
    ("shifted by 4", "shift", (-4.0, 4.0)),
    ("turned by 30°", "rotation", (-30.0, 30.0)),
    ("scaled by .8 and 1.2", "scale", (0.8, 1.2)),
)


def plot(record: Record) -> Mapping[str, Figure]:
    return {"parameters": draw_parameters(record), "distortion": draw_errors(record, NOTHING_DONE)}


if __name__ == "__main__":
    command.main(Config, run, plot)
