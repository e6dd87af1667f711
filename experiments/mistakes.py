"""What a trained classifier takes for what: its answers on a test set, its confusion matrix, the mistakes it is surest of."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.types import Trained

AXES = {
    "confusion": ("label", "predicted"),
    "predicted": ("image",),
    "mistaken_image": ("mistake", "row", "column"),
    "mistaken": ("mistake", "label_predicted"),
    "confidence": ("mistake",),
}
"""Of what `found` gives."""


def logits(trained: Trained, images: np.ndarray, at_once: int = 1000) -> Float[np.ndarray, "B K"]:
    """What the net says of all images, so many at a time."""
    parts = [trained.predict({"image": jnp.asarray(images[first : first + at_once])}) for first in range(0, len(images), at_once)]
    return np.concatenate([np.asarray(part) for part in parts])


def found(logits: Float[np.ndarray, "B K"], test: Mapping[str, np.ndarray], shown: int) -> dict[str, np.ndarray]:
    """All answers, how often which class is taken for which, and the `shown` wrong answers of the highest probability."""
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    label, predicted, confidence = test["label"], probabilities.argmax(-1), probabilities.max(-1)
    confusion = np.zeros((logits.shape[1],) * 2, int)
    np.add.at(confusion, (label, predicted), 1)
    wrong = np.flatnonzero(predicted != label)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:shown]
    return {
        "confusion": confusion,
        "predicted": predicted,
        "mistaken_image": test["image"][worst][..., 0],
        "mistaken": np.stack([label[worst], predicted[worst]], -1),
        "confidence": confidence[worst],
    }


def wrong_of(counts: Array | np.ndarray, judged: str = "test") -> str:
    """In words, of the `judged` images.

    >>> wrong_of(np.array([[5, 1], [0, 4]]), "validation")
    '1 of 10 validation images wrong'
    """
    return f"{counts.sum() - np.trace(counts):,} of {counts.sum():,} {judged} images wrong"


def draw_confusion(counts: np.ndarray, labels: Sequence[str], heading: str) -> Figure:
    """Shares of each class's images; the diagonal is left out of the colours, as it would take them all."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, shares)
    figure, axes = figures.panels(1, 1, heading, size=(6.4, 5.6))
    ax = axes[0, 0]
    picture = ax.imshow(100 * wrong, cmap="Reds", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = wrong[row, column] > 0.6 * max(wrong.max(), 1e-9)
            colour = "0.55" if row == column else "white" if dark else "black"
            ax.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    rotation = 45 if max(map(len, labels)) > 1 else 0
    ax.set(xlabel="what the net says", ylabel="what it is")
    ax.set_xticks(range(len(labels)), labels, rotation=rotation, ha="right" if rotation else "center")
    ax.set_yticks(range(len(labels)), labels)
    ax.grid(False)
    figure.colorbar(picture, ax=ax, label="share of the class taken for another, %", shrink=0.8)
    return figure


def draw_mistakes(history: Mapping[str, np.ndarray], labels: Sequence[str], heading: str, columns: int = 8) -> Figure:
    """The mistakes of `found`, with what each is, what the net says and how sure it is."""
    images, pairs, confidence = (history[name] for name in ("mistaken_image", "mistaken", "confidence"))
    rows = max(1, -(-len(images) // columns))
    figure, axes = figures.panels(rows, columns, heading, size=(1.25, 1.45))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, pair, probability in zip(axes.flat, images, pairs, confidence, strict=False):
        _draw_mistake(ax, image, [labels[label] for label in pair], probability)
    return figure


def _draw_mistake(ax: Axes, image: np.ndarray, pair: list[Any], probability: float) -> None:
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    ax.set_title(f"{pair[0]} → {pair[1]}\n{probability:.1%}", fontsize=8 if len(pair[0]) == 1 else 6)
