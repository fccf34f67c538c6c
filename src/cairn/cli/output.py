"""Output of commands: a table that fits the terminal, or JSON; never both."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

JSON_OPTION = typer.Option(False, "--json", help="Print JSON instead of a table.")


def fail(message: str, remedy: str = "") -> None:
    """An error on stderr, the remedy last."""
    typer.echo(f"error: {message}", err=True)
    if remedy:
        typer.echo(f"  {remedy}", err=True)


def print_json(value: Any) -> None:
    """A value as indented JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Rows under their column names; tab-separated when piped; `empty` (on stderr) when there are none."""
    if not rows:
        typer.echo(empty, err=True)
        return
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(str(row[column]) for column in columns))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for column in columns:
        is_number = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(row[column])) for column in columns))
    Console().print(table)


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
