"""What stands on a PDF page and where: runs of text, ruled lines, pictures. Read through PDFium.

PDFium gives a page's text in lines and, for a line, one rectangle a run of glyphs. Asking for each glyph
would cost ten times as much in Python, so that is done only for lines with a gap in them, which may be two
columns or cells. Coordinates are points from the top left of the page as it is shown.
"""

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from cairn.data.parsing.limits import ParsingStoppedError

_MAX_CHARACTERS = 1_000_000
_MAX_OBJECTS = 20_000
_MAP_SAMPLES = 200
HYPHEN = "\ufffe"
"""PDFium's sign for a word that goes on in the next line."""
Box = tuple[float, float, float, float]
_THIN = 3.0
"""Points: a path no thicker is a ruled line."""
SHORTEST_LINE = 8.0
MAX_LINES = 600
"""Ruled lines upright or across, above which they are a drawing and no tables."""
_GAP = 0.7
"""Of the text's height: a wider gap within a line may separate columns or cells."""


@dataclass(slots=True)
class Segment:
    """A run of text on one line."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    """Height of its glyphs' boxes, a little more than the font's size."""
    is_bold: bool
    goes_on: bool = False
    """Ends within a word."""
    characters: tuple[int, int] = (0, 0)
    is_table: bool = False
    """Stands for a whole table; its text is Markdown."""

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(slots=True)
class PageContent:
    """Everything that was found on a page."""

    width: float
    height: float
    segments: list[Segment]
    horizontals: list[tuple[float, float, float]] = field(default_factory=list)
    """Ruled lines: y, from x, to x."""
    verticals: list[tuple[float, float, float]] = field(default_factory=list)
    """x, from y, to y."""
    image_share: float = 0.0
    """Of the page's area that pictures cover."""
    num_unmapped: int = 0
    """Glyphs, by a sample, for which the font has no letters."""


class PageReader:
    """Reads one page after the other with the same buffers."""

    def __init__(self) -> None:
        self._left, self._top, self._right, self._bottom = (ctypes.c_double() for _ in range(4))
        self._corners = tuple(map(ctypes.byref, (self._left, self._top, self._right, self._bottom)))
        # FPDFText_GetCharBox hands out left, right, bottom, top.
        self._box = tuple(map(ctypes.byref, (self._left, self._right, self._bottom, self._top)))
        self._loose = raw.FS_RECTF()
        self._font = ctypes.create_string_buffer(128)
        self._flags = ctypes.c_int()
        self._bounds = tuple(ctypes.c_float() for _ in range(4))
        self._show = _Turned((0.0, 0.0, 0.0, 0.0), 0)

    def read(self, page: pdfium.PdfPage) -> PageContent:
        """All of a page. The text page is closed before this returns."""
        self._show = _Turned(page.get_bbox(), page.get_rotation())
        text_page = page.get_textpage()
        try:
            count = raw.FPDFText_CountChars(text_page)
            if count > _MAX_CHARACTERS:
                raise ParsingStoppedError("too_large", f"a page of {count:,} characters")
            content = PageContent(*self._show.size, [])
            if count > 0:
                content.segments = list(self._segments(text_page, count))
                content.num_unmapped = _count_unmapped(text_page, count)
            self._objects(page, content)
            if 0 < len(content.verticals) <= MAX_LINES:
                content.segments = list(self._cut_at_lines(text_page, content))
        finally:
            text_page.close()
        return content

    def _cut_at_lines(self, text_page: pdfium.PdfTextPage, content: PageContent) -> Iterator[Segment]:
        """The same segments; one that runs over a ruled line upright is two cells."""
        upright = {line for line in content.verticals if line[2] - line[1] >= SHORTEST_LINE}
        for segment in content.segments:
            cuts = [
                x
                for x, top, bottom in upright
                if segment.left + _THIN < x < segment.right - _THIN and top <= segment.middle <= bottom
            ]
            if cuts:
                yield from self._split(text_page, "", segment.characters, segment.size, segment.is_bold, cuts)
            else:
                yield segment

    def _segments(self, text_page: pdfium.PdfTextPage, count: int) -> Iterator[Segment]:
        buffer = (ctypes.c_ushort * (count + 1))()
        units = raw.FPDFText_GetText(text_page, 0, count, buffer) - 1
        text = bytes(buffer)[: 2 * units].decode("utf-16-le", "replace")
        # Positions in the text are those of the characters, but where some have no letters at all.
        is_even = units == count and len(text) == units
        position = 0
        for line in text.split("\r\n"):
            parts = line.split(HYPHEN)
            for number, part in enumerate(parts, start=1):
                length = len(part) if is_even else len(part.encode("utf-16-le", "surrogatepass")) // 2
                start, end = position, position + length
                position = end + 1
                if not is_even:
                    start = raw.FPDFText_GetCharIndexFromTextIndex(text_page, start)
                    end = raw.FPDFText_GetCharIndexFromTextIndex(text_page, end)
                    end = count if end < 0 else end
                if part and not part.isspace() and 0 <= start < end:
                    segments = self._line(text_page, part, start, end)
                    if segments and number < len(parts):
                        segments[-1].goes_on = True
                    yield from segments
            position += 1

    def _line(self, text_page: pdfium.PdfTextPage, text: str, start: int, end: int) -> list[Segment]:
        """A line's segments: one, but where there is a gap or a jump in it."""
        first = start
        while first < end - 1 and text[min(first - start, len(text) - 1)].isspace():
            first += 1
        raw.FPDFText_GetLooseCharBox(text_page, first, self._loose)
        box = self._loose
        _, top, _, bottom = self._show(box.left, box.top, box.right, box.bottom)
        size = max(bottom - top, 1.0)
        rectangles = []
        for at in range(raw.FPDFText_CountRects(text_page, start, end - start)):
            raw.FPDFText_GetRect(text_page, at, *self._corners)
            rectangles.append(self._shown())
        if not rectangles:
            return []
        is_bold = self._is_bold(text_page, first) and self._is_bold(text_page, end - 1)
        if _is_broken(rectangles, size, len(text)):
            return self._split(text_page, text, (start, end), size, is_bold)
        lefts, tops, rights, bottoms = zip(*rectangles, strict=True)
        box = (min(lefts), min(tops), max(rights), max(bottoms))
        return [Segment(text.strip(), *box, size, is_bold, characters=(start, end))]

    def _split(
        self,
        text_page: pdfium.PdfTextPage,
        text: str,
        span: tuple[int, int],
        size: float,
        is_bold: bool,
        cuts: Sequence[float] = (),
    ) -> list[Segment]:
        """A line glyph by glyph, cut at wide gaps and jumps, and at given places."""
        found: list[Segment] = []
        is_even = len(text) == span[1] - span[0]
        pending, before = "", math.inf
        for at in range(*span):
            letter = text[at - span[0]] if is_even else chr(raw.FPDFText_GetUnicode(text_page, at))
            if letter.isspace() or letter == "\0":
                pending = " "
                continue
            raw.FPDFText_GetCharBox(text_page, at, *self._box)
            left, top, right, bottom = self._shown()
            last = found[-1] if found else None
            middle = (left + right) / 2
            is_cut, before = any(before < x < middle for x in cuts), middle
            if last is None or is_cut or _is_apart(last, left, top, right, bottom, size):
                box = (left, top, right, bottom)
                found.append(Segment(letter, *box, size, is_bold, characters=(at, at + 1)))
            else:
                last.text += pending + letter
                last.left, last.right = min(last.left, left), max(last.right, right)
                last.top, last.bottom = min(last.top, top), max(last.bottom, bottom)
                last.characters = (last.characters[0], at + 1)
            pending = ""
        return found

    def _shown(self) -> Box:
        return self._show(self._left.value, self._top.value, self._right.value, self._bottom.value)

    def _is_bold(self, text_page: pdfium.PdfTextPage, at: int) -> bool:
        length = raw.FPDFText_GetFontInfo(text_page, at, self._font, len(self._font), self._flags)
        name = self._font.raw[: min(length, len(self._font))].lower()
        return b"bold" in name or b"black" in name or b"cmbx" in name or b"heavy" in name

    def _objects(self, page: pdfium.PdfPage, content: PageContent) -> None:
        """Ruled lines and the share of pictures."""
        area = 0.0
        for at in range(min(raw.FPDFPage_CountObjects(page), _MAX_OBJECTS)):
            item = raw.FPDFPage_GetObject(page, at)
            kind = raw.FPDFPageObj_GetType(item)
            if kind == raw.FPDF_PAGEOBJ_TEXT:
                continue
            left, top, right, bottom = self._object_box(item)
            if kind == raw.FPDF_PAGEOBJ_PATH:
                _add_rules(content, left, top, right, bottom)
            elif kind == raw.FPDF_PAGEOBJ_IMAGE or (kind == raw.FPDF_PAGEOBJ_FORM and not content.segments):
                area += max(0.0, right - left) * max(0.0, bottom - top)
        content.image_share = min(1.0, area / max(1.0, content.width * content.height))

    def _object_box(self, item: raw.FPDF_PAGEOBJECT) -> Box:
        left, bottom, right, top = self._bounds
        if not raw.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            return 0.0, 0.0, 0.0, 0.0
        return self._show(left.value, top.value, right.value, bottom.value)


class _Turned:
    """From a page's own coordinates to those of the page as it is shown."""

    def __init__(self, box: Box, rotation: int) -> None:
        left, bottom, right, top = self._box = box
        self.quarter = rotation // 90 % 4
        width, height = right - left, top - bottom
        self.size = (height, width) if self.quarter % 2 else (width, height)

    def __call__(self, left: float, top: float, right: float, bottom: float) -> Box:
        start_x, start_y, end_x, end_y = self._box
        if self.quarter == 0:
            return left - start_x, end_y - top, right - start_x, end_y - bottom
        if self.quarter == 1:
            return bottom - start_y, left - start_x, top - start_y, right - start_x
        if self.quarter == 2:
            return end_x - right, bottom - start_y, end_x - left, top - start_y
        return end_y - top, end_x - right, end_y - bottom, end_x - left


def _is_broken(rectangles: list[Box], size: float, length: int) -> bool:
    """Whether a line has a wide gap between two runs, a jump, or a run too wide for its letters."""
    for before, after in pairwise(rectangles):
        if max(after[0] - before[2], before[0] - after[2]) > _GAP * size:
            return True
        if abs(after[1] + after[3] - before[1] - before[3]) > 2 * size:
            return True
    return sum(r[2] - r[0] for r in rectangles) > 0.75 * size * length


def _is_apart(last: Segment, left: float, top: float, right: float, bottom: float, size: float) -> bool:
    gap = max(left - last.right, last.left - right)
    return gap > _GAP * size or abs((top + bottom) / 2 - last.middle) > size


def _add_rules(content: PageContent, left: float, top: float, right: float, bottom: float) -> None:
    """A thin path is a line, a larger one (a cell's frame or shade) has four edges."""
    if bottom - top <= _THIN < right - left:
        content.horizontals.append(((top + bottom) / 2, left, right))
    elif right - left <= _THIN < bottom - top:
        content.verticals.append(((left + right) / 2, top, bottom))
    elif right - left > _THIN and bottom - top > _THIN:
        content.horizontals += [(top, left, right), (bottom, left, right)]
        content.verticals += [(left, top, bottom), (right, top, bottom)]


def _count_unmapped(text_page: pdfium.PdfTextPage, count: int) -> int:
    stride = max(1, count // _MAP_SAMPLES)
    samples = range(0, count, stride)
    return stride * sum(bool(raw.FPDFText_HasUnicodeMapError(text_page, at) == 1) for at in samples)
