"""Rows of a PDF page as headings, paragraphs and lists.

A paragraph ends at a wider gap, another size of type, an indent, a mark of a list, or after a short last
line. What the outline names is a heading of its level; other headings are known by larger or bold type.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from cairn.data.parsing.composer import Composer
from cairn.data.parsing.parsed import BlockKind
from cairn.data.parsing.pdf_order import Row, reading_order
from cairn.data.parsing.pdf_page import PageContent
from cairn.data.parsing.pdf_tables import find_unruled, take_ruled

_BULLET = re.compile(r"[•‣◦▪■●○·–∗*\uf0b7\u2212-]\s+(?=\S)")
_NUMBER = re.compile(r"(?:\(?\d{1,3}[.)]|\(?[a-z][.)]|\[\d{1,3}\])\s+(?=\S)")
_SECTION = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s+\S")
_MOST_HEADING_WORDS = 16


@dataclass(slots=True)
class _Draft:
    kind: BlockKind
    text: str
    level: int = 0


class Layout:
    """Makes blocks of one page after the other; knows the size of the document's running text."""

    def __init__(self, bookmarks: Mapping[int, Mapping[str, int]]) -> None:
        self._bookmarks = bookmarks
        self._sizes: Counter[float] = Counter()

    def compose(self, content: PageContent, page: int, composer: Composer) -> None:
        """Add the page's blocks."""
        for segment in content.segments:
            self._sizes[round(2 * segment.size) / 2] += len(segment.text)
        if not self._sizes:
            return
        body = self._sizes.most_common(1)[0][0]
        headings = self._bookmarks.get(page, {})
        drafts: list[_Draft] = []
        num_lost = take_ruled(content)
        for region in reading_order(content.segments):
            tables, lost = find_unruled(region)
            num_lost += lost
            position = 0
            for start, end, table in [*tables, (len(region), len(region), "")]:
                for number, paragraph in enumerate(_paragraphs(region[position:start])):
                    is_first = position == number == 0
                    _append(drafts, _draft(paragraph, body, headings), begins_region=is_first)
                _append(drafts, _Draft("table", table), begins_region=False)
                position = end
        if num_lost:
            composer.problem("lost_table", "the columns of a table could not be told apart; it stays as text")
        for draft in drafts:
            composer.add(draft.kind, draft.text, level=draft.level)


def _paragraphs(rows: list[Row]) -> list[list[Row]]:
    if not rows:
        return []
    pitch = median([after.middle - before.middle for before, after in pairwise(rows)] or [0.0])
    left, right = min(row.left for row in rows), max(row.right for row in rows)
    found = [[rows[0]]]
    for before, row in pairwise(rows):
        if _ends(before, row, min(pitch, 2.0 * row.size), left, right):
            found.append([row])
        else:
            found[-1].append(row)
    return found


def _ends(before: Row, row: Row, pitch: float, left: float, right: float) -> bool:
    """Whether a paragraph ends between two rows of a column."""
    if before.is_table or row.is_table:
        return True
    if before.goes_on:
        return False
    size = row.size
    is_indented = row.left > left + 0.8 * size and before.left < left + 0.4 * size
    is_short = before.right < right - 0.2 * (right - left)
    return bool(
        abs(row.size - before.size) > 0.12 * max(row.size, before.size)
        or row.middle - before.middle > 1.35 * max(pitch, 0.9 * size)
        or row.middle < before.middle
        or row.is_bold != before.is_bold
        or _BULLET.match(row.text)
        or _NUMBER.match(row.text)
        or (is_indented and not _marked(before))
        or (is_short and before.text.endswith((".", "!", "?", ":")))
    )


def _marked(row: Row) -> bool:
    return bool(_BULLET.match(row.text) or _NUMBER.match(row.text))


def _draft(rows: list[Row], body: float, headings: Mapping[str, int]) -> _Draft:
    if rows[0].is_table:
        return _Draft("table", rows[0].text)
    text = _join(rows)
    level = _heading_level(rows, text, body, headings)
    if level:
        return _Draft("heading", f"{'#' * min(level, 6)} {text}", level)
    if _BULLET.match(text):
        return _Draft("list", _BULLET.sub("- ", text, count=1))
    return _Draft("list" if _NUMBER.match(text) else "paragraph", text)


def _join(rows: list[Row]) -> str:
    text = ""
    for row in rows:
        text += row.text
        if row.goes_on:
            continue
        if text.endswith("\u00ad"):
            text = text[:-1]
        elif not (text.endswith("-") and len(text) > 1 and text[-2].isalpha()):
            text += " "
    return text.strip()


def _heading_level(rows: list[Row], text: str, body: float, headings: Mapping[str, int]) -> int:
    """1 for the outermost; 0 for what is no heading."""
    words = text.split()
    plain = " ".join(words).lower()
    number = _SECTION.match(text)
    named = headings.get(plain) or (number and headings.get(plain[len(number[1]) :].lstrip(". ")))
    if named:
        return named
    ratio = rows[0].size / body
    if len(rows) > 3 or len(words) > _MOST_HEADING_WORDS or sum(map(str.isalpha, text)) < 3:
        return 0
    stands_out = ratio > 1.12 or (ratio > 0.95 and all(row.is_bold for row in rows))
    if not stands_out or text.endswith((".", ",", ";", ":")):
        return 0
    if number:
        return number[1].count(".") + 1
    return 1 if ratio > 1.5 else 2 if ratio > 1.12 else 3


def _append(drafts: list[_Draft], draft: _Draft, *, begins_region: bool) -> None:
    """Items of a list are one block, and a paragraph may go on in the next column."""
    last = drafts[-1] if drafts else None
    if last and last.kind == draft.kind == "list":
        last.text += "\n" + draft.text
    elif last and begins_region and _goes_on(last, draft):
        last.text += " " + draft.text
    else:
        drafts.append(draft)


def _goes_on(last: _Draft, draft: _Draft) -> bool:
    return last.kind == draft.kind == "paragraph" and last.text[-1] not in ".!?:;" and draft.text[0].islower()
