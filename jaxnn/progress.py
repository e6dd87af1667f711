"""The progress bar: steps, steps a second, remaining time, last metrics. Quiet where nobody looks."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Show = Callable[[int, Mapping[str, Any]], None]


def say(line: str) -> None:
    """A line on stderr at once, above the bar where there is one, from any thread."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str | None, total: int, done: int = 0, unit: str = "steps") -> Iterator[Show]:
    """Yield show(done, metrics), which moves the bar; a terminal or a notebook sees it, a pipe or a file does not."""
    if label is None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield lambda done, metrics: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="", metrics="")

        def show(done: int, metrics: Mapping[str, Any]) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            rate = f"{speed:,.0f} {unit}/s" if speed else ""
            bar.update(task, completed=done, rate=rate, metrics="  ".join(f"{name} {float(value):.4g}" for name, value in metrics.items()))

        yield show
