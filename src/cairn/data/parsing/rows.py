"""CSV, JSON, JSON lines and notebooks. All but notebooks keep the file's own bytes."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParsingStoppedError
from cairn.data.parsing.lines import BYTE_ORDER_MARK, Lines, TextFile
from cairn.data.parsing.parsed import ParsedDocument, Problem, ProblemKind
from cairn.data.parsing.plain import parse_markdown

_DELIMITERS = ",;\t|"
_UNEVEN_SHARE = 0.1
_MAX_COLUMNS_NAMED = 200
_MAX_OUTPUT = 4_000
"""Characters of a notebook cell's printed output."""


def parse_csv(file: TextFile) -> ParsedDocument:
    """One table; rows of uneven length are a problem."""
    delimiter = _delimiter(file)
    widths: Counter[int] = Counter()
    columns: list[str] = []
    try:
        for row in csv.reader(
            (line.removeprefix(BYTE_ORDER_MARK) for line in file.lines), delimiter=delimiter
        ):
            if row:
                columns = columns or row
                widths[len(row)] += 1
    except csv.Error as error:
        _tell(file, "lost_table", f"its rows cannot be told apart: {error}")
    num_rows = sum(widths.values())
    usual, count = widths.most_common(1)[0] if widths else (0, 0)
    if num_rows - count > _UNEVEN_SHARE * num_rows:
        _tell(file, "lost_table", f"{num_rows - count:,} of {num_rows:,} rows have not {usual} columns")
    details = {"delimiter": delimiter, "columns": columns[:_MAX_COLUMNS_NAMED], "rows": num_rows}
    return file.document([Lines("table", 0, len(file.lines))], metadata=details)


def parse_json(file: TextFile, *, is_lines: bool) -> ParsedDocument:
    """A block for each member of the outermost value that begins a line, or for each line."""
    if is_lines:
        runs = [
            Lines("code", at, at + 1, name="json") for at in range(len(file.lines)) if not file.is_blank(at)
        ]
        broken = sum(not _is_json(file.lines[run.first]) for run in runs)
        if broken:
            _tell(file, "truncated", f"{broken:,} of {len(runs):,} lines are no JSON")
        return file.document(runs)
    if not _is_json(file.text):
        _tell(file, "truncated", "no complete JSON value, or one nested too deeply to be checked")
    return file.document(_members(file))


def parse_notebook(data: bytes, name: str, composer: Composer) -> None:
    """The cells of a Jupyter notebook: its Markdown, its code, and what that printed."""
    try:
        notebook = json.loads(data)
        cells = notebook.get("cells", []) if isinstance(notebook, dict) else []
        language = _string(notebook, "metadata", "kernelspec", "language") or "python"
    except (ValueError, RecursionError):
        raise ParsingStoppedError("truncated", "no complete notebook") from None
    try:
        composer.begin_page()
        for cell in cells if isinstance(cells, list) else []:
            composer.deadline.check()
            _cell(cell, language, composer)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    composer.finish("application/x-ipynb+json", composer.first_heading)


def _cell(cell: Any, language: str, composer: Composer) -> None:
    source = _joined(cell, "source")
    kind = _string(cell, "cell_type")
    if kind == "markdown":
        inner = parse_markdown(TextFile(source, composer.limits, "text/markdown"))
        data = inner.text.encode()
        for block in inner.blocks:
            composer.add(block.kind, data[slice(*block.span)].decode(), level=block.level, name=block.name)
    elif kind == "code" and source.strip():
        composer.add("code", f"```{language}\n{source}\n```", name=language)
        for output in cell.get("outputs") or ():
            shown = output.get("data") if isinstance(output, dict) else None
            printed = _joined(output, "text") or _joined(shown, "text/plain")
            composer.add(
                "code", f"```\n{printed[:_MAX_OUTPUT]}\n```" if printed.strip() else "", name="output"
            )
    else:
        composer.add("paragraph", source)


def _joined(value: Any, key: str) -> str:
    found = value.get(key, "") if isinstance(value, dict) else ""
    return "".join(map(str, found)) if isinstance(found, list) else str(found)


def _string(value: Any, *keys: str) -> str:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _members(file: TextFile) -> Iterator[Lines]:
    """Runs of lines that begin at the least indent below the outermost bracket."""
    indents = [len(line) - len(line.lstrip(" \t")) if line.strip() else 0 for line in file.lines]
    least = min((indent for indent in indents if indent), default=0)
    starts = [at for at, indent in enumerate(indents) if indent == least and not _closes(file.lines[at])]
    if not least or not starts:
        yield Lines("code", 0, len(file.lines), name="json")
        return
    for start, end in pairwise([*starts, len(file.lines)]):
        key = re.match(r'\s*"((?:[^"\\]|\\.){1,80})"\s*:', file.lines[start])
        # The opening bracket belongs to the first.
        yield Lines("code", 0 if start == starts[0] else start, end, name=key[1] if key else "json")


def _closes(line: str) -> bool:
    return line.lstrip()[:1] in ("}", "]")


def _is_json(text: str) -> bool:
    try:
        json.loads(text.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        return False
    return True


def _delimiter(file: TextFile) -> str:
    """What splits the first lines into the most equal columns."""
    lines = [line for line in file.lines[:20] if line.strip()]

    def evenness(mark: str) -> tuple[int, int]:
        counts = Counter(line.count(mark) for line in lines if mark in line)
        number, times = counts.most_common(1)[0] if counts else (0, 0)
        return times, number

    return max(_DELIMITERS, key=evenness)


def _tell(file: TextFile, kind: ProblemKind, message: str) -> None:
    file.problems.append(Problem(kind, 1, message))
