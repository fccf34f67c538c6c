"""Word files: headings by style, lists by numbering, tables, footnotes; what was deleted is not text.

A paragraph of the body is read when it ends and then forgotten, so the tree of a long file never stands in
memory.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from cairn.data.parsing.archive import Archive, attribute, local, properties
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParsingStoppedError
from cairn.data.parsing.tables import markdown_table

_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# Deleted and moved text, field codes, and the second copy of a shape for older programs.
_LEFT_OUT = frozenset(["del", "moveFrom", "instrText", "Fallback", "pPr", "rPr", "delText", "sectPr"])
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_MAX_LEVELS = 9


def parse_docx(data: bytes, name: str, composer: Composer) -> None:
    """The body of a Word file, then its footnotes."""
    details: dict[str, str] = {}
    try:
        archive = Archive(data, composer.limits, composer.deadline)
        details = properties(archive)
        main = next(
            (path for kind, path in archive.links("").values() if kind == "officeDocument"),
            "word/document.xml",
        )
        _Word(archive, main, composer).compose()
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    title = details.pop("title", "")
    composer.finish(_MEDIA_TYPE, title or composer.first_heading, details)


@dataclass(slots=True)
class _Style:
    level: int = 0
    """Of a heading."""
    numbering: str = ""
    base: str = ""


@dataclass(slots=True)
class _Word:
    archive: Archive
    main: str
    composer: Composer
    styles: dict[str, _Style] = field(default_factory=dict)
    ordered: dict[tuple[str, int], bool] = field(default_factory=dict)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    items: list[str] = field(default_factory=list)

    def compose(self) -> None:
        links = dict(self.archive.links(self.main).values())
        self.styles = _styles(self.archive.tree(links.get("styles", "")))
        self.ordered = _numberings(self.archive.tree(links.get("numbering", "")))
        self.composer.begin_page()
        num_pictures = self._body(self.main, "body")
        for notes in ("footnotes", "endnotes"):
            if notes in links:
                num_pictures += self._body(links[notes], notes)
        if num_pictures and not self.composer.has_text:
            message = "pictures without text; text in them is not recognised"
            self.composer.problem("image_only", message, confidence=0.0)

    def _body(self, part: str, container: str) -> int:
        """Blocks of a part, and the number of its pictures."""
        num_pictures = 0
        path: list[str] = []
        for event, element in self.archive.events(part):
            if event == "start":
                path.append(local(element))
                continue
            name = path.pop()
            num_pictures += name == "blip"
            # A paragraph or table that stands for itself, not inside another.
            if name in ("p", "tbl") and not {"p", "tbl"} & set(path) and container in path:
                self._table(element) if name == "tbl" else self._paragraph(element)
                element.clear()
        self._end_list()
        return num_pictures

    def _paragraph(self, element: Element) -> None:
        shaped = element.find("{*}pPr")
        style, numbering, depth = self._shape(shaped)
        text = _text(element).strip()
        if not text:
            return
        if style.level:
            self._end_list()
            line = " ".join(text.split())
            self.composer.add("heading", f"{'#' * min(style.level, 6)} {line}", level=style.level)
        elif numbering:
            self._item(text, numbering, depth)
        else:
            self._end_list()
            self.composer.add("paragraph", text)

    def _shape(self, shaped: Element | None) -> tuple[_Style, str, int]:
        """Style, number of the list and depth in it."""
        if shaped is None:
            return _Style(), "", 0
        named = shaped.find("{*}pStyle")
        style = self.styles.get(attribute(named, "val"), _Style()) if named is not None else _Style()
        outline = shaped.find("{*}outlineLvl")
        if (
            outline is not None
            and attribute(outline, "val").isdecimal()
            and int(attribute(outline, "val")[:3]) < 9
        ):
            style = _Style(int(attribute(outline, "val")[:3]) + 1)
        number, level = shaped.find("{*}numPr/{*}numId"), shaped.find("{*}numPr/{*}ilvl")
        numbering = attribute(number, "val") if number is not None else style.numbering
        depth = attribute(level, "val") if level is not None else "0"
        return style, "" if numbering == "0" else numbering, min(_number(depth), _MAX_LEVELS)

    def _item(self, text: str, numbering: str, depth: int) -> None:
        self.counts[numbering, depth] += 1
        for deeper in range(depth + 1, _MAX_LEVELS + 1):
            self.counts.pop((numbering, deeper), None)
        is_ordered = self.ordered.get((numbering, depth), False)
        mark = f"{self.counts[numbering, depth]}." if is_ordered else "-"
        indent = "  " * depth
        self.items.append(f"{indent}{mark} " + text.replace("\n", f"\n{indent}  "))

    def _end_list(self) -> None:
        self.composer.add("list", "\n".join(self.items))
        self.items.clear()

    def _table(self, table: Element) -> None:
        self._end_list()
        rows: list[list[str]] = []
        for row in table.findall("{*}tr"):
            cells: list[str] = []
            for cell in row.iterfind(".//{*}tc"):
                text = " ".join(
                    filter(None, (_text(part).strip() for part in cell.iter() if local(part) == "p"))
                )
                merge = cell.find("{*}tcPr/{*}vMerge")
                # Each row can be read alone: what reaches down stands in all of them.
                if (
                    merge is not None
                    and attribute(merge, "val") != "restart"
                    and rows
                    and len(rows[-1]) > len(cells)
                ):
                    text = text or rows[-1][len(cells)]
                span = cell.find("{*}tcPr/{*}gridSpan")
                cells += [text] + [""] * (
                    min(_number(attribute(span, "val")), 64) - 1 if span is not None else 0
                )
            rows.append(cells)
        if max(map(len, rows), default=0) == 1:
            for cells in rows:
                self.composer.add("paragraph", cells[0] if cells else "")
        else:
            self.composer.add("table", markdown_table(rows))


def _text(element: Element) -> str:
    return "".join(_pieces(element))


def _pieces(element: Element) -> Iterator[str]:
    for child in element:
        name = local(child)
        if name in _LEFT_OUT:
            continue
        if name == "t":
            yield child.text or ""
        elif name in _SIGNS:
            yield _SIGNS[name]
        elif name == "docPr":
            alternative = " ".join(child.get("descr", "").split())
            yield f"[{alternative}]" if alternative else ""
        elif name == "p":
            yield "\n"
            yield from _pieces(child)
        else:
            yield from _pieces(child)


def _styles(root: Element) -> dict[str, _Style]:
    found = {}
    for style in root.findall("{*}style"):
        entry = _Style()
        name, outline = style.find("{*}name"), style.find("{*}pPr/{*}outlineLvl")
        words = attribute(name, "val").lower().split() if name is not None else []
        if outline is not None and _number(attribute(outline, "val")) < _MAX_LEVELS:
            entry.level = _number(attribute(outline, "val")) + 1
        elif len(words) == 2 and words[0] == "heading":
            entry.level = _number(words[1])
        elif words == ["title"]:
            entry.level = 1
        number, base = style.find("{*}pPr/{*}numPr/{*}numId"), style.find("{*}basedOn")
        entry.numbering = attribute(number, "val") if number is not None else ""
        entry.base = attribute(base, "val") if base is not None else ""
        found[attribute(style, "styleId")] = entry
    return {name: _inherited(entry, found) for name, entry in found.items()}


def _inherited(style: _Style, styles: Mapping[str, _Style]) -> _Style:
    """A style with what it takes from those it is based on."""
    level, numbering, base = style.level, style.numbering, style.base
    for _ in range(10):
        if base not in styles:
            break
        level, numbering = level or styles[base].level, numbering or styles[base].numbering
        base = styles[base].base
    return _Style(level, numbering)


def _numberings(root: Element) -> dict[tuple[str, int], bool]:
    """Whether the items of a list are numbered, by the list's number and the depth."""
    kinds = {}
    for abstract in root.findall("{*}abstractNum"):
        levels = {}
        for level in abstract.findall("{*}lvl"):
            shape = level.find("{*}numFmt")
            shaped = attribute(shape, "val") if shape is not None else ""
            levels[_number(attribute(level, "ilvl"))] = shaped not in ("", "bullet", "none")
        kinds[attribute(abstract, "abstractNumId")] = levels
    found = {}
    for number in root.findall("{*}num"):
        named = number.find("{*}abstractNumId")
        for depth, is_ordered in kinds.get(attribute(named, "val") if named is not None else "", {}).items():
            found[attribute(number, "numId"), depth] = is_ordered
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
