"""How `experiments.convolution_arithmetic` draws its record."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments import figures
from jaxnn.record import Record

KINDS = {"full": "fully connected", "local": "local", "shared": "local and shared"}


def draw_worked(record: Record, image: np.ndarray, kernel: np.ndarray) -> Figure:
    """Rows 76 and 77: the image, what the kernel makes of it, and of the image in zeros."""
    valid, padded, turned = (record.history[f"worked/{name}"] for name in ("valid", "padded", "convolution"))
    figure, axes = figures.panels(2, 3, "Nine by nine pixels under a Sobel-like kernel", size=(3.6, 3.4))
    figures.cells(axes[0, 0], image, "image, 9×9")
    axes[0, 0].add_patch(Rectangle((-0.5, -0.5), 3, 3, fill=False, linewidth=2))
    figures.cells(axes[0, 1], kernel, "kernel, 3×3")
    for ax, values, title in (
        (axes[0, 2], valid, "correlation, 7×7: what the slides call convolution"),
        (axes[1, 0], padded, "the same with zeros around the image, 9×9"),
        (axes[1, 1], turned, "true convolution: its negative, 7×7"),
    ):
        figures.cells(ax, values, title, float(np.abs(padded).max()))
    axes[0, 2].add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, linewidth=2))
    axes[1, 0].add_patch(Rectangle((0.5, 0.5), 7, 7, fill=False, linewidth=2))
    axes[1, 2].axis("off")
    products = [" + ".join(f"{p:g}·({w:g})" for p, w in zip(*rows, strict=True)) for rows in zip(image[:3, :3], kernel, strict=True)]
    axes[1, 2].text(0, 0.5, "the first window:\n\n" + "\n+ ".join(products) + f"\n= {valid[0, 0]:g}", fontsize=11, va="center")
    return figure


def draw_filters(record: Record, image: np.ndarray, filters: np.ndarray) -> Figure:
    """Row 79."""
    figure, axes = figures.panels(1, 5, "Two 3×3 filters make two 4×4 maps of a 6×6 image", size=(2.6, 2.6))
    figures.cells(axes[0, 0], image, "image")
    for number, (kernel, result) in enumerate(zip(filters, record.history["filters/maps"], strict=True)):
        figures.cells(axes[0, 1 + 2 * number], kernel, f"filter {number + 1}")
        figures.cells(axes[0, 2 + 2 * number], result, f"map {number + 1}", 3.0)
    return figure


def draw_windows(record: Record, cases: Sequence[tuple[int, int]], size: int = 5, kernel: int = 3) -> Figure:
    """Row 80: pixels, zeros, the first window, and the centres of all."""
    title = f"{size}×{size} pixels under {kernel}×{kernel} windows: ⌊(n + 2p - k)/s⌋ + 1 a side"
    figure, axes = figures.panels(1, len(cases) + 1, title, size=(2.5, 2.7))
    sizes = [*record.history["windows/size"].tolist(), 1]
    for ax, (stride, padding), there in zip(axes[0], [*cases, (3, 0)], sizes, strict=True):
        _draw_case(ax, stride, padding, there, size, kernel)
        figures.bare(ax, f"stride {stride}, zeros {padding}: {there}×{there}")
    axes[0, -1].set_title("stride 3 does not fit: 2 pixels are left;\nwith one zero more, two windows a side", fontsize=9)
    return figure


def _draw_case(ax: Axes, stride: int, padding: int, there: int, size: int, kernel: int) -> None:
    for row, column in np.ndindex(size + 2 * padding, size + 2 * padding):
        inside = padding <= row < size + padding and padding <= column < size + padding
        reached = max(row, column) < (there - 1) * stride + kernel
        colour = "#cfe3f1" if inside and reached else "#f6d5c2" if inside else "0.93"
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white"))
    ax.add_patch(Rectangle((0, 0), kernel, kernel, fill=False, edgecolor=figures.COLOURS[0], linewidth=2))
    centres = np.arange(there) * stride + kernel / 2
    ax.plot(*np.meshgrid(centres, centres), "o", color=figures.COLOURS[0], markersize=6)
    ax.set(xlim=(-1.1 + padding, size + 1.1 + padding), ylim=(size + 1.1 + padding, -1.1 + padding), aspect="equal")


def draw_photograph(record: Record) -> Figure:
    """Row 81."""
    figure, axes = figures.panels(1, 3, "Two filters that were made by hand", size=(3.4, 3.9))
    image, smoothed, laplacian = (record.history[f"photograph/{name}"] for name in ("image", "smoothed", "laplacian"))
    axes[0, 0].imshow(image, cmap="gray", vmin=0, vmax=1)
    axes[0, 1].imshow(smoothed, cmap="gray", vmin=0, vmax=1)
    axes[0, 2].imshow(laplacian, cmap="gray", vmin=-1, vmax=1)
    titles = ("photograph", "smoothed: the mean of 3×3 pixels", "Laplacian: grey is 0")
    for ax, title in zip(axes[0], titles, strict=True):
        figures.bare(ax, title)
    return figure


def draw_counts(record: Record) -> Figure:
    """Rows 83-86, 90 and 100-105: every bar with its number."""
    counts = [count for count in record.meta["counts"] if count["kind"] in KINDS]
    lenet = [count for count in record.meta["counts"] if count["kind"] in ("parameters", "connections")]
    figure, axes = figures.panels(1, 2, "What local connection and sharing save", size=(6.6, 4.6))
    _bars(axes[0, 0], counts, dict(zip(KINDS, figures.COLOURS, strict=False)), KINDS)
    axes[0, 0].set(xlabel="weights", xlim=(1, 1e17))
    _bars(axes[0, 1], lenet, {"parameters": figures.COLOURS[2], "connections": figures.COLOURS[5]}, {})
    axes[0, 1].set(xlabel="LeNet-5: parameters and the connections that they serve", xlim=(1, 1e8))
    return figure


def _bars(ax: Axes, counts: list[dict], colours: dict[str, str], names: dict[str, str]) -> None:
    for place, count in enumerate(counts):
        ax.barh(place, count["value"], color=colours[count["kind"]], height=0.75)
        ax.text(count["value"] * 1.4, place, f"{count['value']:,}", va="center", fontsize=8)
    ax.set_yticks(
        range(len(counts)), [f"{count['of']} (row {count['row']})" if _first(counts, place) else "" for place, count in enumerate(counts)]
    )
    for kind, colour in colours.items():
        ax.barh(np.nan, np.nan, color=colour, label=names.get(kind, kind))
    ax.set(xscale="log")
    ax.grid(False, axis="y")
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def _first(counts: list[dict], place: int) -> bool:
    return place == 0 or counts[place]["of"] != counts[place - 1]["of"]


def draw_matrices(record: Record) -> Figure:
    """Row 161: y = Mx for 6×6 pixels and 4×4 units, with every weight its own, with few, and with few that are shared."""
    local, shared = record.history["matrix/local"], record.history["matrix/shared"]
    rng = np.random.default_rng(1)
    full = rng.normal(size=local.shape)
    figure, axes = figures.panels(3, 1, "One layer as a matrix: 16 units (rows) on 6×6 pixels (columns)", size=(6.6, 2.7))
    kernel = len(np.unique(shared[shared != 0]))
    for ax, matrix, title in (
        (axes[0, 0], full, f"fully connected: {full.size} weights"),
        (axes[1, 0], local, f"local 3×3, unshared: {np.count_nonzero(local)} weights, the others 0"),
        (axes[2, 0], shared, f"local and shared, the Sobel-like kernel: the same 3×3 weights in every row ({kernel} values but 0)"),
    ):
        limit = np.abs(matrix).max()
        ax.imshow(np.where(matrix == 0, np.nan, matrix), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        ax.set_facecolor("white")
        figures.bare(ax, title)
    return figure
