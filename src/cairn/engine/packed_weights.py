"""Packed weights in a file that `cairn._native` maps: nothing is converted when a model starts.

`packed.bin` holds the matrices as native/layout.h draws them, each from a multiple of 4,096 bytes on;
`packed.json` says where each lies and holds int8's scales. Vectors (norms, biases) stay in the checkpoint.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cairn.core import IntegrityError, StorageError

LAYOUT = 1
"""Raised when native/layout.h changes; what was packed before is then packed again."""
_PAGE = 4096
_BIN, _INDEX = "packed.bin", "packed.json"


def write_packed(matrices: Mapping[str, Any], folder: Path) -> None:
    """Write matrices by name into a folder."""
    entries: dict[str, dict[str, Any]] = {}
    try:
        with (folder / _BIN).open("wb") as file:
            for name, matrix in matrices.items():
                file.write(bytes(-file.tell() % _PAGE))
                entries[name] = {
                    "offset": file.tell(),
                    "rows": matrix.num_rows,
                    "inputs": matrix.num_inputs,
                    "format": matrix.format,
                    "scales": matrix.row_scales,
                }
                file.write(matrix.data.data)
            file.flush()
            os.fsync(file.fileno())
        (folder / _INDEX).write_text(json.dumps({"layout": LAYOUT, "matrices": entries}))
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}", remedy="free some space") from None


class PackedWeights:
    """Matrices by name, mapped when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            index = json.loads((folder / _INDEX).read_text())
            self._entries: dict[str, dict[str, Any]] = index["matrices"]
            is_known = index["layout"] == LAYOUT
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(repr(error)) from None
        if not is_known:
            raise self._damaged(f"layout {index['layout']}, needed: {LAYOUT}")

    def __getitem__(self, name: str) -> Any:
        try:
            map_matrix = importlib.import_module("cairn._native").map_matrix
            return map_matrix(str(self._folder / _BIN), **self._entries[name])
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise self._damaged(f"{name}: {error!r}") from None

    def _damaged(self, how: str) -> IntegrityError:
        return IntegrityError(
            f"{self._folder} holds no packed weights: {how}",
            remedy="remove that artifact (`cairn artifact ls`); it is made again from the model",
        )
