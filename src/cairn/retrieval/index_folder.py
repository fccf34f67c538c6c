"""Embedded indexes in one folder, a folder each."""

import shutil
from pathlib import Path

from cairn.retrieval.embedded import EmbeddedIndex
from cairn.retrieval.index import Index


class IndexFolder:
    """The `Indexes` of one machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, key: str, dimensions: int) -> Index:
        """The index of a key, as far as it was made durable; a new one where there is none."""
        return EmbeddedIndex(self._root / key, dimensions, name=key)

    def drop(self, key: str) -> None:
        """Throw away what is kept under a key; it may be missing."""
        shutil.rmtree(self._root / key, ignore_errors=True)
