"""TextFile: a text whose blocks are runs of its own lines, so that every span is a span of the file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from cairn.data.parsing.confidence import assess
from cairn.data.parsing.limits import ParseLimits
from cairn.data.parsing.parsed import Block, BlockKind, Page, ParsedDocument, Problem

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Lines:
    """What a run of lines is: from `first` up to, not including, `last`; both count from 0."""

    kind: BlockKind
    first: int
    last: int
    level: int = 0
    name: str = ""


class TextFile:
    """A decoded text and where its lines stand."""

    def __init__(self, text: str, limits: ParseLimits, media_type: str, encoding: str = "utf-8") -> None:
        self.problems: list[Problem] = []
        if len(text) > limits.max_text_bytes or len(text.encode()) > limits.max_text_bytes:
            text = text.encode()[: limits.max_text_bytes].decode("utf-8", "ignore")
            self.problems.append(
                Problem("too_large", 1, f"cut at {limits.max_text_bytes:,} bytes; the rest was not read")
            )
        self.text = text
        self.media_type = media_type
        self.encoding = encoding
        self.lines = _LINE.findall(text)
        self._starts = list(accumulate((len(line.encode()) for line in self.lines), initial=0))

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Bytes of the lines from `first` to before `last`, without blank lines around them."""
        while first < last and self.is_blank(first):
            first += 1
        while last > first and self.is_blank(last - 1):
            last -= 1
        if first == last:
            return self._starts[first], self._starts[first]
        ending = self.lines[last - 1]
        start = self._starts[first]
        if first == 0 and self.text.startswith(BYTE_ORDER_MARK):
            start += len(BYTE_ORDER_MARK.encode())
        return start, self._starts[last] - len(ending.encode()) + len(ending.rstrip().encode())

    def is_blank(self, line: int) -> bool:
        """Whether only white space (after a byte order mark) is on a line."""
        text = self.lines[line]
        return not (text.removeprefix(BYTE_ORDER_MARK) if line == 0 else text).strip()

    def document(
        self, runs: Iterable[Lines], title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> ParsedDocument:
        """The document of these runs; lines with text that are in none become paragraphs."""
        blocks = []
        position = 0
        for run in sorted(runs, key=lambda run: run.first):
            blocks += [self._block(gap) for gap in self.paragraphs(position, run.first)]
            first = max(run.first, position)
            if first < run.last:
                blocks.append(self._block(Lines(run.kind, first, run.last, run.level, run.name)))
                position = run.last
        blocks += [self._block(gap) for gap in self.paragraphs(position, len(self.lines))]
        confidence, found = assess(self.text.removeprefix(BYTE_ORDER_MARK))
        problems = [*self.problems, *(Problem(kind, 1, said) for kind, said in found)]
        size = self._starts[-1]
        page = Page(1, (0, size), confidence, tuple(problems))
        details = {**(metadata or {})}
        if self.encoding != "utf-8":
            details["encoding"] = self.encoding
        filled = tuple(block for block in blocks if block.span[0] < block.span[1])
        return ParsedDocument(self.text, filled, (page,), self.media_type, title.strip(), details)

    def paragraphs(self, first: int, last: int) -> list[Lines]:
        """What stands between blank lines."""
        found = []
        start = first
        for line in range(first, last + 1):
            if line == last or self.is_blank(line):
                if line > start:
                    found.append(Lines("paragraph", start, line))
                start = line + 1
        return found

    def _block(self, run: Lines) -> Block:
        return Block(run.kind, self.span(run.first, run.last), 1, run.level, run.name)
