"""A net of the family learns photographs of any size from folders, one a class, batch by batch, as ImageNet is learnt.

Threads read and decode the files, cut patches of random size, shape and place out of them, and turn half of them over, while the device
trains; what is drawn hangs on seed, epoch and image alone, and a run that was broken off goes on bit for bit. Momentum .9 under a rate
that rises for `--warm-up-epochs` and falls by a cosine; weights decay, biases and BatchNorm go free. Pixels are normalised by the mean
and the standard deviation of ImageNet's training images, a colour each, whatever the folder.

After every epoch the centres of the first `--watched-images` that judge are classified, and all of them once, at the end: top-1 and top-5
errors of a single view. A published error is that of its own paper's recipe, often of ten views; none stands beside these.

Source: lecture rows 107 and 108 (S3:708-735). ImageNet: Russakovsky et al. 2015, arXiv:1409.0575. The recipe: Goyal et al. 2017,
arXiv:1706.02677, section 5.1, with the cosine of Loshchilov & Hutter 2017, arXiv:1608.03983. Patches: `jaxnn.data.image_folder`.

Command: python -m experiments.imagenet --folder PATH        (PATH/train/class/image and PATH/val/class/image; default $JAXNN_DATA/imagenet)
Expected: CIFAR-10's files in folders, 100 a class to train and 20 to judge, FourLayerCNN at 32 pixels, batch 32, rate .02, 10 epochs: a
top-1 error of 65 %, top-5 11.5 %; of 192 seconds on a busy CPU core the device waited .1 for files. Of ImageNet no number is claimed.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import command, figures
from experiments.unfinished import NOTHING, Keep
from jaxnn import devices, losses, models, penalties, schedules
from jaxnn.data.image_folder import ImageFolder, centre_crops, first_centres, open_pair, random_crops
from jaxnn.data.locate import data_root
from jaxnn.learners import standardised, supervised
from jaxnn.models import functional
from jaxnn.models.torchvision_weights import DEVIATION, MEAN
from jaxnn.optimizers import momentum
from jaxnn.record import Comparison, Record, compare
from jaxnn.train import Run, fit_stream
from jaxnn.types import InputError, Learner, unknown

NETS = """
AlexNet AlexNetTwoTower CifarResNet20 CifarResNet32 CifarResNet44 CifarResNet56 CifarResNet110 FourLayerCNN GoogLeNet GoogLeNetPaper
ResNet18 ResNet34 ResNet50 ResNet101 ResNet152 TwoLayerCNN VGG11 VGG13 VGG16 VGG19 ZFNet
""".split()
"""Of `jaxnn.models`: those that take photographs of any size from a least one."""
WITH_HEADS = ("GoogLeNet", "GoogLeNetPaper")
"""They learn with their auxiliary heads."""
SHOWN, SHOWN_PIXELS = 12, 64


@dataclass(frozen=True)
class Config:
    folder: Path | None = None
    """Holds train/ and val/, in each a folder a class; None is $JAXNN_DATA/imagenet."""
    net: str = "ResNet50"
    """One of the nets of `jaxnn.models` for photographs."""
    image_size: int = 224
    """Pixels a side that the net sees."""
    epochs: int = 90
    """Passes over the training images."""
    batch_size: int = 256
    """Images a step, over all devices."""
    learning_rate: float = 0.1
    """The highest."""
    warm_up_epochs: int = 5
    """While the rate rises from 0; 0 leaves it out."""
    weight_decay: float = 1e-4
    """λ of ½λΣw² in the loss, BatchNorm and biases left out."""
    watched_images: int = 256
    """The first so many that judge, classified after every epoch, all at once; they lie on the device."""
    seed: int = 0
    """Of the weights, of the order, and of what is cut out."""
    threads: int | None = None
    """That read and decode; None takes as many as there are processors."""
    bfloat16: bool = False
    """Compute the net in bfloat16; weights and loss stay float32."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        sizes = {"image_size": self.image_size, "batch_size": self.batch_size, "watched_images": self.watched_images}
        command.at_least(1, epochs=self.epochs, threads=self.threads, **sizes)
        command.at_least(0, warm_up_epochs=self.warm_up_epochs, seed=self.seed)
        if self.net not in NETS:
            raise unknown("--net", self.net, NETS)
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            given = f"got {self.learning_rate} and {self.weight_decay}"
            raise InputError(f"--learning-rate must be above 0 and --weight-decay from 0, both finite, {given}")
        if self.warm_up_epochs >= self.epochs:
            raise InputError(f"--warm-up-epochs must be fewer than --epochs {self.epochs}, got {self.warm_up_epochs}")

    @property
    def readers(self) -> int:
        """Threads."""
        return self.threads or os.cpu_count() or 2


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    train, judged = opened(config)
    learner = make_learner(config, len(train.classes), len(train.files) // config.batch_size)
    check_size(config, len(train.classes))
    trained = train_net(config, learner, train, judged, keep)
    top = judge(config, learner, trained.state, judged)
    history = curves(config, trained, len(train.files) // config.batch_size) | top
    history["patches"] = patches(config, train)
    shapes = jax.tree.leaves(trained.state.variables["params"])
    about = {
        "data": train.source(),
        "test_data": judged.source(),
        "classes": train.classes,
        "parameters": sum(leaf.size for leaf in shapes),
        "seconds": {**command.seconds([trained.history]), "waited": round(trained.history.waited_seconds, 2)},
    }
    axes = {name: AXES[name] for name in history}
    return command.Outcome(history, axes, list(compare_all(config, history, len(train.classes))), about, jax.device_get(trained.state))


AXES: dict[str, tuple[str, ...]] = {
    "loss": ("epoch",),
    "train_error": ("epoch",),
    "watched_error": ("evaluation",),
    "watched_error_5": ("evaluation",),
    "error": (),
    "error_5": (),
    "patches": ("patch", "row", "column", "colour"),
}


def opened(config: Config) -> tuple[ImageFolder, ImageFolder]:
    """The training images and those that judge; says what they are."""
    if jax.process_count() > 1:
        raise InputError("experiments.imagenet reads the folder in one process; leave --distributed out (several devices are fine)")
    root = data_root()
    if config.folder is None and (root is None or not (root / "imagenet").is_dir()):
        raise InputError("--folder is needed: a folder that holds train/class/image and val/class/image; there is no $JAXNN_DATA/imagenet")
    folder = config.folder.expanduser() if config.folder else root / "imagenet"  # type: ignore[operator]
    train, judged = open_pair(folder)
    print(
        f"data: {train.name}, {len(train.files):,} images of {len(train.classes)} classes; {judged.name}, {len(judged.files):,}", flush=True
    )
    return train, judged


def net_of(config: Config, classes: int) -> Any:
    """The net of that name, with its auxiliary heads if it has some."""
    return getattr(models, config.net)(classes=classes, **{"auxiliary": True} if config.net in WITH_HEADS else {})


def make_learner(config: Config, classes: int, per_epoch: int) -> Learner:
    """The net under the recipe; it measures top-1 and top-5 errors in %."""
    warm, steps = config.warm_up_epochs * per_epoch, config.epochs * per_epoch
    rate = schedules.cosine(config.learning_rate, max(1, steps - warm))
    return supervised(
        *functional(net_of(config, classes)),
        losses.softmax_cross_entropy_with_integer_labels,
        momentum(schedules.warm_up(rate, warm) if warm else rate),
        preprocess=standardised(MEAN, DEVIATION),
        metrics={
            "error": lambda logits, label: 100 * (1 - losses.accuracy(logits, label)),
            "error_5": lambda logits, label: 100 * (1 - losses.top_accuracy(logits, label, 5)),
        },
        penalty=(lambda params: config.weight_decay * penalties.l2(params)) if config.weight_decay else None,
        compute_dtype=jnp.bfloat16 if config.bfloat16 else None,
    )


def check_size(config: Config, classes: int) -> None:
    """Raise `InputError`, in the net's words, for images that it cannot take: before any file is read."""
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    jax.eval_shape(functional(net_of(config, classes)).init, jax.random.key(0), image)


def train_net(config: Config, learner: Learner, train: ImageFolder, judged: ImageFolder, keep: Keep) -> Run:
    """All epochs; the watched images are classified before the first and after each."""
    watched = first_centres(judged, config.watched_images, size=config.image_size)
    batches = random_crops(train, size=config.image_size, batch_size=config.batch_size, seed=config.seed, threads=config.readers)
    try:
        return fit_stream(
            learner,
            jax.random.key(config.seed),
            batches,
            num_steps=config.epochs * batches.batches_per_epoch,
            eval_every=batches.batches_per_epoch,
            eval_data=watched,
            mesh=devices.mesh() if len(jax.devices()) > 1 else None,
            checkpoint=keep.checkpoint("training"),
            label=f"{config.net}, {train.name}",
        )
    finally:
        batches.close()


def judge(config: Config, learner: Learner, state: Any, judged: ImageFolder) -> dict[str, float]:
    """Top-1 and top-5 errors in % over all images that judge, in batches, the last one shorter."""
    evaluate, sums = jax.jit(learner.evaluate), {"error": 0.0, "error_5": 0.0}
    batches = centre_crops(judged, size=config.image_size, batch_size=config.batch_size, threads=config.readers)
    try:
        for number, batch in enumerate(batches):
            values = evaluate(jax.random.key(number), state, batch)
            sums = {name: total + float(values[name].sum()) for name, total in sums.items()}
    finally:
        batches.close()
    return {name: total / len(judged.files) for name, total in sums.items()}


def curves(config: Config, trained: Run, per_epoch: int) -> dict[str, np.ndarray]:
    """By epoch: means over the steps, of the patches that were trained on, and the watched images' errors."""
    history = trained.history
    by_epoch = {
        ours: history.train[name].reshape(config.epochs, per_epoch).mean(1) for ours, name in (("loss", "loss"), ("train_error", "error"))
    }
    return {**by_epoch, "watched_error": history.evaluation["error"], "watched_error_5": history.evaluation["error_5"]}


def patches(config: Config, train: ImageFolder) -> np.ndarray:
    """A few of those that the first step saw."""
    count = min(SHOWN, len(train.files))
    batches = random_crops(train, size=min(config.image_size, SHOWN_PIXELS), batch_size=count, seed=config.seed, threads=0)
    return next(batches)["image"]


def compare_all(config: Config, history: Mapping[str, Any], classes: int) -> Iterator[Comparison]:
    """Of five classes and fewer no top-5 error, which is 0."""
    what = f"{config.net}, {config.image_size} pixels, {config.epochs} epochs"
    yield compare(f"{what}: top-1 error of the centre, %", [history["error"]])
    if classes > 5:
        yield compare(f"{what}: top-5 error of the centre, %", [history["error_5"]])
    yield compare(f"{what}: error of patches in the last epoch of training, %", [history["train_error"][-1]])


def plot(record: Record) -> Mapping[str, Figure]:
    """Errors by the epoch; what was cut out."""
    config, history = record.config, record.history
    data, judged = record.meta["data"], record.meta["test_data"]
    title = f"{config['net']}, {data['count']:,} images of {len(record.meta['classes'])} classes at {config['image_size']} pixels"
    figure, axes = figures.panels(1, 1, title, size=(6.0, 4.0))
    ax, epochs = axes[0, 0], np.arange(1, len(history["train_error"]) + 1)
    ax.plot(epochs, history["train_error"], color=figures.COLOURS[0], linestyle="--", marker=".", label=f"{data['name']}, patches, top-1")
    tops = (("watched_error", "top-1", figures.COLOURS[0]), ("watched_error_5", "top-5", figures.COLOURS[1]))
    for name, words, colour in tops if len(record.meta["classes"]) > 5 else tops[:1]:
        ax.plot(np.arange(len(history[name])), history[name], color=colour, marker=".", label=f"{judged['name']}, centre, {words}")
    ax.set(xlabel="epochs", ylabel="error, %", ylim=(0, None))
    ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False, fontsize=8)
    return {"errors": figure, "patches": draw_patches(history["patches"])}


def draw_patches(images: np.ndarray) -> Figure:
    columns = min(6, len(images))
    figure, axes = figures.panels(-(-len(images) // columns), columns, "What the first step sees", size=(1.3, 1.3))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image in zip(axes.flat, images, strict=False):
        ax.imshow(image)
    return figure


if __name__ == "__main__":
    command.main(Config, run, plot)
