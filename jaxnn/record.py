"""What a run leaves behind: one folder that holds its config, history, circumstances and figures.

    results/<experiment>/<20261122T044400Z>-<8 hex of the config>/
        config.json   every number of the run
        history.npz   named arrays; meta.json names their axes
        history.csv   one row a step: every series, as its median over seeds where it has that axis
        meta.json     claim, command, commit, versions, device, precision, seconds, data, axes, comparisons
        state.npz     the learner's state, where it was kept
        *.png *.svg   the figures
        *.gif         what moves

A folder appears whole or not at all. Nothing in it names a path outside it.
"""

import csv
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxnn.leaves import named, rebuilt
from jaxnn.manifest import first_line
from jaxnn.types import InputError, Learner, PyTree, Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP_AXES = ("step", "epoch")


class Comparison(NamedTuple):
    """A number of ours, over seeds, beside a published one."""

    what: str
    published: float | None
    median: float
    p05: float
    p95: float
    least: float
    most: float
    seeds: int
    diverged: int = 0


class Animation(NamedTuple):
    """Pictures that follow each other, for `save_figures`."""

    frames: np.ndarray
    """RGB from 0 to 255, (frames, height, width, 3)."""
    milliseconds: int = 70
    """How long each stands; the last one stands for 2 seconds, then it begins again."""


class Record(NamedTuple):
    """A run read back: all that is needed to draw it, to cite it, or to go on from it."""

    folder: Path
    config: dict[str, Any]
    history: dict[str, np.ndarray]
    meta: dict[str, Any]

    @property
    def comparisons(self) -> list[Comparison]:
        return [Comparison(**fields) for fields in self.meta["comparisons"]]

    def state(self, like: PyTree) -> PyTree:
        """The kept state, in the tree of `like` (arrays, or what `jax.eval_shape` gives): hand it to `fit(start=(step, state))`."""
        path = self.folder / "state.npz"
        if not path.exists():
            raise InputError(f"{path}: this run kept no state")
        return rebuilt(like, read_arrays(path), path)

    def trained(self, learner: Learner, batch: PyTree) -> Trained:
        """The kept state with its learner, made by the same factory from the same config, ready to predict; `batch` gives shapes."""
        like = jax.eval_shape(learner.init, jax.random.key(0), batch)  # shapes alone: no number comes of this key
        return Trained(learner, self.state(like))


def compare(what: str, values: Any, published: float | None = None, *, diverged: Any = None) -> Comparison:
    """The spread over seeds of `values` (seeds,), without those that diverged and those that are not finite.

    `diverged` (seeds,) says which seeds diverged; where it is left out, a value that is not finite counts as one.
    """
    values = np.asarray(values, float)
    lost = ~np.isfinite(values) if diverged is None else np.asarray(diverged)
    kept = values[~lost & np.isfinite(values)]
    median, p05, p95, least, most = map(float, np.quantile(kept, [0.5, 0.05, 0.95, 0, 1]) if kept.size else np.full(5, np.nan))
    return Comparison(what, published, median, p05, p95, least, most, len(values), int(lost.sum()))


def save_run(
    results: Path | str,
    experiment: str,
    config: Any,
    history: Mapping[str, Any],
    *,
    axes: Mapping[str, tuple[str, ...]],
    comparisons: Sequence[Comparison] = (),
    about: Mapping[str, Any] | None = None,
    state: PyTree = None,
) -> Path:
    """Write one run; return its folder.

    `config` is a dataclass or a dict, `history` maps names to arrays, `axes` names the axes of each of them, and `about`
    is what else belongs in `meta.json`. `state` is the learner's (see `Record.state`).
    """
    config = plain(config)
    text = json.dumps(config, indent=2, sort_keys=True)
    arrays = {key: np.asarray(value) for key, value in history.items()}
    for key, value in arrays.items():
        if len(axes.get(key, ())) != value.ndim:
            raise InputError(f"history {key!r} has the shape {value.shape}, but axes names {axes.get(key)}")
    now = datetime.now(UTC)
    meta = {**environment(), **plain(about or {}), "experiment": experiment, "finished": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    meta |= {"axes": plain(axes), "comparisons": [plain(c._asdict()) for c in comparisons]}
    files: dict[str, str | bytes] = {"config.json": text, "meta.json": json.dumps(meta, indent=2), "history.csv": _csv(arrays, axes)}
    files["history.npz"] = npz_bytes(arrays)
    if state is not None:
        files["state.npz"] = npz_bytes(named(state))
    name = f"{now:%Y%m%dT%H%M%SZ}-{config_digest(config)}"
    try:
        return _publish(Path(results) / experiment, name, files)
    except OSError as error:
        raise InputError(f"the record cannot be written to {results}: {error.strerror}. Name another folder.") from error


def config_digest(config: Any) -> str:
    """Eight hexadecimal digits that stand for a config in a folder's name."""
    return hashlib.sha256(json.dumps(plain(config), indent=2, sort_keys=True).encode()).hexdigest()[:8]


def load_run(folder: Path | str) -> Record:
    """Read a run back. Raises `InputError` that names the file which is missing or broken."""
    folder = Path(folder)
    try:
        config, meta = (json.loads((folder / name).read_text()) for name in ("config.json", "meta.json"))
        history = read_arrays(folder / "history.npz")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is not the whole record of a run: {error}") from error
    return Record(folder, config, history, meta)


def save_figures(folder: Path | str, figures: Mapping[str, "Figure | Animation"], dpi: int = 160) -> list[Path]:
    """Write each figure as PNG and SVG, or as GIF, the same bytes every time, and their order into `meta.json`; return the paths.

    Raises `InputError` where they cannot be written.
    """
    try:
        return _save_figures(Path(folder), figures, dpi)
    except OSError as error:
        raise InputError(f"the figures cannot be written to {folder}: {error.strerror}. The rest of the record is there.") from error


def _save_figures(folder: Path, figures: Mapping[str, "Figure | Animation"], dpi: int) -> list[Path]:
    import matplotlib

    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "jaxnn", "svg.fonttype": "path"}):
        for name, figure in figures.items():
            if isinstance(figure, Animation):
                paths.append(folder / f"{name}.gif")
                write_bytes(paths[-1], _gif(figure))
                continue
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix, dpi=dpi, metadata=metadata)
                paths.append(folder / f"{name}.{suffix}")
                write_bytes(paths[-1], buffer.getvalue())
    meta = folder / "meta.json"
    if meta.exists():  # the order in which a reader should see them
        write_bytes(meta, json.dumps({**json.loads(meta.read_text()), "figures": list(figures)}, indent=2).encode())
    return paths


def _gif(animation: Animation) -> bytes:
    """All frames in the colours of the last one, without dithering: nothing flickers, and a frame holds only what changed."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in animation.frames]
    palette = images[-1].quantize(256, dither=Image.Dither.NONE)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [animation.milliseconds] * len(others) + [2000]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def check_writable(folder: Path | str) -> None:
    """Make `folder` and a file in it, before a long run and not after. Raises `InputError`."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"results cannot be written to {folder}: {error.strerror}. Name a folder that can, with --results.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Commit, versions, device and precision: what a number depends on beside its config."""
    from jaxnn import __version__

    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    devices = jax.devices()
    return {
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "jaxnn": __version__}
        | {name: importlib.metadata.version(name) for name in packages},
        "backend": devices[0].platform,
        "device": f"{len(devices)} × {devices[0].device_kind}, {os.cpu_count()} CPU cores, {platform.machine()}",
        "matmul_precision": jax.config.values["jax_default_matmul_precision"] or "default",
    }


def _commit() -> str:
    """The commit of the source tree, with `+changes` where files differ from it; `unknown` where jaxnn is no part of a checkout."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside somebody else's checkout it is not jaxnn's commit
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _publish(parent: Path, name: str, files: Mapping[str, str | bytes]) -> Path:
    """Write the files to a hidden folder beside the final one, then rename it; a second run in the same second gets a number."""
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f".{name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        for file, content in files.items():
            (partial / file).write_bytes(content.encode() if isinstance(content, str) else content)
        for number in range(1, 1000):
            final = parent / (name if number == 1 else f"{name}-{number}")
            if not final.exists():
                os.rename(partial, final)
                return final
        raise InputError(f"{parent} holds a thousand runs named {name}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def plain(value: Any) -> Any:
    """Dataclasses, tuples, paths and NumPy numbers as JSON knows them; NaN and Inf, which it does not know, as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Named arrays as a compressed npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})
    return buffer.getvalue()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of an npz file. Raises `InputError` for a broken one."""
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a damaged archive shows as a dozen types of them, from EOFError to "needs a password"
        raise InputError(f"{path.name} ({len(content)} bytes) is broken: {first_line(error)}") from error


def _csv(history: Mapping[str, np.ndarray], axes: Mapping[str, tuple[str, ...]]) -> str:
    """One row a step. A `seed` axis becomes its median, a further axis one column an entry."""
    columns = {name: column for key, values in history.items() for name, column in _columns(key, values, axes.get(key, ()))}
    length = max((len(column) for column in columns.values()), default=0)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *columns])
    for step in range(length):
        writer.writerow([step, *(f"{column[step]:.6g}" if step < len(column) else "" for column in columns.values())])
    return text.getvalue()


def _columns(name: str, values: np.ndarray, axes: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    steps = [axis for axis in axes if axis in STEP_AXES]
    if len(steps) != 1 or not np.issubdtype(values.dtype, np.number):
        return []
    if "seed" in axes:
        values, axes = np.median(values, axes.index("seed")), tuple(axis for axis in axes if axis != "seed")
    rest = [axis for axis in axes if axis not in STEP_AXES]
    table = np.moveaxis(values, axes.index(steps[0]), 0).reshape(values.shape[axes.index(steps[0])], -1)
    if not rest:
        return [(name, table[:, 0])]
    shape = [values.shape[axes.index(axis)] for axis in rest]
    return [(f"{name}[{','.join(map(str, at))}]", column) for at, column in zip(np.ndindex(*shape), table.T, strict=True)]
