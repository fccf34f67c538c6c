"""What a file may cost. A limit that is reached is a problem of the document, never a silent end."""

import time
from dataclasses import dataclass

from cairn.data.parsing.parsed import ProblemKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseLimits:
    """Bounds of one file. What was read before one of them was reached is kept."""

    max_file_bytes: int = 1 << 28
    """A larger file is not opened."""
    max_unpacked_bytes: int = 1 << 29
    """Of everything that is unpacked from a zip container (Word, EPUB), together."""
    max_text_bytes: int = 1 << 26
    """UTF-8 bytes of the parsed text."""
    max_pages: int = 20_000
    max_depth: int = 100
    """Of nested elements, JSON values and attached messages."""
    seconds: float = 120.0
    """Wall clock; a child process that does not end by itself is killed soon after."""
    memory_bytes: int = 1 << 31
    """Address space of a child process."""


class ParsingStoppedError(Exception):
    """Reading ends here, for this reason; what was read stays."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind


class Deadline:
    """Asked now and then by whoever reads."""

    def __init__(self, limits: ParseLimits) -> None:
        self._seconds = limits.seconds
        self._end = time.monotonic() + limits.seconds

    def check(self) -> None:
        """ParsingStoppedError once the time is up."""
        if time.monotonic() > self._end:
            raise ParsingStoppedError("truncated", f"stopped after {self._seconds:g} s")
