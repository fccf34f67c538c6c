"""Excel files: a page for each sheet, a table for each run of rows without a blank one between.

Only cells that are there are held, so a sheet's stated size costs nothing. A long table is cut into several,
each with the first row as its header.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from cairn.data.parsing.archive import Archive, attribute, local, properties
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParsingStoppedError
from cairn.data.parsing.tables import markdown_table

_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MAX_ROWS = 1000
_MAX_LETTERS = 100_000
_MAX_CELL = 32_767
"""Characters Excel itself allows."""
_DATES = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
"""Numbers of the built-in formats of dates and times."""
_LITERAL = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.')
_COLUMN = re.compile(r"[A-Z]{1,3}")
_EPOCH = datetime(1899, 12, 30)
_EPOCH_1904 = datetime(1904, 1, 1)


def parse_xlsx(data: bytes, name: str, composer: Composer) -> None:
    """The values of every sheet, as their formats show dates and percentages."""
    details: dict[str, str] = {}
    try:
        archive = Archive(data, composer.limits, composer.deadline)
        details = properties(archive)
        _Workbook(archive, composer).compose()
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    composer.finish(_MEDIA_TYPE, details.pop("title", ""), details)


class _Workbook:
    def __init__(self, archive: Archive, composer: Composer) -> None:
        self.archive = archive
        self.composer = composer
        links = archive.links("").values()
        self.main = next((path for kind, path in links if kind == "officeDocument"), "xl/workbook.xml")
        self.links = archive.links(self.main)
        parts = dict(self.links.values())
        self.strings = list(_strings(archive, parts.get("sharedStrings", "")))
        self.formats = _formats(archive.tree(parts.get("styles", "")))
        self.epoch = _EPOCH

    def compose(self) -> None:
        book = self.archive.tree(self.main)
        shape = book.find("{*}workbookPr")
        if shape is not None and shape.get("date1904") in ("1", "true"):
            self.epoch = _EPOCH_1904
        for sheet in book.findall("{*}sheets/{*}sheet"):
            kind, path = self.links.get(attribute(sheet, "id"), ("", ""))
            if kind == "worksheet":
                self.composer.begin_page()
                self._sheet(path, sheet.get("name", ""))
            elif kind == "chartsheet":
                self.composer.begin_page()
                self.composer.problem(
                    "lost_table", f"the chart {sheet.get('name')} was not read", confidence=0.0
                )

    def _sheet(self, path: str, name: str) -> None:
        pending: list[dict[int, str]] = []
        header: dict[int, str] = {}
        expected = size = 0
        self.composer.add("heading", f"# {name}", level=1, name=name)
        for event, element in self.archive.events(path):
            if event != "end" or local(element) != "row":
                continue
            row = self._row(element)
            number = int(element.get("r", "0")[:7] or 0) if element.get("r", "0").isdecimal() else 0
            element.clear()
            if pending and (not row or (number and number != expected)):
                self._table(header, pending, name)
                header, pending, size = {}, [], 0
            expected = number + 1
            if not row:
                continue
            header = header or row
            pending.append(row)
            size += sum(map(len, row.values()))
            if len(pending) == _MAX_ROWS or size > _MAX_LETTERS:
                self._table(header, pending, name)
                pending, size = [], 0
        self._table(header, pending, name)

    def _row(self, row: Element) -> dict[int, str]:
        """Texts by column; empty cells are not there."""
        cells: dict[int, str] = {}
        at = -1
        for cell in row:
            if local(cell) != "c":
                continue
            letters = _COLUMN.match(cell.get("r", ""))
            at = _column(letters[0]) if letters else at + 1
            text = self._value(cell).strip()
            if text:
                cells[at] = text[:_MAX_CELL]
        return cells

    def _value(self, cell: Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return "".join(part.text or "" for part in cell.iter() if local(part) == "t")
        value = cell.find("{*}v")
        text = (value.text or "") if value is not None else ""
        if kind == "s":
            return self.strings[int(text)] if text.isdecimal() and int(text[:9]) < len(self.strings) else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(text, text)
        style = cell.get("s", "")
        shape = self.formats[int(style)] if style.isdecimal() and int(style[:6]) < len(self.formats) else ""
        return self._number(text, shape) if kind == "n" and text else text

    def _number(self, text: str, shape: str) -> str:
        try:
            value = float(text)
        except ValueError:
            return text
        if shape == "date" and 0 <= value < 2_958_466:
            moment = self.epoch + timedelta(days=round(value * 86400) / 86400)
            if value < 1:
                return f"{moment:%H:%M:%S}"
            return f"{moment:%Y-%m-%d}" if value == int(value) else f"{moment:%Y-%m-%d %H:%M:%S}"
        return f"{100 * value:.10g}%" if shape == "percent" else f"{value:.15g}"

    def _table(self, header: dict[int, str], rows: Sequence[dict[int, str]], name: str) -> None:
        if not rows:
            return
        shown = rows if rows[0] is header else [header, *rows]
        columns = sorted({at for row in shown for at in row})
        if len(columns) == 1:
            for row in rows:
                self.composer.add("paragraph", row[columns[0]], name=name)
        else:
            self.composer.add(
                "table", markdown_table([[row.get(at, "") for at in columns] for row in shown]), name=name
            )


def _strings(archive: Archive, path: str) -> Iterator[str]:
    """The shared strings, in order; how they are pronounced is left out."""
    text: list[str] = []
    is_spoken = False
    for event, element in archive.events(path):
        name = local(element)
        if name == "rPh":
            is_spoken = event == "start"
        elif event == "end" and name == "t" and not is_spoken:
            text.append(element.text or "")
        elif event == "end" and name == "si":
            yield "".join(text)
            text.clear()
            element.clear()


def _formats(styles: Element) -> list[str]:
    """For each cell format whether it shows a `date` or a `percent`."""
    codes = {
        shape.get("numFmtId", ""): _LITERAL.sub("", shape.get("formatCode", "")).lower()
        for shape in styles.findall("{*}numFmts/{*}numFmt")
    }
    found = []
    for cell in styles.findall("{*}cellXfs/{*}xf"):
        number = cell.get("numFmtId", "0")
        code = codes.get(number, "")
        if number in ("9", "10") or "%" in code:
            found.append("percent")
        elif (number.isdecimal() and int(number[:6]) in _DATES and not code) or set("ymdhs") & set(code):
            found.append("date")
        else:
            found.append("")
    return found


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1
