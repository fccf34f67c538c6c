"""PowerPoint files: a page for each slide, its title first, then what is on it from top to bottom."""

from collections.abc import Iterator
from itertools import zip_longest
from xml.etree.ElementTree import Element

from cairn.data.parsing.archive import Archive, attribute, local, properties
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParsingStoppedError
from cairn.data.parsing.tables import markdown_table

_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_TITLES = ("title", "ctrTitle")
_FURNITURE = ("dt", "ftr", "sldNum")
"""Date, footer and number of a slide: the same on all of them."""
_SHAPES = ("sp", "graphicFrame", "pic", "cxnSp")


def parse_pptx(data: bytes, name: str, composer: Composer) -> None:
    """Titles, texts, tables and speaker's notes of every slide."""
    details: dict[str, str] = {}
    try:
        archive = Archive(data, composer.limits, composer.deadline)
        details = properties(archive)
        for path in _slides(archive):
            composer.begin_page()
            _slide(archive, path, composer)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    title = details.pop("title", "")
    if title.lower() in ("", "powerpoint presentation"):
        title = composer.first_heading
    composer.finish(_MEDIA_TYPE, title, details)


def _slides(archive: Archive) -> Iterator[str]:
    links = archive.links("").values()
    main = next((path for kind, path in links if kind == "officeDocument"), "ppt/presentation.xml")
    parts = archive.links(main)
    for slide in archive.tree(main).findall("{*}sldIdLst/{*}sldId"):
        # Its own `id` is a number; the relation's has a namespace.
        for key, value in slide.attrib.items():
            if key.endswith("}id") and value in parts:
                yield parts[value][1]


def _slide(archive: Archive, path: str, composer: Composer) -> None:
    links = archive.links(path)
    shapes = [shape for shape in archive.tree(path).iter() if local(shape) in _SHAPES]
    shapes.sort(key=lambda shape: (_role(shape) not in _TITLES, *_place(shape)))
    num_pictures = 0
    for shape in shapes:
        role = _role(shape)
        num_pictures += local(shape) == "pic"
        if role in _TITLES:
            title = " ".join(" ".join(_paragraphs(shape)).split())
            composer.add("heading", f"# {title}" if title else "", level=1, name=title)
        elif local(shape) == "graphicFrame":
            _frame(archive, shape, links, composer)
        elif role not in _FURNITURE:
            _text(shape, composer)
    if num_pictures and not composer.has_text:
        message = "pictures without text; text in them is not recognised"
        composer.problem("image_only", message, confidence=0.0)
    for kind, part in links.values():
        if kind == "notesSlide":
            for shape in archive.tree(part).iter():
                if local(shape) == "sp" and _role(shape) == "body":
                    composer.add("paragraph", "\n".join(_paragraphs(shape)), name="notes")


def _text(shape: Element, composer: Composer) -> None:
    """A shape's paragraphs: a list where there are several or they are indented."""
    body = next((part for part in shape.iter() if local(part) == "txBody"), None)
    lines = []
    for paragraph in body if body is not None else ():
        text = " ".join(_run(paragraph).split())
        if local(paragraph) == "p" and text:
            shaped = paragraph.find("{*}pPr")
            level = attribute(shaped, "lvl") if shaped is not None else "0"
            lines.append((int(level) if level in "123456789" and level else 0, text))
    if len(lines) > 1:
        composer.add("list", "\n".join(f"{'  ' * level}- {text}" for level, text in lines))
    else:
        composer.add("paragraph", "".join(text for _, text in lines))
    for part in shape.iter():
        if local(part) == "cNvPr" and local(shape) == "pic":
            composer.add("image", part.get("descr", ""))


def _frame(archive: Archive, frame: Element, links: dict[str, tuple[str, str]], composer: Composer) -> None:
    """A table, or the words of a diagram; a chart is told to be lost."""
    for part in frame.iter():
        name = local(part)
        if name == "tbl":
            rows = [
                [" ".join(_paragraphs(cell)) for cell in row.findall("{*}tc")]
                for row in part.findall("{*}tr")
            ]
            composer.add("table", markdown_table(rows))
        elif name == "relIds":
            kind, path = links.get(attribute(part, "dm"), ("", ""))
            if kind == "diagramData":
                words = [_run(point) for point in archive.tree(path).iter() if local(point) == "p"]
                composer.add("list", "\n".join(f"- {word.strip()}" for word in words if word.strip()))
        elif name == "chart":
            rows = _chart(archive.tree(links.get(attribute(part, "id"), ("", ""))[1]))
            composer.add("table", markdown_table(rows))
            if len(rows) < 2:
                composer.problem("lost_table", "a chart keeps no numbers that could be read")


def _chart(chart: Element) -> list[list[str]]:
    """The numbers that a chart keeps of its sheet: a row for each category, a column for each series."""
    columns = [[""]]
    for series in chart.iter():
        if local(series) == "ser":
            names, values = (
                [v.text or "" for v in series.iterfind(f"{{*}}{part}//{{*}}pt/{{*}}v")]
                for part in ("cat", "val")
            )
            title = " ".join(v.text or "" for v in series.iterfind("{*}tx//{*}v"))
            columns = columns if len(columns) > 1 else [["", *names]]
            columns.append([title, *values])
    return [list(row) for row in zip_longest(*columns, fillvalue="")]


def _paragraphs(element: Element) -> list[str]:
    texts = (_run(part) for part in element.iter() if local(part) == "p")
    return [text.strip() for text in texts if text.strip()]


def _run(paragraph: Element) -> str:
    return "".join(
        (part.text or "") if local(part) == "t" else "\n"
        for part in paragraph.iter()
        if local(part) in ("t", "br")
    )


def _role(shape: Element) -> str:
    for part in shape.iter():
        if local(part) == "ph":
            return part.get("type", "")
    return ""


def _place(shape: Element) -> tuple[int, int]:
    """Top and left; what has no place of its own takes that of its layout, high on the slide."""
    for part in shape.iter():
        if local(part) == "off":
            y, x = part.get("y", ""), part.get("x", "")
            # Shapes on one line need not stand on it to the last hair: a band is a quarter of an inch.
            return (int(y[:12]) // 228_600 if y.isdecimal() else 0, int(x[:12]) if x.isdecimal() else 0)
    return (0, 0)
