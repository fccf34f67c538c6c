"""Writing a file whole or not at all: a temporary neighbour, synced, then renamed."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cairn.core.errors import StorageError


def write_json(path: Path, value: object) -> None:
    """Write indented JSON."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    replace_file(path, [text.encode()])


def replace_file(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a temporary neighbour, sync it and rename it to `path`; on failure nothing is left behind."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; nothing was kept",
            remedy="free disk space or choose another folder",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)  # gone already where all went well
