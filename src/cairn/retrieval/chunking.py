"""Chunking: a parsed document into the pieces that are found, cited and read by a model.

A chunk is a slice of the document's text that begins and ends where its structure does. It stays within
one page and one section (what stands beneath one heading, or one definition of source code), holds whole
blocks as long as they fit, and costs at most `budget` tokens with its context: the headings above it, and
the header of a table that had to be cut. A block that is too long is cut as `splitting` says, and the next
chunk begins with the last sentences of the one before.

A document is read page by page, and its chunks come as soon as their page does; what goes on from page to
page is the headings above. Every visible byte of every page that can be trusted is in a chunk; a page below
the least confidence is in none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from cairn.data.parsing import Block, BlockKind, Parsed, ParsedPage
from cairn.retrieval.splitting import CountTokens, sentences, split, table_header

_CONTEXT_SHARE, _HEADER_SHARE = 4, 2  # a quarter of the budget for headings, half for a table's header


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document."""

    span: tuple[int, int]
    """UTF-8 bytes of the parsed text."""
    page: int
    section: int
    heading_path: tuple[str, ...]
    context: str
    """Read before the text, but not part of it."""
    text: str
    num_tokens: int
    """Of what is embedded."""

    @property
    def embedded(self) -> str:
        """What an embedder and a full-text index read."""
        return embedded_text(self.context, self.text)


def embedded_text(context: str, text: str) -> str:
    """A chunk's text with what is read before it."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is not cut: a block, or a piece of one that was too long. `cost` counts its table's header too."""

    kind: BlockKind
    span: tuple[int, int]
    page: int
    section: int
    path: tuple[str, ...]
    cost: int = 0
    header: str = ""


def chunk_document(
    parsed: Parsed, *, budget: int, overlap: int, least_confidence: float, count: CountTokens
) -> Iterator[Chunk]:
    """Chunks in the order of the text; `budget` and `overlap` in tokens as `count` counts them."""
    sections = _Sections(is_one_page=len(parsed.pages) == 1)
    start = 0
    for piece in parsed.pieces():
        if isinstance(piece, ParsedPage):
            text = _Text(piece.text.encode(), start)
            start += len(text.data)
            if piece.page.confidence >= least_confidence:
                packer = _Packer(text, budget, overlap, count)
                units = packer.priced(list(sections.units(piece, text)))
                for _, group in groupby(units, key=lambda unit: unit.section):
                    yield from packer.pack(list(group))


@dataclass(frozen=True, slots=True)
class _Text:
    """A part of a document's text, which begins at a byte of it."""

    data: bytes
    start: int

    def __getitem__(self, span: tuple[int, int]) -> str:
        return self.data[span[0] - self.start : span[1] - self.start].decode()


class _Packer:
    """Fills chunks with the units of one section on one page."""

    def __init__(self, text: _Text, budget: int, overlap: int, count: CountTokens) -> None:
        self._text, self._budget, self._overlap, self._count = text, budget, overlap, count
        self._base = count([""])[0]

    def pack(self, units: list[_Unit]) -> list[Chunk]:
        path = self._affordable(units[-1].path)
        room = self._budget - self._base - (self._cost(["\n".join(path) + "\n"])[0] if path else 0)
        limit = max(room, 1)
        while True:
            runs = self._fill(self._fitting(units, limit), limit)
            chunks = [self._finish(run, path, units[-1].path) for run in runs]
            counted = self._count([chunk.embedded for chunk in chunks])
            # Pieces may cost more together than each alone: then with less room.
            if limit == 1 or all(tokens <= self._budget for tokens in counted):
                return [
                    replace(chunk, num_tokens=tokens) for chunk, tokens in zip(chunks, counted, strict=True)
                ]
            limit = limit * 3 // 4 or 1

    def priced(self, units: Sequence[_Unit]) -> list[_Unit]:
        costs = self._cost([self._text[unit.span] for unit in units])
        return [replace(unit, cost=cost) for unit, cost in zip(units, costs, strict=True)]

    def _cost(self, texts: Sequence[str]) -> list[int]:
        return [tokens - self._base for tokens in self._count(texts)] if texts else []

    def _header_cost(self, header: str) -> int:
        return self._cost([header + "\n"])[0] if header else 0

    def _affordable(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The innermost headings that a share of the budget holds."""
        while path and self._cost(["\n".join(path)])[0] > self._budget // _CONTEXT_SHARE:
            path = path[1:]
        return path

    def _fitting(self, units: Sequence[_Unit], limit: int) -> Iterator[_Unit]:
        """Units of at most `limit`."""
        for unit in units:
            if unit.cost <= limit:
                yield unit
                continue
            text = self._text[unit.span]
            header = table_header(text) if unit.kind == "table" else ""
            if self._header_cost(header) * _HEADER_SHARE > limit:
                header = ""
            extra = self._header_cost(header)
            start = unit.span[0]
            for piece, cost in split(text, unit.kind, limit - extra, self._cost):
                end = start + len(piece.encode())
                yield replace(unit, span=(start, end), cost=cost + extra, header=header)
                start = end

    def _fill(self, units: Iterator[_Unit], limit: int) -> list[list[_Unit]]:
        """Units in runs of at most `limit`; a run begins with the end of the one before it."""
        runs: list[list[_Unit]] = []
        spent = 0
        for unit in units:
            shares_header = bool(runs and unit.header and runs[-1][-1].header == unit.header)
            cost = unit.cost - (self._header_cost(unit.header) if shares_header else 0)
            if runs and spent + cost <= limit:
                runs[-1].append(unit)
                spent += cost
                continue
            tail = self._tail(runs[-1], min(self._overlap, limit - unit.cost)) if runs else []
            runs.append([*tail, unit])
            spent = sum(each.cost for each in runs[-1])
        return runs

    def _tail(self, run: Sequence[_Unit], allowance: int) -> list[_Unit]:
        """The last sentences of a run that cost no more than allowed, but never all of the run."""
        last = run[-1]
        if allowance <= 0 or last.kind not in ("paragraph", "list"):
            return []
        pieces = sentences(self._text[last.span])[0 if len(run) > 1 else 1 :]
        start, found = last.span[1], list[_Unit]()
        for piece, cost in reversed(list(zip(pieces, self._cost(pieces), strict=True))):
            end, start = start, start - len(piece.encode())
            allowance -= cost
            if allowance < 0:
                break
            found.insert(0, replace(last, span=(start, end), cost=cost))
        return found

    def _finish(self, run: Sequence[_Unit], path: tuple[str, ...], heading_path: tuple[str, ...]) -> Chunk:
        span = _trimmed(self._text, (run[0].span[0], run[-1].span[1]))
        text = self._text[span]
        inside = {heading_text(self._text[unit.span]) for unit in run if unit.kind == "heading"}
        above = [heading for heading in path if heading not in inside]
        is_beneath = run[0].header and not text.startswith(run[0].header)
        return Chunk(
            span=span,
            page=run[0].page,
            section=run[0].section,
            heading_path=heading_path,
            context="\n".join([*above, run[0].header] if is_beneath else above),
            text=text,
            num_tokens=0,
        )


def heading_text(text: str) -> str:
    """A heading as people read it, without Markdown's marks."""
    first, _, _ = text.strip().partition("\n")
    return first.strip().strip("#").strip()


def _trimmed(text: _Text, span: tuple[int, int]) -> tuple[int, int]:
    """A span without the white space at its ends; empty where there is nothing else."""
    found = text[span]
    start = span[0] + len(found[: len(found) - len(found.lstrip())].encode())
    return start, max(start, start + len(found.strip().encode()))


class _Sections:
    """Counts sections, and knows the headings above: both go on from page to page."""

    def __init__(self, *, is_one_page: bool) -> None:
        self._is_one_page = is_one_page
        self._headings: list[tuple[int, str]] = []
        self._section, self._part, self._page, self._only_headings = 0, "", 0, True

    def units(self, page: ParsedPage, text: _Text) -> Iterator[_Unit]:
        """Blocks of a page and visible text between them, each with its section and headings."""
        # Elsewhere the name of code is its language.
        has_definitions = self._is_one_page and all(block.kind == "code" for block in page.blocks)
        for block in _covering(page, text):
            is_heading = block.kind == "heading"
            name = block.name if has_definitions or block.kind != "code" else ""
            if not name and not has_definitions and block.page == self._page:
                name = self._part  # a sheet or slide goes on
            if (is_heading and not self._only_headings) or name != self._part:
                self._section, self._only_headings = self._section + 1, True
            self._part, self._page = name, block.page
            if is_heading:
                self._headings = [each for each in self._headings if each[0] < block.level]
                self._headings.append((block.level, heading_text(text[block.span])))
            self._only_headings = self._only_headings and is_heading
            path = [heading for _, heading in self._headings]
            if name and name not in path:
                path.append(name)
            yield _Unit(block.kind, block.span, block.page, self._section, tuple(path))


def _covering(page: ParsedPage, text: _Text) -> Iterator[Block]:
    """Blocks that hold all that is visible on a page."""
    number, (cursor, stop) = page.page.number, page.page.span
    for block in page.blocks:
        start, end = max(block.span[0], cursor), min(block.span[1], stop)
        if start < end:
            yield from _visible(text, Block("paragraph", (cursor, start), number))
            yield from _visible(text, replace(block, span=(start, end)))
            cursor = end
    yield from _visible(text, Block("paragraph", (cursor, stop), number))


def _visible(text: _Text, block: Block) -> Iterator[Block]:
    span = _trimmed(text, block.span)
    if span[0] < span[1]:
        yield replace(block, span=span)
