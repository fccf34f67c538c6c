"""HTML as Markdown blocks: what a reader of the page sees, without scripts, menus and hidden parts.

One pass over the tags, no tree: nesting costs nothing and an unclosed element ends nothing but itself. A
table that holds another table, or headings, is layout: its cells become paragraphs. Links keep their text
alone.
"""

import re
from collections.abc import Sequence
from html.parser import HTMLParser

from cairn.data.parsing.composer import Composer
from cairn.data.parsing.decoding import decode
from cairn.data.parsing.parsed import BlockKind
from cairn.data.parsing.tables import markdown_table

_SKIPPED = frozenset(
    "script style template noscript nav svg math iframe object canvas "  # noqa: SIM905
    "select button dialog audio video".split()
)
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905
_BREAKING = frozenset(
    "address article aside blockquote body center dd details div dl dt fieldset figure footer form header "  # noqa: SIM905
    "hgroup hr html main p section summary tbody tfoot thead figcaption caption".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f\v]+")
_SPACE_AT_BREAK = re.compile(r" *\n *")
_MAX_SPAN = 64


def decode_html(data: bytes) -> str:
    """Text of an HTML file: UTF-8 or a byte order mark, else what its meta element says, else a guess."""
    declared = _CHARSET.search(data[:4096])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if declared and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode(declared[1].decode())
        except (LookupError, UnicodeDecodeError):
            pass
    return decode(data)[0].removeprefix("\ufeff")


def compose_html(text: str, composer: Composer) -> str:
    """Add the blocks of a page to the document; its title."""
    reader = _Reader(composer)
    for at in range(0, len(text), 1 << 16):
        composer.deadline.check()
        reader.feed(text[at : at + (1 << 16)])
    reader.close()
    reader.flush()
    reader.end_lists()
    reader.end_tables()
    if reader.skipping:
        composer.problem("truncated", f"what follows an unclosed <{reader.skipping}> was not read")
    return _SPACE.sub(" ", reader.title).strip()


class _Table:
    """Rows so far, and the cells that reach down into later rows."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.is_layout = False
        self._reaching: dict[int, tuple[int, str]] = {}
        self._span = (1, 1)

    def begin_row(self) -> None:
        self.rows.append([])

    def begin_cell(self, colspan: int, rowspan: int) -> None:
        if not self.rows:
            self.begin_row()
        self._span = (colspan, rowspan)

    def end_cell(self, text: str) -> None:
        row = self.rows[-1]
        self.fill(row)
        colspan, rowspan = self._span
        for offset in range(colspan):
            if rowspan > 1:
                self._reaching[len(row)] = (rowspan - 1, text if not offset else "")
            row.append(text if not offset else "")

    def fill(self, row: list[str]) -> None:
        """Put in the cells from rows above that reach here: each row can be read alone."""
        while len(row) in self._reaching:
            left, text = self._reaching.pop(len(row))
            if left > 1:
                self._reaching[len(row)] = (left - 1, text)
            row.append(text)


class _Reader(HTMLParser):
    def __init__(self, composer: Composer) -> None:
        super().__init__(convert_charrefs=True)
        self.composer = composer
        self.title = ""
        self.skipping = ""
        self._skip_depth = 0
        self._in_title = False
        self._text: list[str] = []
        self._kind: BlockKind = "paragraph"
        self._level = 0
        self._language = ""
        self._preformatted = 0
        self._lists: list[int | None] = []
        self._items: list[str] = []
        self._begins_item = True
        self._tables: list[_Table] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if self.skipping:
            self._skip_depth += tag == self.skipping
            return
        attributes = dict(attrs)
        if tag not in _VOID and (tag in _SKIPPED or _is_hidden(attributes)):
            self.skipping, self._skip_depth = tag, 1
        elif tag in _HEADINGS:
            self._begin("heading", _HEADINGS[tag])
        elif tag == "br":
            self._text.append("\n")
        elif tag in ("ul", "ol"):
            self.flush()
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self.flush()
            if self._lists and (count := self._lists[-1]) is not None:
                self._lists[-1] = count + 1
            self._begins_item = True
        elif tag == "pre":
            self._begin("code", 0)
            self._preformatted += 1
        elif tag == "code" and self._preformatted:
            self._language = (attributes.get("class") or "").partition("language-")[2].partition(" ")[0]
        elif tag in ("table", "tr", "td", "th"):
            self._table_tag(tag, attributes)
        elif tag == "img":
            self._image(attributes)
        elif tag == "title":
            self._in_title = True
        elif tag in _BREAKING:
            self._begin("caption" if tag in ("figcaption", "caption") else "paragraph", 0)

    def handle_endtag(self, tag: str) -> None:
        if self.skipping:
            self._skip_depth -= tag == self.skipping
            if not self._skip_depth:
                self.skipping = ""
        elif tag == "title":
            self._in_title = False
        elif tag in ("ul", "ol") and self._lists:
            self.flush()
            self._lists.pop()
            if not self._lists:
                self.end_lists()
        elif tag == "pre" and self._preformatted:
            self.flush()
            self._preformatted -= 1
        elif tag in ("td", "th", "tr"):
            self._end_cell()
        elif tag == "table" and self._tables:
            self._end_cell()
            self._end_table()
        elif tag in _BREAKING or tag in _HEADINGS or tag == "li":
            self.flush()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data[:500]
        elif not self.skipping:
            self._text.append(data if self._preformatted else _SPACE.sub(" ", data))

    def flush(self) -> None:
        """What was gathered is a block, or goes into the list or cell that is open."""
        text, self._text = "".join(self._text), []
        kind, level, self._kind, self._level = self._kind, self._level, "paragraph", 0
        if self._in_cell:
            self._text = [text, " "] if text.strip() else []
        elif kind == "code":
            language, self._language = self._language, ""
            if text.strip():
                self.end_lists(keep=True)
                self.composer.add("code", f"```{language}\n{text.strip(chr(10))}\n```", name=language)
        elif text := _SPACE_AT_BREAK.sub("\n", text.replace("\xa0", " ")).strip():
            if kind == "heading":
                text = text.replace("\n", " ")
                self.end_lists(keep=True)
                self.composer.add(kind, f"{'#' * level} {text}", level=level)
            elif self._lists:
                self._add_item(text)
            else:
                self.composer.add(kind, text)

    def end_lists(self, *, keep: bool = False) -> None:
        """Add the list that was gathered; `keep` when its elements are still open."""
        items, self._items = self._items, []
        self.composer.add("list", "\n".join(items))
        if not keep:
            self._lists.clear()

    def end_tables(self) -> None:
        """Tables that the page did not end."""
        self._end_cell()
        while self._tables:
            self._end_table()

    def _begin(self, kind: BlockKind, level: int) -> None:
        if self._in_cell and kind == "heading":
            self._make_layout()
        self.flush()
        self._kind, self._level = kind, level

    def _add_item(self, text: str) -> None:
        count = self._lists[-1]
        mark = "  " if not self._begins_item else "- " if count is None else f"{count}. "
        self._begins_item = False
        indent = "  " * (min(len(self._lists), 10) - 1)
        self._items.append(indent + mark + text.replace("\n", f"\n{indent}  "))

    def _image(self, attributes: dict[str, str | None]) -> None:
        alternative = (attributes.get("alt") or "").strip()
        if alternative and not self.skipping:
            self._text.append(f" {alternative} ")

    def _table_tag(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "table":
            if self._tables:
                self._make_layout()
            self.flush()
            self.end_lists(keep=True)
            self._tables.append(_Table())
            return
        if not self._tables:
            self.flush()
            return
        self._end_cell()
        table = self._tables[-1]
        if tag == "tr":
            table.begin_row()
        else:
            table.begin_cell(_span(attributes.get("colspan")), _span(attributes.get("rowspan")))
            self._in_cell = not table.is_layout

    def _end_cell(self) -> None:
        if self._in_cell:
            self.flush()
            self._in_cell = False
            self._tables[-1].end_cell("".join(self._text).strip())
            self._text = []
        elif self._tables:
            self.flush()

    def _make_layout(self) -> None:
        """Cells of the innermost table are no table after all: what it held so far are paragraphs."""
        table = self._tables[-1]
        self._in_cell = False
        waiting, self._text = self._text, []
        for row in table.rows:
            for cell in row:
                self.composer.add("paragraph", cell)
        table.rows.clear()
        table.is_layout = True
        self._text = waiting
        self.flush()

    def _end_table(self) -> None:
        table = self._tables.pop()
        for row in table.rows:
            table.fill(row)
        if max(map(len, table.rows), default=0) > 1:
            self.composer.add("table", markdown_table(table.rows))
        else:
            for row in table.rows:
                self.composer.add("paragraph", row[0] if row else "")


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
    )


def _span(value: str | None) -> int:
    return max(1, min(int(value), _MAX_SPAN)) if value and len(value) < 6 and value.isdecimal() else 1
