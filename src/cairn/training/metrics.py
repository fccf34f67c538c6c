"""metrics.jsonl: one JSON object a line, read by the page while the run goes on.

A checkpoint remembers how long the file was; resuming cuts it back to there, so that no step
appears twice.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cairn.core import StorageError


class MetricsLog:
    """Appends lines to `metrics.jsonl` of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Forget everything after `size` bytes; makes the file when it is missing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            os.truncate(self.path, min(size, self.size))
        except OSError as error:
            raise _refused(self.path, error) from error

    def write(self, **values: Any) -> None:
        """Append one line."""
        line = json.dumps(values, separators=(",", ":"), allow_nan=False)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _refused(self.path, error) from error


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; a last line still being written is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        remedy="free some space and start the run again; it goes on from its last checkpoint",
    )
