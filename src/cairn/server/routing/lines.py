"""Where in a TOML text a value stands, for errors: `tomllib` reads values and forgets their lines."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_SYNTAX = re.compile(r"^(?P<what>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PERCENT = re.compile(r"(\bpercent\s*=\s*)[0-9_.eE+-]+")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")

Path = tuple[str | int, ...]


def parsed(text: str) -> tuple[dict[str, Any], tuple[int, str] | None]:
    """The values of a text, or the line of its mistake and what it is."""
    try:
        return tomllib.loads(text), None
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.match(str(error))
        if found is None or found["line"] is None:
            return {}, (text.count("\n") + 1, f"not valid TOML: {found['what'] if found else error}")
        return {}, (int(found["line"]), f"not valid TOML: {found['what']} (column {found['column']})")


def line_of(text: str, loc: Sequence[str | int]) -> int:
    """The line, from 1, of the innermost part of a value's path that has one of its own."""
    lines = _lines(text)
    for length in range(len(loc), 0, -1):
        if (line := lines.get(tuple(loc[:length]))) is not None:
            return line
    return 1


def with_percent(text: str, loc: Sequence[str | int], percent: float) -> str | None:
    """The text with another `percent` at a path; None where its line does not show one."""
    lines = text.split("\n")
    place = line_of(text, loc) - 1
    changed, num = _PERCENT.subn(rf"\g<1>{percent:g}", lines[place], count=1)
    return "\n".join([*lines[:place], changed, *lines[place + 1 :]]) if num else None


def _lines(text: str) -> dict[Path, int]:
    """The line of every key and table; of a key that a longer text only shows, the first one counts."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    array: tuple[Path, int] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            array = None
            table = _resolved(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, counts[table])
            _note(found, table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            _note(found, path, number)
            array = (path, 0) if line[key.end() :].lstrip().startswith("[") and "]" not in line else None
        elif array is not None and line.lstrip().startswith("{"):
            found.setdefault((*array[0], array[1]), number)  # a list of inline tables, one a line
            array = (array[0], array[1] + 1)
    return found


def _note(found: dict[Path, int], path: Path, number: int) -> None:
    for length in range(1, len(path) + 1):
        found.setdefault(path[:length], number)


def _parts(key: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(key))


def _resolved(path: Path, counts: dict[Path, int]) -> Path:
    """A header's path, with the place of the last table where it passes a list of tables."""
    whole: Path = ()
    for place, part in enumerate(path):
        whole = (*whole, part)
        if whole in counts and place < len(path) - 1:
            whole = (*whole, counts[whole])
    return whole
