"""The finished parts of a long run, kept so that the same command goes on after an interruption."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnn import record
from jaxnn.types import InputError

Arrays = Mapping[str, np.ndarray]


class Pieces(NamedTuple):
    """One file a part, under a name that is a digest of all it depends on; another commit, device or config has parts of its own."""

    folder: Path
    depends_on: Any
    """What every part depends on beside its own config: data, device, versions."""

    def get_or_make(self, config: Any, make: Callable[[], Arrays]) -> tuple[Arrays, bool]:
        """The part of this config, and whether it was there. A part that cannot be read is made again."""
        path = self._path(config)
        try:
            return record.read_arrays(path), True
        except (InputError, OSError):
            pass
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(path, record.npz_bytes(made))
        return made, False

    def clear(self, configs: Any) -> None:
        """Remove these parts: they stand in a record now."""
        for config in configs:
            self._path(config).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, config: Any) -> Path:
        text = json.dumps(record.plain([self.depends_on, config]), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
