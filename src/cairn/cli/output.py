"""Output of commands: a table that fits the terminal, or JSON; never both."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JSON_OPTION = typer.Option(False, "--json", help="Print JSON instead of a table.")


def fail(message: str, remedy: str = "") -> None:
    """An error on stderr, the remedy last."""
    typer.echo(f"error: {message}", err=True)
    if remedy:
        typer.echo(f"  {remedy}", err=True)


def print_json(value: Any) -> None:
    """A value as indented JSON on stdout."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    """A value with null for every number that JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Rows under their column names; tab-separated when piped; `empty` (on stderr) when there are none.

    In a narrow terminal digests are shortened and long texts folded; in one too narrow for that, each row
    is printed as lines of `column value`.
    """
    if not rows:
        typer.echo(empty, err=True)
        return
    cells = [[str(row[column]) for column in columns] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
        return
    from rich.console import Console

    console = Console(highlight=False)
    room = console.width - _GAP * (len(columns) - 1)
    if sum(_natural(cells, columns)) > room:
        cells = [[_DIGEST.sub(r"\1", text) for text in row] for row in cells]
    widths = _fitted(_natural(cells, columns), _least(cells, columns), room)
    if widths is None:
        _print_records(console, cells, columns)
        return
    is_number = [all(isinstance(row[column], int | float) for row in rows) for column in columns]
    _print_columns(console, cells, columns, widths, is_number)


_DIGEST = re.compile(r"\bsha256:([0-9a-f]{12})[0-9a-f]{52}\b")
_GAP = 2
"""Blanks between two columns."""
_LONGEST_WORD = 32
"""Longer words (paths, digests beside text) may be broken."""


def _natural(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> list[int]:
    """Width of each column with nothing folded."""
    columns_of = zip(columns, *cells, strict=True)
    return [max(len(line) for text in column for line in text.split("\n")) for column in columns_of]


def _least(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> list[int]:
    """Width below which a column's words would be broken."""
    return [
        max(min(len(word), _LONGEST_WORD) for text in column for word in text.split() or [""])
        for column in zip(columns, *cells, strict=True)
    ]


def _fitted(natural: list[int], least: list[int], room: int) -> list[int] | None:
    """Widths that fit into the room, taken from the widest columns first; None when words would break."""
    widths = list(natural)
    while sum(widths) > room:
        spare = [width if width > small else 0 for width, small in zip(widths, least, strict=True)]
        if not any(spare):
            return None
        widths[spare.index(max(spare))] -= 1
    return widths


def _print_columns(
    console: "Console",
    cells: Sequence[Sequence[str]],
    columns: Sequence[str],
    widths: Sequence[int],
    is_number: Sequence[bool],
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
    )
    for column, width, right in zip(columns, widths, is_number, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold", width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_records(console: "Console", cells: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    from rich.text import Text

    label = max(map(len, columns))
    for row in cells:
        for column, text in zip(columns, row, strict=True):
            if text:
                console.print(Text(f"{column:<{label}}  ", style="bold"), Text(text), sep="", soft_wrap=True)
        console.print()


def human_bytes(count: float) -> str:
    """12345678 -> `12.3 MB` (powers of ten, as disks are sold and quotas written)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_time(seconds: float) -> str:
    """A Unix time as local `2026-01-31 14:05`."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def human_seconds(seconds: float) -> str:
    """3725 -> `1 h 2 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
