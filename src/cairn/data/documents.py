"""Document: a text, where it came from, and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document lies: a file and either a span of its (unpacked) bytes or a row."""

    path: str
    span: tuple[int, int] | None = None
    row: int | None = None

    def __str__(self) -> str:
        if self.row is not None:
            return f"{self.path} row {self.row}"
        return f"{self.path} bytes {self.span[0]}-{self.span[1]}" if self.span else self.path


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its source; `metadata` holds the other fields of its row, its title, its language."""

    text: str
    source: Source = Source("")
    metadata: Mapping[str, Any] = field(default_factory=dict)
