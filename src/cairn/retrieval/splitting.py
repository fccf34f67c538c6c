"""Cutting a text that is too long for one chunk, at the coarsest boundary that its kind has.

Tables fall into rows, code into groups of lines and then lines, lists into items, prose into sentences;
whatever is still too long is halved near its middle, between words where there are any. The pieces of a text,
joined, are the text.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from cairn.data.parsing import BlockKind

CountTokens = Callable[[Sequence[str]], list[int]]
"""Tokens of each text as its reader counts them, special ones included."""

_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]\s*|\n[^\S\n]*\n\s*")
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*(?=\S)")
_TABLE_RULE = re.compile(r"[\s|:+=-]*-[\s|:+=-]*")


def sentences(text: str) -> list[str]:
    """Pieces that end where sentences and paragraphs do."""
    return _cut_after(_SENTENCE_END, text)


def lines(text: str) -> list[str]:
    """Pieces that end where lines do."""
    return text.splitlines(keepends=True)


def _groups_of_lines(text: str) -> list[str]:
    return _cut_after(_BLANK_LINES, text)


_LEVELS: dict[BlockKind, tuple[Callable[[str], list[str]], ...]] = {
    "table": (lines,),
    "code": (_groups_of_lines, lines),
    "list": (lines, sentences),
}
_PROSE = (sentences,)


def split(text: str, kind: BlockKind, limit: int, cost: CountTokens) -> list[tuple[str, int]]:
    """Pieces of at most `limit` tokens and what each costs, unless a single character costs more."""
    return list(_split([text], (*_LEVELS.get(kind, _PROSE), halves), limit, cost))


def _split(
    texts: Sequence[str], levels: Sequence[Callable[[str], list[str]]], limit: int, cost: CountTokens
) -> Iterator[tuple[str, int]]:
    # The last level halves, and may be needed again and again.
    finer = levels[1:] or levels
    for text, tokens in zip(texts, cost(texts), strict=True):
        if tokens <= limit or len(text) == 1:
            yield text, tokens
        else:
            yield from _split(levels[0](text), finer, limit, cost)


def halves(text: str) -> list[str]:
    """Two pieces, cut after the white space nearest the middle, or in the middle where there is none."""
    middle = len(text) // 2
    before = max((match.end() for match in re.finditer(r"\s+", text[: middle + 1])), default=0)
    if 0 < before < len(text):
        return [text[:before], text[before:]]
    after = re.compile(r"\s+").search(text, middle)
    cut = after.end() if after is not None and after.end() < len(text) else middle
    return [text[:cut], text[cut:]]


def table_header(text: str) -> str:
    """The first row of a table, with the rule beneath it where Markdown draws one."""
    rows = lines(text)
    has_rule = len(rows) > 1 and _TABLE_RULE.fullmatch(rows[1].strip())
    return "".join(rows[: 2 if has_rule else 1]).rstrip()


def _cut_after(boundary: re.Pattern[str], text: str) -> list[str]:
    ends = [match.end() for match in boundary.finditer(text)]
    starts = [0, *ends]
    return [piece for a, b in zip(starts, [*ends, len(text)], strict=True) if (piece := text[a:b])]
