"""A report as blocks, so that HTML and Markdown say the same."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """A section begins."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; columns of numbers are set right."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers to see at a glance: (label, value, remark)."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Image:
    """A PNG with its description; `file` is its name beside the Markdown."""

    png: bytes
    alt: str
    file: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt and what the model said to it; `expected` is what the data has, where there is such."""

    prompt: str
    reply: str
    expected: str = ""


Block = Heading | Text | Table | Figures | Image | Exchange
