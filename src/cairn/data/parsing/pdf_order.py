"""Reading order of a page: columns one after the other, and in each of them rows from top to bottom.

A gutter is an edge at which many lines begin, with lines that end before it and, over some height, none that
crosses it. What crosses it above or below (a title over two columns) is read before or after. Short texts
beside each other are no columns: those may be cells of a table, and stay in one row.
"""

from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import fmean, median

from cairn.data.parsing.pdf_page import Segment

_LEAST_LINES = 3
_LEAST_LETTERS = 16
"""Mean letters of a line in a column of running text."""
_MAX_DEPTH = 4


@dataclass(slots=True)
class Row:
    """What stands on one line of a column, from left to right."""

    segments: list[Segment]

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def left(self) -> float:
        return self.segments[0].left

    @property
    def right(self) -> float:
        return max(segment.right for segment in self.segments)

    @property
    def middle(self) -> float:
        return self.segments[0].middle

    @property
    def size(self) -> float:
        return self.segments[0].size

    @property
    def is_bold(self) -> bool:
        return all(segment.is_bold for segment in self.segments)

    @property
    def is_table(self) -> bool:
        return self.segments[0].is_table

    @property
    def goes_on(self) -> bool:
        return self.segments[-1].goes_on


def reading_order(segments: list[Segment]) -> list[list[Row]]:
    """The rows of each region of the page, regions in order; text that stands sideways comes last."""
    upright = [segment for segment in segments if not _is_sideways(segment)]
    sideways = [segment for segment in segments if _is_sideways(segment)]
    regions = [rows_of(region) for region in _regions(upright, 0)]
    # Where it was drawn is the only order that sideways lines have here.
    return [*regions, [Row([segment]) for segment in sideways]]


def rows_of(segments: list[Segment]) -> list[Row]:
    """Segments at the same height are a row."""
    rows: list[Row] = []
    for segment in sorted(segments, key=lambda segment: segment.middle):
        near = rows and segment.middle - rows[-1].middle < 0.5 * min(segment.size, rows[-1].size)
        if near and not segment.is_table and not rows[-1].is_table:
            rows[-1].segments.append(segment)
        else:
            rows.append(Row([segment]))
    for row in rows:
        row.segments.sort(key=lambda segment: segment.left)
    return rows


def _is_sideways(segment: Segment) -> bool:
    height = segment.bottom - segment.top
    return height > 2.5 * segment.size and height > 2 * (segment.right - segment.left)


def _regions(segments: list[Segment], depth: int) -> list[list[Segment]]:
    parts = _cut(segments) if depth < _MAX_DEPTH and len(segments) >= 2 * _LEAST_LINES else None
    if parts is None:
        return [segments] if segments else []
    return [region for part in parts for region in _regions(part, depth + 1)]


def _cut(segments: list[Segment]) -> tuple[list[Segment], ...] | None:
    """Above, left, right and below the best gutter; None where there is none."""
    gap = 0.7 * median(segment.size for segment in segments)
    outer = min(segment.left for segment in segments)
    edges = Counter(round(segment.left) for segment in segments)
    best: tuple[list[Segment], ...] | None = None
    best_score = 0
    for edge, count in edges.most_common(8):
        if edge < outer + 4 * gap or count + edges[edge - 1] + edges[edge + 1] < _LEAST_LINES:
            continue
        crossing = sorted(s.middle for s in segments if s.left < edge - 1.5 and s.right > edge - gap)
        # Between two lines that cross the edge, what stands on either side of it.
        lefts: defaultdict[int, list[Segment]] = defaultdict(list)
        rights: defaultdict[int, list[Segment]] = defaultdict(list)
        for segment in segments:
            if segment.left >= edge - 1.5:
                rights[bisect(crossing, segment.middle)].append(segment)
            elif segment.right <= edge - gap:
                lefts[bisect(crossing, segment.middle)].append(segment)
        for band, left in lefts.items():
            right = rights[band]
            score = min(len(left), len(right))
            if score > best_score and _is_text(left) and _is_text(right) and _overlap(left, right):
                bounds = [-1e9, *crossing, 1e9]
                above = [s for s in segments if s.middle <= bounds[band]]
                taken = set(map(id, above + left + right))
                below = [s for s in segments if id(s) not in taken]
                best, best_score = (above, left, right, below), score
    return best


def _is_text(column: list[Segment]) -> bool:
    """Lines of running text: several, long, and most of them as wide as the column."""
    if len(column) < _LEAST_LINES or fmean(len(s.text) for s in column) < _LEAST_LETTERS:
        return False
    width = max(s.right for s in column) - min(s.left for s in column)
    return sum(s.right - s.left > 0.6 * width for s in column) > 0.5 * len(column)


def _overlap(left: list[Segment], right: list[Segment]) -> bool:
    (top, bottom), (other_top, other_bottom) = (
        (min(s.top for s in column), max(s.bottom for s in column)) for column in (left, right)
    )
    shared = min(bottom, other_bottom) - max(top, other_top)
    return shared > 0.3 * min(bottom - top, other_bottom - other_top)
