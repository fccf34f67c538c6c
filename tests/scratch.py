"""Folders for what tests make outside a fixture's reach; they go when the process ends."""

import atexit
import shutil
import tempfile
from pathlib import Path


def scratch_folder(prefix: str) -> Path:
    """A new empty folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"cairn-{prefix}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
