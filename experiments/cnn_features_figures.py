"""How `experiments.cnn_features` draws its record."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record

ROWS = {"image": "what it\nsees", "deconvnet": "deconvnet", "gradient": "activation\n× gradient", "guided": "guided"}
SHOWN_BEST = 2
"""Images drawn for each map, of those that are recorded."""


def mosaic(tiles: np.ndarray, gap: int = 1) -> np.ma.MaskedArray:
    """Tiles (rows, columns, h, w) beside each other as one picture, with masked pixels between them."""
    rows, columns, height, width = tiles.shape
    framed = np.full((rows, height + gap, columns, width + gap), np.nan)
    framed[:, :height, :, :width] = tiles.swapaxes(1, 2)
    whole = framed.reshape(rows * (height + gap), -1)
    return np.ma.masked_invalid(whole[: len(whole) - gap, : whole.shape[1] - gap])


def each_to_its_most(tiles: np.ndarray) -> np.ndarray:
    """Every tile between -1 and 1."""
    most = np.abs(tiles).max((-2, -1), keepdims=True)
    return tiles / np.where(most > 0, most, 1)


def draw_tiles(ax: Axes, tiles: np.ndarray, title: str, names: Sequence[str] = (), *, ink: bool = False) -> None:
    """Tiles in rows, blue above 0 and orange below, or from white at 0 to black; `names` stand over the columns."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = ["#ffffff", "#ffffff", "#000000"] if ink else ["#d55e00", "#ffffff", "#0072b2"]
    colours = LinearSegmentedColormap.from_list("tiles", ends).with_extremes(bad="0.8")
    ax.imshow(mosaic(tiles), cmap=colours, vmin=-1, vmax=1)
    figures.bare(ax, "")
    apart = tiles.shape[1] / max(len(names), 1) * (tiles.shape[3] + 1)
    for number, name in enumerate(names):
        middle = number * apart + (apart - 1) / 2 - 0.5
        ax.annotate(name, (middle, -0.5), (0, 3), textcoords="offset points", ha="center", fontsize=8, annotation_clip=False)
    ax.set_ylabel(title, fontsize=9)


def ink(ax: Axes, values: np.ndarray, title: str = "", most: float | None = None) -> None:
    """From white at 0 to black at the most."""
    ax.imshow(values, cmap="gray_r", vmin=0, vmax=most or float(values.max()) or 1.0)
    figures.bare(ax, title)


def in_tiles(maps: np.ndarray, columns: int) -> np.ndarray:
    """Maps (H, W, C) as rows of tiles."""
    return np.moveaxis(maps, -1, 0).reshape(-1, columns, *maps.shape[:2])


def draw_filters(record: Record) -> Figure:
    """C1's six filters, and under them C3's, a row for each map below."""
    c1, c3 = (record.history[f"filters/{name}"].transpose(2, 3, 0, 1) for name in ("c1", "c3"))
    figure, axes = figures.panels(2, 1, "LeNet-5's filters: blue adds, orange takes away", size=(8.4, 2.4), height_ratios=(1, 3))
    draw_tiles(axes[0, 0], each_to_its_most(c1), "C1", [str(n + 1) for n in range(c1.shape[1])])
    draw_tiles(axes[1, 0], c3 / np.abs(c3).max(), "C3, of C1's map …", [str(n + 1) for n in range(c3.shape[1])])
    axes[1, 0].set_yticks(np.arange(len(c3)) * (c3.shape[2] + 1) + 2, [str(n + 1) for n in range(len(c3))], fontsize=8)
    return figure


def draw_maps(record: Record) -> Figure:
    """One digit through both convolutions and both poolings."""
    stages = {"c1": ("C1, ReLU", 6), "pooled c1": ("pooled", 6), "c3": ("C3, ReLU", 8), "pooled c3": ("pooled", 8)}
    heading = "One digit through LeNet-5: the maps of each stage, black is its most"
    figure, axes = figures.panels(5, 1, heading, size=(8.0, 1.8), height_ratios=(1.2, 1.2, 1.2, 1.8, 1.8))
    ink(axes[0, 0], record.history["maps/image"][..., 0], "", 1.0)
    axes[0, 0].set_ylabel("the digit", fontsize=9)
    for ax, (name, (title, columns)) in zip(axes[1:, 0], stages.items(), strict=True):
        maps = record.history[f"maps/{name}"]
        tiles = in_tiles(maps / max(float(maps.max()), 1e-9), columns)
        draw_tiles(ax, tiles, f"{title}\n{maps.shape[0]}×{maps.shape[1]}", ink=True)
    return figure


def draw_maximised(record: Record) -> Figure:
    """The image of each class, and of each map of C3."""
    classes, maps, scores = (record.history[name] for name in ("class_image", "map_image", "class_scores_end"))
    heading = "Images that a unit answers to most, found by gradient ascent from an empty one"
    figure, axes = figures.panels(2, 1, heading, size=(10.5, 2.0), height_ratios=(1, 1.7))
    odds = np.exp(scores - scores.max(1, keepdims=True))
    given = (odds / odds.sum(1, keepdims=True)).diagonal()
    draw_tiles(axes[0, 0], classes[None], "class,\nits probability", [f"{k}: {p:.1%}" for k, p in enumerate(given)], ink=True)
    draw_tiles(axes[1, 0], maps.reshape(2, 8, *maps.shape[1:]), "what a unit of\nC3's 16 maps sees", ink=True)
    return figure


def draw_strongest(record: Record) -> Figure:
    """What the strongest activations of C3's maps come from; two images of each of the maps."""
    best = min(SHOWN_BEST, record.history["patch/image"].shape[1])
    heading = "What the strongest activations of C3's maps come from: 14×14 pixels each, blue above 0, orange below"
    figure, axes = figures.panels(2 * len(ROWS), 1, heading, size=(11.0, 0.82))
    for half in range(2):
        for row, (name, title) in enumerate(ROWS.items()):
            patches = record.history[f"patch/{name}"][8 * half : 8 * half + 8, :best]
            tiles = each_to_its_most(patches.reshape(1, -1, *patches.shape[2:]))
            names = [f"map {8 * half + n + 1}" for n in range(8)] if row == 0 else []
            draw_tiles(axes[half * len(ROWS) + row, 0], tiles, title, names, ink=name == "image")
    return figure


def draw_asked(record: Record) -> Figure:
    """A column for each digit; right answers first, wrong ones behind."""
    history = record.history
    count = len(history["asked"])
    heading = "Why? Black: answers much to a change of the pixel; orange: Grad-CAM at C3, what speaks for the class"
    figure, axes = figures.panels(4, max(count, 1), heading, size=(1.12, 1.25))
    for n in range(count):
        said, other = history["asked_class"][n]
        wrong = said != history["is"][n]
        ink(axes[0, n], history["asked_image"][n], f"{history['is'][n]}, says {said}" if wrong else f"{said}", 1.0)
        axes[0, n].title.set_color("#d55e00" if wrong else "black")
        ink(axes[1, n], history["saliency"][n], f"for {said}")
        most = float(history["cam"][n].max())
        for row, (which, cam) in enumerate(zip((said, other), history["cam"][n], strict=True), start=2):
            _overlay(axes[row, n], history["asked_image"][n], cam, most)
            figures.bare(axes[row, n], f"for {which}")
    for ax, title in zip(axes[:, 0], ("digit", "saliency", "Grad-CAM,\nits answer", "Grad-CAM,\nthe other"), strict=True):
        ax.set_ylabel(title, fontsize=9)
    return figure


def _overlay(ax: Axes, image: np.ndarray, cam: np.ndarray, most: float) -> None:
    """The map over the image, each of its 10×10 places at the middle of what it sees."""
    from matplotlib.colors import LinearSegmentedColormap

    orange = LinearSegmentedColormap.from_list("orange", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.85)])
    side = image.shape[0]
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1.6)
    ax.imshow(cam, cmap=orange, vmin=0, vmax=most or 1.0, extent=(3.5, 23.5, 23.5, 3.5), interpolation="bilinear")
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def draw_plane(record: Record) -> Figure:
    """F6 of test digits in the plane, a colour and a numeral a class."""
    from matplotlib import colormaps

    label, share = record.history["label"], record.history["variance"]
    figure, axes = figures.panels(1, 2, f"F6's 84 activations of {len(label):,} test digits in the plane", size=(5.2, 4.6))
    titles = {"pca": f"two principal components: {share[:2].sum():.0%} of the variance", "tsne": "t-SNE"}
    for ax, (name, title) in zip(axes[0], titles.items(), strict=True):
        plane = record.history[f"plane/{name}"]
        for k in np.unique(label):
            points, colour = plane[label == k], colormaps["tab10"](int(k))
            ax.scatter(*points.T, s=5, color=colour, alpha=0.6, linewidths=0)
            middle = np.median(points, 0)
            ax.text(*middle, str(k), color=colour, fontsize=15, weight="bold", ha="center", va="center", path_effects=_halo())
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=10)
    return figure


def _halo() -> list:
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=3, foreground="white")]


def draw_errors(record: Record, systems: Mapping[str, str]) -> Figure:
    """The test error of each system by the number of training images."""
    source, images = record.meta["data"], record.history["images"]
    figure, axes = figures.panels(1, 1, f"Features that are learnt and features made by hand, on {source['name']}", size=(6.0, 4.0))
    ax = axes[0, 0]
    for (name, title), colour in zip(systems.items(), figures.COLOURS, strict=False):
        errors = record.history[f"error/{name}"].reshape(len(images), -1)
        figures.band(ax, images, errors.T, colour, f"{title}: {np.median(errors[-1]):.2f} %")
        ax.plot(np.repeat(images, errors.shape[1]), errors.ravel(), ".", color=colour)
    with_distortions = record.history["error/distorted"]
    label = f"LeNet-5, distortions and decay: {np.median(with_distortions):.2f} %"
    ax.plot(np.full(len(with_distortions), images[-1]), with_distortions, "d", color=figures.COLOURS[3], label=label)
    ax.set(xscale="log", yscale="log", xlabel="training images", ylabel="test error, %")
    ax.set_xticks(images, [f"{n:,}" for n in images])
    ax.set_xticks([], minor=True)
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([], minor=True)
    ax.legend(frameon=False, fontsize=9)
    return figure
