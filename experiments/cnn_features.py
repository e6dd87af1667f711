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
from experiments import command, gabor, mistakes
from experiments.lenet_mnist import NETS, make_learner
from experiments.unfinished import NOTHING, Keep
from jaxnn import schedules
from jaxnn.activations import relu
from jaxnn.data import Dataset
from jaxnn.distortions import distorted
from jaxnn.inside import Maximised, deconv_relu, grad_cam, guided_relu, let_through, maximise, project_back, saliency, strongest_places
from jaxnn.learners import supervised
from jaxnn.losses import accuracy, softmax_cross_entropy_with_integer_labels
from jaxnn.models import LeNet5, apply_changed, functional, layers
from jaxnn.models.pooling import max_pool
from jaxnn.optimizers import adamw
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, sweep
from jaxnn.types import InputError, Learner, Trained

WAYS: dict[str, Callable[[Array], Array]] = {"gradient": relu, "deconvnet": deconv_relu, "guided": guided_relu}
SEEN, JUMP, AROUND = 14, 2, 2
"""What a unit of C3 sees: 5 + 1 + 2·4 pixels a side, the first at twice its own place, less the two zeros around the image."""
SYSTEMS = {"LeNet5": "LeNet-5", "gabor": "Gabor energies, linear", "pixels": "pixels, linear"}

Variables = Mapping[str, Any]


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
        if not self.decay >= 0:
            raise InputError(f"--decay must be at least 0, got {self.decay}")
        for flag, value in (("strength", self.strength), ("ascent", self.ascent)):
            if not value > 0:
                raise InputError(f"--{flag} must be above 0, got {value}")


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
    config: Config, variables: Variables, images: Float[Array, "B H W 1"], label: np.ndarray, logits: np.ndarray
) -> dict[str, Any]:
    """All that is drawn of the net, for the test images and what it says of them."""
    kernels = {f"filters/{name}": variables["params"][name]["kernel"] for name in ("c1", "c3")}
    shown = np.flatnonzero((label == config.digit) & (logits.argmax(-1) == label))
    image = images[shown[0] if len(shown) else np.flatnonzero(label == config.digit)[0]]
    few = images[: config.searched]
    return {
        **kernels,
        **{f"maps/{name}": maps for name, maps in maps_of(variables, image).items()},
        **ascended(config, variables),
        **sent_back(config, variables, few),
        **asked(variables, images, label, logits),
        **in_the_plane(variables, few),
        "label": label[: config.searched],
    }


def maps_of(variables: Variables, image: Float[Array, "H W 1"]) -> dict[str, Array]:
    """The maps of one image, behind each convolution's ReLU and each pooling."""
    given = layers(LeNet5(), variables, image[None])
    c1, c3 = (relu(given[name][0]) for name in ("c1", "c3"))
    return {"image": image, "c1": c1, "pooled c1": max_pool(c1), "c3": c3, "pooled c3": max_pool(c3)}


def ascended(config: Config, variables: Variables) -> dict[str, Array]:
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
    corner = 5 * JUMP - AROUND
    seen = maps(jax.random.split(map_key, 16), jnp.arange(16)).image[:, corner : corner + SEEN, corner : corner + SEEN, 0]
    scores = jax.jit(jax.vmap(lambda x: layers(LeNet5(), variables, x[None])["output"][0]))(best.image)
    return {"class_image": best.image[..., 0], "class_score": best.activation, "class_scores_end": scores, "map_image": seen}


def sent_back(config: Config, variables: Variables, images: Float[Array, "B 28 28 1"]) -> dict[str, Array]:
    """For each map of C3 the images of its strongest activations, and what these come from, cut to what the unit sees."""
    maps = jax.jit(lambda x: relu(layers(LeNet5(), variables, x)["c3"]))(images)
    order = jnp.argsort(-maps.max((1, 2)), axis=0, stable=True)[: config.best].T  # (O, best)
    places = jax.vmap(lambda rows, o: strongest_places(maps[rows])[:, o])(order, jnp.arange(len(order)))
    patches = {"patch/image": images[order]}
    for way, activation in WAYS.items():
        patches[f"patch/{way}"] = _projected(LeNet5(activation=activation), variables, images[order])
    cut = jax.vmap(jax.vmap(_seen_by))
    return {name: cut(patch, places) for name, patch in patches.items()} | {"strongest": order}


def _projected(model: LeNet5, variables: Variables, images: Float[Array, "O T H W 1"]) -> Float[Array, "O T H W 1"]:
    back = partial(project_back, lambda x: layers(model, variables, x)["c3"])
    return jax.jit(jax.vmap(back))(images, jnp.arange(len(images)))


def _seen_by(image: Float[Array, "H W 1"], place: Array) -> Float[Array, "k k"]:
    """What the unit of C3 at this place sees of an image, zeros around it and all."""
    around = jnp.pad(image[..., 0], AROUND)
    return jax.lax.dynamic_slice(around, (JUMP * place[0], JUMP * place[1]), (SEEN, SEEN))


def asked(variables: Variables, images: Float[Array, "B 28 28 1"], label: np.ndarray, logits: np.ndarray) -> dict[str, Array]:
    """Why? Six right answers, of six classes, and the six wrong ones that are surest: for what it says, and for the other class.

    The other is the right one where the answer is wrong, and else the second best.
    """
    said, sure = logits.argmax(-1), logits.max(-1) - np.sort(logits, -1)[:, -2]
    wrong = np.flatnonzero(said != label)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:6]
    right = [rows[0] for rows in (np.flatnonzero((said == label) & (label == k)) for k in range(10)) if len(rows)][:6]
    rows = np.array([*right, *wrong])
    other = np.where(said == label, np.argsort(logits, -1)[:, -2], label)
    classes, chosen = np.stack([said, other], -1)[rows], images[rows]
    return {
        "asked": rows,
        "is": label[rows],
        "asked_class": classes,
        "asked_image": chosen[..., 0],
        "saliency": jax.jit(partial(saliency, lambda x: layers(LeNet5(), variables, x)["output"]))(chosen, classes[:, 0]),
        "cam": jnp.stack([cam_at_c3(variables, chosen, k) for k in classes.T], 1),
    }


@jax.jit
def cam_at_c3(variables: Variables, images: Float[Array, "B 28 28 1"], label: Array) -> Float[Array, "B 10 10"]:
    """Grad-CAM of C3's maps."""
    above = lambda maps: apply_changed(LeNet5(), variables, images, "c3", lambda _: let_through(maps))  # noqa: E731
    return grad_cam(above, relu(layers(LeNet5(), variables, images)["c3"]), label)


def in_the_plane(variables: Variables, images: Float[Array, "B 28 28 1"]) -> dict[str, Any]:
    """F6 of every image by its first two principal components and by t-SNE, and the share of the variance of each component."""
    from sklearn.manifold import TSNE

    f6 = np.asarray(jax.jit(lambda x: relu(layers(LeNet5(), variables, x)["f6"]))(images))
    centred = f6 - f6.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    neighbours = min(30.0, (len(f6) - 1) / 3)
    tsne = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(f6)
    return {"plane/pca": u[:, :2] * s[:2], "plane/tsne": tsne, "variance": s**2 / max((s**2).sum(), 1e-12)}


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
