"""Composer: a parsed document written block by block, page by page, with spans that are exact.

Between two blocks stand a blank line's two newlines. Lone surrogates become U+FFFD and NUL is left out:
neither can be stored as text.
"""

from collections.abc import Mapping
from typing import Any

from cairn.data.parsing.confidence import assess, assess_glyphs
from cairn.data.parsing.limits import Deadline, ParseLimits, ParsingStoppedError
from cairn.data.parsing.parsed import Block, BlockKind, Page, ParsedDocument, Problem, ProblemKind

_GAP = "\n\n"


class Composer:
    """Gathers blocks; `finish` makes the document. Pages are begun in order and number from 1."""

    def __init__(self, limits: ParseLimits) -> None:
        self.limits = limits
        self.deadline = Deadline(limits)
        self._parts: list[str] = []
        self._size = 0
        self._blocks: list[Block] = []
        self._pages: list[Page] = []
        self._open: _OpenPage | None = None
        self.first_heading = ""
        """What a document without a title of its own may be called."""

    def begin_page(self) -> None:
        """What is added from here on is on the next page."""
        self.end_page()
        self.deadline.check()
        if len(self._pages) >= self.limits.max_pages:
            raise ParsingStoppedError("too_large", f"stopped at {self.limits.max_pages:,} pages")
        self._open = _OpenPage(len(self._parts), len(self._blocks))

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
        gap = len(_GAP) if self._parts else 0
        if self._size + gap + len(data) > self.limits.max_text_bytes:
            raise ParsingStoppedError("too_large", f"stopped at {self.limits.max_text_bytes:,} bytes of text")
        if gap:
            self._parts.append(_GAP)
        start = self._size + gap
        self._size = start + len(data)
        self._parts.append(text)
        if kind == "heading" and not self.first_heading:
            self.first_heading = text.lstrip("# ")
        self._blocks.append(Block(kind, (start, self._size), len(self._pages) + 1, level, name))

    def problem(self, kind: ProblemKind, message: str, confidence: float = 1.0) -> None:
        """Something is wrong with the page that is open, which can be trusted no more than this."""
        if self._open is None:
            self.begin_page()
        assert self._open is not None
        self._open.problems.append(Problem(kind, len(self._pages) + 1, message))
        self._open.ceiling = min(self._open.ceiling, confidence)

    def end_page(self, num_unmapped: int | None = None) -> None:
        """Close the page that is open, if one is: it gets its confidence.

        `num_unmapped` is for text that was made of glyphs: so many of them had no letter.
        """
        page, self._open = self._open, None
        if page is None:
            return
        number = len(self._pages) + 1
        text = "".join(self._parts[page.part :])
        confidence, found = assess(text) if num_unmapped is None else assess_glyphs(text, num_unmapped)
        # A page that is known to be a picture or locked need not be called empty as well.
        if page.ceiling < 1.0:
            found = [(kind, said) for kind, said in found if kind != "empty"]
        problems = [Problem(kind, number, said) for kind, said in found]
        start = self._blocks[page.block].span[0] if len(self._blocks) > page.block else self._size
        self._pages.append(
            Page(number, (start, self._size), min(confidence, page.ceiling), (*page.problems, *problems))
        )

    @property
    def num_pages(self) -> int:
        """Of those that were begun."""
        return len(self._pages) + (self._open is not None)

    @property
    def has_text(self) -> bool:
        """Whether anything is on the page that is open."""
        return self._open is not None and len(self._blocks) > self._open.block

    def stop(self, kind: ProblemKind, message: str) -> None:
        """Reading ends before the file does: a last page without text says so."""
        self.end_page()
        here = (self._size, self._size)
        number = len(self._pages) + 1
        self._pages.append(Page(number, here, 0.0, (Problem(kind, number, message),)))

    def finish(
        self, media_type: str, title: str = "", metadata: Mapping[str, Any] | None = None
    ) -> ParsedDocument:
        """The document; a file in which nothing was found has one empty page."""
        if not self._pages and self._open is None:
            self.begin_page()
        self.end_page()
        text = "".join(self._parts)
        blocks, pages = tuple(self._blocks), tuple(self._pages)
        return ParsedDocument(text, blocks, pages, media_type, title.strip(), dict(metadata or {}))


class _OpenPage:
    """Where a page begins among the parts and the blocks, and how far it can be trusted at most."""

    def __init__(self, part: int, block: int) -> None:
        self.part, self.block = part, block
        self.problems: list[Problem] = []
        self.ceiling = 1.0
