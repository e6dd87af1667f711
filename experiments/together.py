"""Several processes of one job as one run: all compute, the first one keeps what is done and records it."""

from collections.abc import Callable
from pathlib import Path

import jax

from experiments.unfinished import NOTHING, Keep
from jaxnn import devices
from jaxnn.types import InputError


def join(distributed: str) -> None:
    """Meet the other processes as `--distributed` says: `no`, `auto`, HOST:PORT, or HOST:PORT/PROCESSES/ID."""
    if distributed == "no":
        return
    coordinator, *numbers = distributed.split("/")
    if len(numbers) not in (0, 2) or not all(number.isdecimal() for number in numbers):
        raise InputError(
            f"--distributed must be no, auto, HOST:PORT or HOST:PORT/PROCESSES/ID, such as node1:29500/4/0, got {distributed!r}"
        )
    devices.initialize(None if distributed == "auto" else coordinator, *map(int, numbers))


def is_first() -> bool:
    return jax.process_index() == 0


def keep_of_first(make: Callable[[], Keep], every: float | None) -> Keep:
    """What the first process makes, on all of them: the same folder, on a file system that they share."""
    if jax.process_count() == 1:
        return make()
    folder = devices.text_of_first(str((make() if is_first() else NOTHING).folder or ""))
    if not folder:
        return NOTHING
    if not Path(folder).is_dir():
        raise InputError(
            f"process {jax.process_index()} does not see {folder}, which process 0 made. Name --results on a file system that all share"
        )
    return Keep(Path(folder), every)
