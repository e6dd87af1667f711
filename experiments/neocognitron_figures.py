"""The figures of `experiments.neocognitron_digits`."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from jaxnn.record import Record

LAYERS = ("S1", "C1", "S2", "C2", "S3", "C3")
COLUMNS = 12
"""Planes in a row of a mosaic."""
STRENGTH = "deformation; 1: scaled by up to e$^{±.15}$, sheared by ±.25"


def mosaic(maps: np.ndarray, columns: int = COLUMNS) -> np.ndarray:
    """Planes (rows, columns, K) side by side, one pixel apart; NaN between them."""
    height, width, count = maps.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k in range(count):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        sheet[top : top + height, left : left + width] = maps[..., k]
    return sheet


def show(ax: Axes, sheet: np.ndarray, title: str, most: float | None = None) -> None:
    """White for 0 and black for the most; what lies between two planes is light blue."""
    from matplotlib import colormaps

    colours = colormaps["gray_r"].with_extremes(bad="#cfe3f1")
    ax.imshow(sheet, cmap=colours, vmin=0, vmax=most or max(float(np.nanmax(sheet)), 1e-12), interpolation="nearest")
    figures.bare(ax, title)


def typical(record: Record) -> int:
    """The seed that is shown alone: the one in the middle, by the share of right names in all places."""
    return int(np.argsort(record.history["everywhere/random places"], kind="stable")[record.config["seeds"] // 2])


def draw_responses(record: Record) -> Figure:
    """Every layer's planes for a 4: figure 7 of the paper."""
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    figure.suptitle("What the cells of every layer say to a 4: 24 planes each, as dark as the layer's strongest cell", fontsize=12)
    grid = figure.add_gridspec(3, 5, width_ratios=[0.8, 1, 1, 0.83, 0.83])
    show(figure.add_subplot(grid[0, 0]), record.history["responses/U0"][typical(record), ..., 0], "U0, 16 × 16")
    for row in range(3):
        for layer, where in ((LAYERS[2 * row], grid[row, 1:3]), (LAYERS[2 * row + 1], grid[row, 3:])):
            maps = record.history[f"responses/{layer}"][typical(record)]
            title = f"U{layer}, planes of {maps.shape[0]} × {maps.shape[1]}, strongest {maps.max():.2f}"
            larger = max(1, record.history["responses/U0"].shape[1] // len(maps))  # no cell narrower than what parts the planes
            show(figure.add_subplot(where), mosaic(maps.repeat(larger, 0).repeat(larger, 1), 6), title)
    return figure


def features(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """What the planes of S1 and S2 look for, in pixels: a of S1, and Σ a of S2 times what the S1-plane looks for, where it stands."""
    first, second = (record.history[f"learnt/{stage}"][typical(record)] for stage in (1, 2))
    area = int(np.sqrt(len(first)))
    ones = first[:, 0].reshape(area, area, -1)
    ones = ones / np.maximum(ones.max((0, 1)), 1e-12)
    stride = 2  # from one C1-cell to the next
    side = int(np.sqrt(len(second)))
    twos = np.zeros(((side - 1) * stride + area, (side - 1) * stride + area, second.shape[2]))
    for place, weights in enumerate(second):
        i, j = (stride * n for n in divmod(place, side))
        twos[i : i + area, j : j + area] += ones @ weights
    return ones, twos / np.maximum(twos.max((0, 1)), 1e-12)


def draw_weights(record: Record) -> Figure:
    """S1's weights as they are, S2's laid back onto the image."""
    figure, axes = figures.panels(2, 1, "What the planes came to look for, each as dark as its own strongest weight", size=(9.0, 1.75))
    ones, twos = features(record)
    show(axes[0, 0], mosaic(ones), "a of US1, 5 × 5 pixels")
    show(axes[1, 0], mosaic(twos), "a of US2, 5 × 5 cells of 24 planes, laid back onto the pixels through what the US1-planes look for")
    return figure


def draw_answers(record: Record) -> Figure:
    """The last C-cells for all places of every drawn digit; and how many planes share a digit, layer by layer."""
    figure, axes = figures.panels(1, 2, "Many planes share a digit in the first layer; in the last one names it", size=(5.4, 3.8))
    answers = record.history["answers/random places"][typical(record)]
    sheet = answers.reshape(-1, answers.shape[-1])
    ax = axes[0, 0]
    image = ax.imshow(sheet, cmap="gray_r", aspect="auto", vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=ax, label="u of the C-cell")
    count = answers.shape[1]
    for digit in range(1, len(answers)):
        ax.axhline(digit * count - 0.5, color="#0072b2", linewidth=0.8)
    ax.set(xlabel="plane of UC3", ylabel="digit, in each of its 49 places", yticks=(np.arange(len(answers)) + 0.5) * count)
    ax.set_yticklabels(map(str, range(len(answers))))
    ax.grid(False)
    ax.set_title("the last layer of the net in the middle of the seeds", fontsize=9)
    for name, colour in zip(("planes that answer a digit", "digits that a plane answers"), figures.COLOURS, strict=False):
        figures.band(axes[0, 1], LAYERS, record.history[name], colour, name)
    axes[0, 1].set(xlabel="layer", ylabel="number", ylim=(0, None))
    axes[0, 1].set_title(f"a plane answers with half the layer's strongest cell; {len(record.history[name])} seeds", fontsize=9)
    axes[0, 1].legend(fontsize=9, frameon=False)
    return figure


def draw_tolerance(record: Record) -> Figure:
    """The drawn digits: right answers by the distance from the middle and by the strength of deformation."""
    figure, axes = figures.panels(1, 2, "Drawn digits 0 to 4: what is still named right", size=(4.6, 3.6), sharey=True)
    ways = {"distance": None, "strength": record.config["strengths"]}
    for ax, (way, x) in zip(axes.flat, ways.items(), strict=True):
        for where, colour in zip(("random places", "the middle alone"), figures.COLOURS, strict=False):
            values, templates = (record.history[f"{kind}by {way}/{where}"] for kind in ("", "templates "))
            along = np.arange(values.shape[1]) if x is None else x
            figures.band(ax, along, values, colour, f"neocognitron, shown in {where}")
            ax.plot(along, templates, "--", color=colour, linewidth=1.4, label=f"templates, means of images in {where}")
        ax.axhline(0.2, color="0.6", linewidth=0.8, linestyle=":")
        ax.set(ylim=(0, 1.03), xlabel={"distance": "shift in pixels, the larger of both ways", "strength": STRENGTH}[way])
    axes[0, 0].set(ylabel="share named right", xticks=np.arange(len(record.history["templates by distance/random places"])))
    axes[0, 1].text(max(record.config["strengths"]), 0.19, "chance", fontsize=9, color="0.4", va="top", ha="right")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_digits_tolerance(record: Record) -> Figure:
    """Real digits: right names, and names kept, by shift and deformation."""
    figure, axes = figures.panels(2, 2, "Real digits on 16 × 16 pixels", size=(4.6, 3.2), sharex="col", sharey="row")
    judges = [key.partition("/")[2] for key in record.history if key.startswith("accuracy/")]
    for column, (way, x) in enumerate({"shift": record.config["shifts"], "strength": record.config["strengths"]}.items()):
        for row, kind in enumerate(("right", "kept")):
            ax = axes[row, column]
            for judge in judges:
                net, how = judge.split(", ")
                colour = dict(zip(("pixels", "paper", "wider"), figures.COLOURS, strict=False))[net]
                line = "--" if how == "templates" else "-"
                ax.plot(x, record.history[f"{kind} by {way}/{judge}"], line, color=colour, linewidth=1.4, label=judge)
            ax.set(ylim=(0, 1.03))
        axes[1, column].set(xticks=x, xlabel={"shift": "shift in pixels of 28", "strength": STRENGTH}[way])
    axes[0, 0].set(ylabel="share named right")
    axes[1, 0].set(ylabel="share that keeps its name")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure
