"""Composer: a parsed document written block by block, page by page, with spans that are exact.

Only the page that is open is held; one that is closed is handed on.
Between two blocks stand a blank line's two newlines. Lone surrogates become U+FFFD and NUL is left out:
neither can be stored as text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cairn.data.parsing.confidence import assess, assess_glyphs
from cairn.data.parsing.limits import Deadline, ParseLimits, ParsingStoppedError
from cairn.data.parsing.parsed import Block, BlockKind, Ending, Page, ParsedPage, Piece, Problem, ProblemKind

_GAP = "\n\n"


class Composer:
    """Gathers blocks into pages for `sink`: they are begun in order, number from 1, and `finish` ends."""

    def __init__(self, limits: ParseLimits, sink: Callable[[Piece], None]) -> None:
        self.limits, self.sink = limits, sink
        self.deadline = Deadline(limits)
        self._parts: list[str] = []
        """Since the end of the last page."""
        self._blocks: list[Block] = []
        self._size = 0
        self._num_closed = 0
        self._open: _OpenPage | None = None
        self.first_heading = ""
        """What a document without a title of its own may be called."""

    def begin_page(self) -> None:
        """What is added from here on is on the next page."""
        self.end_page()
        self.deadline.check()
        if self._num_closed >= self.limits.max_pages:
            raise ParsingStoppedError("too_large", f"stopped at {self.limits.max_pages:,} pages")
        self._open = _OpenPage()

    def add(self, kind: BlockKind, text: str, *, level: int = 0, name: str = "") -> None:
        """A block, if anything is in it."""
        text = text.replace("\0", "").strip("\n ")
        if not text.strip():
            return
        data = text.encode("utf-8", "surrogatepass")
        if b"\xed" in data:
            text = data.decode("utf-8", "replace")
            data = text.encode()
        if self._open is None:
            self.begin_page()
        gap = len(_GAP) if self._size else 0
        if self._size + gap + len(data) > self.limits.max_text_bytes:
            raise ParsingStoppedError("too_large", f"stopped at {self.limits.max_text_bytes:,} bytes of text")
        if gap:
            self._parts.append(_GAP)
        start = self._size + gap
        self._size = start + len(data)
        self._parts.append(text)
        if kind == "heading" and not self.first_heading:
            self.first_heading = text.lstrip("# ")
        self._blocks.append(Block(kind, (start, self._size), self._num_closed + 1, level, name))

    def problem(self, kind: ProblemKind, message: str, confidence: float = 1.0) -> None:
        """Something is wrong with the page that is open, which can be trusted no more than this."""
        if self._open is None:
            self.begin_page()
        assert self._open is not None
        self._open.problems.append(Problem(kind, self._num_closed + 1, message))
        self._open.ceiling = min(self._open.ceiling, confidence)

    def end_page(self, num_unmapped: int | None = None) -> None:
        """Close the page that is open, if one is: it gets its confidence.

        `num_unmapped` is for text that was made of glyphs: so many of them had no letter.
        """
        page, self._open = self._open, None
        if page is None:
            return
        number = self._num_closed + 1
        text = "".join(self._parts)
        confidence, found = assess(text) if num_unmapped is None else assess_glyphs(text, num_unmapped)
        # A page that is known to be a picture or locked need not be called empty as well.
        if page.ceiling < 1.0:
            found = [(kind, said) for kind, said in found if kind != "empty"]
        problems = (*page.problems, *(Problem(kind, number, said) for kind, said in found))
        start = self._blocks[0].span[0] if self._blocks else self._size
        self._hand_on(Page(number, (start, self._size), min(confidence, page.ceiling), problems))

    @property
    def num_pages(self) -> int:
        """Of those that were begun."""
        return self._num_closed + (self._open is not None)

    @property
    def has_text(self) -> bool:
        """Whether anything is on the page that is open."""
        return self._open is not None and bool(self._blocks)

    def stop(self, kind: ProblemKind, message: str) -> None:
        """Reading ends before the file does: a last page without text says so."""
        self.end_page()
        problem = Problem(kind, self._num_closed + 1, message)
        self._hand_on(Page(self._num_closed + 1, (self._size, self._size), 0.0, (problem,)))

    def finish(
        self,
        media_type: str = "application/octet-stream",
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """No more comes; a file in which nothing was found has one empty page."""
        if not self.num_pages:
            self.begin_page()
        self.end_page()
        self.sink(Ending(media_type, title.strip(), dict(metadata or {})))

    def _hand_on(self, page: Page) -> None:
        closed = ParsedPage(page, tuple(self._blocks), "".join(self._parts))
        self._parts, self._blocks = [], []  # whatever becomes of it, it is not handed on twice
        self.sink(closed)
        self._num_closed += 1


class _OpenPage:
    """What is wrong with a page, and how far it can be trusted at most."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.ceiling = 1.0
