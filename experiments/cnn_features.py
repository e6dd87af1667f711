"""A look inside a net that reads digits: what its units answer to, what of an image an answer comes from, and whether hands do better.

`LeNet5` is trained, and then looked into. Its filters, and the maps that one digit makes. The image that a class, and that a map
of C3, answers to most: gradient ascent on the pixels. What of an image the strongest activation of each map of C3 comes from: its
deconvnet beside the gradient and guided backpropagation. Which pixels and which places an answer hangs on: saliency and Grad-CAM, of
right answers and of wrong ones, for the class that it says and for the other that it might have said. And the 84 numbers of F6 in the
plane, by principal components and by t-SNE.

It has learnt from distorted digits with AdamW's weight decay: the filters that a net starts with are noise, which a thousand steps on
plain digits move but do not wipe out. After both together filters are edges and bars; which of the two does it was not tried.

Beside it stands what was before: a linear classifier of features made by hand (`experiments.gabor`), and one of bare pixels, for several
numbers of training images. The lecture has features made by hand generalise less. With few images they do better: what they were given
by hand, the net must learn. The net that is looked into stands there too; it differs from the plain one in distortions and in decay.

The strength of the linear classifiers' pull was the best of four on the last sixth of the 4,000 shipped training images, for Gabor
energies at every pixel (here at every other); the decay is the one value that was tried. The test images had no part in either number,
but were seen before the net to look into was changed from a plain one.

Source: lecture rows 109 and 110 (S3:740-749, S2:578, 625 and 658-660, S4:461; the slides' figures are lost). Zeiler & Fergus 2014,
arXiv:1311.2901; Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034; Springenberg et al. 2015, arXiv:1412.6806; Selvaraju et al. 2017,
arXiv:1610.02391; van der Maaten & Hinton 2008, JMLR 9:2579-2605 (t-SNE).

Command: python -m experiments.cnn_features --seeds 1        (under 2 minutes of one CPU core)
Expected: with the 4,000 shipped training images 4.8 % of the test images wrong, 3.9 % with distortions and decay, 2.5 % by
Gabor energies and 10.8 % by pixels; from 250 images 14.2, 8.4 and 20.9 %. Strokes and edges as filters; an image made for a class gets
a probability of at least .9 for it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import cnn_features_figures as drawn
from experiments import cnn_features_inside as seen
from experiments import command, gabor, mistakes
from experiments.cnn_features_inside import AROUND, JUMP, SEEN
from experiments.lenet_mnist import NETS, make_learner
from experiments.unfinished import NOTHING, Keep
from jaxnn import schedules
from jaxnn.data import Dataset
from jaxnn.distortions import distorted
from jaxnn.inside import Maximised, maximise
from jaxnn.learners import supervised
from jaxnn.losses import accuracy, softmax_cross_entropy_with_integer_labels
from jaxnn.models import LeNet5, functional, layers
from jaxnn.optimizers import adamw
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, sweep
from jaxnn.types import InputError, Learner, Trained

SYSTEMS = {"LeNet5": "LeNet-5", "gabor": "Gabor energies, linear", "pixels": "pixels, linear"}


@dataclass(frozen=True)
class Config:
    images: int | None = None
    """The first so many training images; None takes all."""
    fewer: tuple[int, ...] = (250, 1000)
    """The first so many training images, beside all of them; the net that is looked into has learnt from all."""
    epochs: int = 15
    """Passes over all training images, plain and distorted; those over fewer take as many steps."""
    batch_size: int = 64
    """Images a step."""
    seeds: int = 2
    """Seeds 0 … n-1 of each net; the first of distorted digits is looked into."""
    decay: float = 2.0
    """Of the weights of the net that is looked into: each step shrinks them by its rate times this."""
    strength: float = 0.01
    """Of the linear classifiers: their weights are pulled to 0 by ½‖w‖²/strength."""
    digit: int = 4
    """The class whose first image, of those answered rightly, shows its maps."""
    steps: int = 400
    """Of gradient ascent on pixels."""
    ascent: float = 0.05
    """Its rate."""
    pull: float = 0.05
    """Its pull λ towards an empty image: λ‖x‖²."""
    jitter: int = 1
    """Pixels by which the image of a class moves at most in a step."""
    best: int = 4
    """Images for each map of C3: those of the strongest activations."""
    searched: int = 1000
    """The first so many test images, in which they are looked for, and whose features are drawn."""
    digits: command.DigitsFields = field(default_factory=command.Digits)
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, epochs=self.epochs, batch_size=self.batch_size, seeds=self.seeds, steps=self.steps, best=self.best)
        command.at_least(self.batch_size, images=self.images, fewer=self.fewer)
        command.at_least(max(self.best, 10), searched=self.searched)
        command.at_least(0, jitter=self.jitter)
        if not 0 <= self.digit <= 9:
            raise InputError(f"--digit must be from 0 to 9, got {self.digit}")
        for flag, value in (("decay", self.decay), ("pull", self.pull)):
            if not 0 <= value < math.inf:
                raise InputError(f"--{flag} must be a number from 0, got {value}")
        for flag, value in (("strength", self.strength), ("ascent", self.ascent)):
            if not 0 < value < math.inf:
                raise InputError(f"--{flag} must be a number above 0, got {value}")


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train = command.load_digits(config.digits, "train" if config.images is None else f"train[:{config.images}]")
    test = command.load_digits(config.digits, "test")
    sizes = [*sorted(n for n in config.fewer if n < train.source.count), train.source.count]
    runs = [train_on(config, partial(make_learner, "LeNet5"), size, train, test, keep, "plain") for size in sizes]
    runs.append(train_on(config, partial(decaying, config.decay), sizes[-1], train, test, keep, "distorted"))
    errors = [100 * (1 - run.history.evaluation["accuracy"][:, -1]) for run in runs]
    history: dict[str, Any] = {"images": np.array(sizes), "error/LeNet5": np.stack(errors[:-1]), "error/distorted": errors[-1]}
    history |= by_hand(config, sizes, train, test)
    first = jax.tree.map(lambda x: x[0], runs[-1].state)
    logits = mistakes.logits(Trained(decaying(config.decay, 1), first), test.arrays["image"])
    history |= look_inside(config, first.variables, as_float(test.arrays["image"]), test.arrays["label"], logits)
    about = {"data": train.source, "test_data": test.source, "seconds": command.seconds(run.history for run in runs)}
    axes = {name: AXES[name.split("/")[0]] if name not in AXES else AXES[name] for name in history}
    return command.Outcome(history, axes, list(compare_all(sizes, history)), about, first)


AXES: dict[str, tuple[str, ...]] = {
    "images": ("size",),
    "error/LeNet5": ("size", "seed"),
    "error/distorted": ("seed",),
    "error": ("size",),
    "filters": ("row", "column", "below", "map"),
    "maps": ("row", "column", "map"),
    "class_image": ("class", "row", "column"),
    "class_score": ("class", "ascent"),
    "class_scores_end": ("class", "output"),
    "map_image": ("map", "row", "column"),
    "patch": ("map", "rank", "row", "column"),
    "strongest": ("map", "rank"),
    "asked": ("image",),
    "asked_class": ("image", "said_other"),
    "asked_image": ("image", "row", "column"),
    "is": ("image",),
    "saliency": ("image", "row", "column"),
    "cam": ("image", "said_other", "row", "column"),
    "plane": ("image", "coordinate"),
    "variance": ("component",),
    "label": ("image",),
}


def decaying(decay: float, num_steps: int) -> Learner:
    """LeNet-5 on distorted digits, with weights that decay."""
    optimizer = adamw(schedules.cosine(NETS["LeNet5"].learning_rate, num_steps), weight_decay=decay)
    loss, metrics = softmax_cross_entropy_with_integer_labels, {"accuracy": accuracy}
    return supervised(*functional(LeNet5()), loss, optimizer, metrics=metrics, augment=distorted)


def train_on(
    config: Config, learner_of: Callable[[int], Learner], size: int, train: Dataset, test: Dataset, keep: Keep, images: str
) -> Run:
    """All seeds of a net on the first so many images, in as many steps as the epochs over all of them take."""
    num_steps = config.epochs * (train.source.count // config.batch_size)
    return sweep(
        partial(learner_of, num_steps),
        jax.random.key(0),
        {name: values[:size] for name, values in train.arrays.items()},
        seeds=config.seeds,
        batch_size=config.batch_size,
        num_steps=num_steps,
        eval_data=test.arrays,
        how="map",
        checkpoint=keep.checkpoint(f"{size} {images}"),
        label=f"LeNet5, {size:,} {images} images",
    )


def by_hand(config: Config, sizes: list[int], train: Dataset, test: Dataset) -> dict[str, Any]:
    """Test errors of the linear classifiers."""
    errors: dict[str, Any] = {}
    for name, features in (("gabor", gabor.features), ("pixels", lambda images: images.reshape(len(images), -1) / 255)):
        x, judged = features(train.arrays["image"]), (features(test.arrays["image"]), test.arrays["label"])
        label = train.arrays["label"]
        errors[f"error/{name}"] = np.array([gabor.linear_error(x[:n], label[:n], judged, config.strength) for n in sizes])
    return errors


def as_float(images: np.ndarray) -> Float[Array, "B H W 1"]:
    return jnp.asarray(images, jnp.float32) / 255


def look_inside(
    config: Config, variables: Mapping[str, Any], images: Float[Array, "B H W 1"], label: np.ndarray, logits: np.ndarray
) -> dict[str, Any]:
    """All that is drawn of the net, for the test images and what it says of them."""
    kernels = {f"filters/{name}": variables["params"][name]["kernel"] for name in ("c1", "c3")}
    shown = np.flatnonzero((label == config.digit) & (logits.argmax(-1) == label))
    image = images[shown[0] if len(shown) else np.flatnonzero(label == config.digit)[0]]
    few = images[: config.searched]
    return {
        **kernels,
        **{f"maps/{name}": maps for name, maps in seen.maps_of(variables, image).items()},
        **ascended(config, variables),
        **seen.sent_back(variables, few, config.best),
        **seen.asked(variables, images, label, logits),
        **seen.in_the_plane(variables, few),
        "label": label[: config.searched],
    }


def ascended(config: Config, variables: Mapping[str, Any]) -> dict[str, Array]:
    """From an empty image: those of most activation for the ten classes, and for the middle unit of each map of C3, what it sees alone."""
    class_key, map_key = jax.random.split(jax.random.key(1))

    def image_for(key: Array, name: str, place: tuple, jitter: int) -> Maximised:
        return maximise(
            key,
            lambda x: layers(LeNet5(), variables, x[None])[name][0][place],
            jnp.zeros((28, 28, 1)),
            steps=config.steps,
            learning_rate=config.ascent,
            pull=config.pull,
            jitter=jitter,
            between=(0.0, 1.0),
        )

    classes = jax.jit(jax.vmap(lambda key, k: image_for(key, "output", (k,), config.jitter)))
    maps = jax.jit(jax.vmap(lambda key, k: image_for(key, "c3", (5, 5, k), 0)))
    best = classes(jax.random.split(class_key, 10), jnp.arange(10))
    corner = slice(5 * JUMP - AROUND, 5 * JUMP - AROUND + SEEN)
    alone = maps(jax.random.split(map_key, 16), jnp.arange(16)).image[:, corner, corner, 0]
    scores = jax.jit(jax.vmap(lambda x: layers(LeNet5(), variables, x[None])["output"][0]))(best.image)
    return {"class_image": best.image[..., 0], "class_score": best.activation, "class_scores_end": scores, "map_image": alone}


def compare_all(sizes: list[int], history: Mapping[str, Any]) -> Iterator[Comparison]:
    yield compare(f"LeNet-5, distorted, with decay: test error after {sizes[-1]:,} images, %", history["error/distorted"])
    for name, title in SYSTEMS.items():
        for size, error in zip(sizes, history[f"error/{name}"], strict=True):
            yield compare(f"{title}: test error after {size:,} images, %", np.atleast_1d(error))
    share = jax.nn.softmax(history["class_scores_end"])[np.arange(10), np.arange(10)]
    yield compare("least probability that the net gives the image made for a class", [share.min()])
    yield compare("share of F6's variance in two components, %", [100 * history["variance"][:2].sum()])


def plot(record: Record) -> Mapping[str, Figure]:
    return {
        "filters": drawn.draw_filters(record),
        "maps": drawn.draw_maps(record),
        "maximised": drawn.draw_maximised(record),
        "strongest": drawn.draw_strongest(record),
        "asked": drawn.draw_asked(record),
        "plane": drawn.draw_plane(record),
        "by_hand": drawn.draw_errors(record, SYSTEMS),
    }


if __name__ == "__main__":
    command.main(Config, run, plot)
