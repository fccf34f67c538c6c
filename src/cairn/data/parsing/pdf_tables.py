"""Tables of a PDF page: by their ruled lines, and without lines by columns that hold over several rows.

A ruled table is a net of crossing lines with two rows and two columns or more that has text in several cells.
One without lines is a run of rows of short texts whose columns never overlap. What looks like a table and
whose columns cannot be told apart stays as text and is reported.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from cairn.data.parsing.pdf_order import Row, rows_of
from cairn.data.parsing.pdf_page import MAX_LINES, SHORTEST_LINE, PageContent, Segment
from cairn.data.parsing.tables import markdown_table

_SNAP = 3.0
"""Points between lines that are one."""
_LEAST_LINES = 3
"""Beside each other, for a ruled row to be several."""
_LONGEST_CELL = 45
_LEAST_FILLED = 0.35


@dataclass(slots=True)
class _Net:
    xs: list[float]
    ys: list[float]


def take_ruled(content: PageContent) -> int:
    """Put one segment in place of all those of each ruled table; the number of tables that were lost."""
    num_lost = 0
    for net in _nets(content):
        left, right, top, bottom = net.xs[0], net.xs[-1], net.ys[0], net.ys[-1]
        inside = [
            segment
            for segment in content.segments
            if left - _SNAP <= (segment.left + segment.right) / 2 <= right + _SNAP
            and top <= segment.middle <= bottom
            and not segment.is_table
        ]
        cells = _cells(net, inside)
        if sum(any(column) for column in zip(*cells, strict=True)) < 2 or sum(map(any, cells)) < 2:
            continue  # a frame around text
        straddling = sum(_straddles(segment, net.xs) for segment in inside)
        if straddling > 0.3 * len(inside):
            num_lost += 1
            continue
        taken = set(map(id, inside))
        size = fmean(segment.size for segment in inside)
        table = Segment(markdown_table(cells), left, top, right, bottom, size, is_bold=False, is_table=True)
        content.segments = [s for s in content.segments if id(s) not in taken] + [table]
    return num_lost


def find_unruled(rows: Sequence[Row]) -> tuple[list[tuple[int, int, str]], int]:
    """Tables among the rows of a region, each from and before a row, and the number of those lost."""
    found: list[tuple[int, int, str]] = []
    num_lost = 0
    at = 0
    while at < len(rows):
        end, columns = _run(rows, at)
        run = rows[at:end]
        if _is_table(run, columns):
            found.append((at, end, markdown_table([_spread(row, columns) for row in run])))
            at = end
        else:
            wide = at
            while wide < len(rows) and len(rows[wide].segments) > 2:
                wide += 1
            num_lost += wide - at > 3
            at = max(at + 1, wide)
    return found, num_lost


def _run(rows: Sequence[Row], start: int) -> tuple[int, list[tuple[float, float]]]:
    """Where a run of rows ends that share columns, and these columns."""
    if len(rows[start].segments) < 2 or rows[start].is_table:
        return start + 1, []
    columns = [(segment.left, segment.right) for segment in rows[start].segments]
    end = last = start + 1
    while end < len(rows):
        row = rows[end]
        is_heading = len(row.segments) == 1 and row.size > 1.12 * rows[end - 1].size
        if row.is_table or is_heading or row.middle - rows[end - 1].middle > 2.6 * row.size:
            break
        joined = _joined(columns, row)
        if joined is None and not _is_remark(rows, end, columns):
            break
        columns = joined or columns
        end += 1
        if len(row.segments) > 1:
            last = end
    # Lines of one text below a table are no part of it.
    return last, columns


def _is_remark(rows: Sequence[Row], at: int, columns: list[tuple[float, float]]) -> bool:
    """Whether a row is one text over several columns, between rows that keep to them."""
    row = rows[at]
    if len(row.segments) > 1 or row.left < min(columns)[0] + row.size or at + 1 == len(rows):
        return False
    return len(rows[at + 1].segments) > 2 and _joined(columns, rows[at + 1]) is not None


def _joined(columns: list[tuple[float, float]], row: Row) -> list[tuple[float, float]] | None:
    """The columns with a row's texts in them; None where a text reaches over two, or two are in one."""
    wider = list(columns)
    used = set()
    for segment in row.segments:
        touched = [
            at for at, (left, right) in enumerate(wider) if segment.left < right and segment.right > left
        ]
        if len(touched) > 1 or (touched and touched[0] in used):
            return None
        if touched:
            left, right = wider[touched[0]]
            wider[touched[0]] = (min(left, segment.left), max(right, segment.right))
            used.add(touched[0])
        else:
            used.add(len(wider))
            wider.append((segment.left, segment.right))
    ordered = sorted(wider)
    return None if any(a[1] > b[0] for a, b in pairwise(ordered)) else wider


def _is_table(run: Sequence[Row], columns: list[tuple[float, float]]) -> bool:
    full = sum(len(row.segments) > 1 for row in run)
    if len(columns) < 2 or full < (2 if len(columns) > 2 else 3):
        return False
    segments = [segment for row in run for segment in row.segments]
    filled = len(segments) / (len(run) * len(columns))
    return filled >= _LEAST_FILLED and fmean(len(segment.text) for segment in segments) <= _LONGEST_CELL


def _spread(row: Row, columns: list[tuple[float, float]]) -> list[str]:
    ordered = sorted(columns)
    cells = [""] * len(ordered)
    for segment in row.segments:
        at = max(0, bisect(ordered, (segment.left + 0.1, 1e9)) - 1)
        cells[at] = f"{cells[at]} {segment.text}".strip()
    return cells


def _nets(content: PageContent) -> list[_Net]:
    """Groups of lines that cross each other, with at least two rows and columns between them."""
    flat = [line for line in set(content.horizontals) if line[2] - line[1] >= SHORTEST_LINE]
    upright = [line for line in set(content.verticals) if line[2] - line[1] >= SHORTEST_LINE]
    if not (flat and upright) or max(len(flat), len(upright)) > MAX_LINES:
        return []
    group = list(range(len(flat) + len(upright)))

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    for at, (y, left, right) in enumerate(flat):
        for other, (x, top, bottom) in enumerate(upright, start=len(flat)):
            if left - _SNAP <= x <= right + _SNAP and top - _SNAP <= y <= bottom + _SNAP:
                group[root(at)] = root(other)
    nets = []
    for name in {root(at) for at in range(len(group))}:
        across = [line for at, line in enumerate(flat) if root(at) == name]
        along = [line for at, line in enumerate(upright, start=len(flat)) if root(at) == name]
        # The ends of the lines across are edges where no line stands.
        xs = _snapped([x for x, _, _ in along] + [end for _, *ends in across for end in ends])
        ys = _snapped([y for y, _, _ in across] + [end for _, *ends in along for end in ends])
        if along and len(xs) > 2 and len(ys) > 2:
            nets.append(_Net(xs, ys))
    return sorted(nets, key=lambda net: (net.xs[-1] - net.xs[0]) * (net.ys[-1] - net.ys[0]))


def _snapped(values: list[float]) -> list[float]:
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > _SNAP:
            found.append(value)
    return found


def _cells(net: _Net, segments: Sequence[Segment]) -> list[list[str]]:
    """Texts by row and column of a net; lines beside each other within a ruled row are rows of their own."""
    bands: list[list[Segment]] = [[] for _ in range(len(net.ys) - 1)]
    for segment in segments:
        bands[min(max(bisect(net.ys, segment.middle) - 1, 0), len(bands) - 1)].append(segment)
    cells = []
    for band in bands:
        lines = [_placed(net, row) for row in rows_of(band)]
        beside = sum(sum(map(bool, line)) > 1 for line in lines)
        if len(lines) >= _LEAST_LINES and beside > 0.6 * len(lines):
            cells += lines
        else:
            cells.append([" ".join(filter(None, column)) for column in zip(*lines, strict=True)])
    return [row for row in cells if row]


def _placed(net: _Net, row: Row) -> list[str]:
    cells = [""] * (len(net.xs) - 1)
    for segment in row.segments:
        # By where it begins: a text that is longer than its cell still belongs there.
        column = min(max(bisect(net.xs, segment.left + _SNAP) - 1, 0), len(cells) - 1)
        cells[column] = f"{cells[column]} {segment.text}".strip()
    return cells


def _straddles(segment: Segment, xs: Sequence[float]) -> bool:
    first = bisect(xs, segment.left + _SNAP)
    return bisect(xs, segment.right - 2 * _SNAP) > first
