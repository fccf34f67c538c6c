"""Rows of cells as a Markdown table, the one way a table looks in a parsed text."""

import re
from collections.abc import Sequence

_SPACE = re.compile(r"\s+")


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The table, its first row as the header; empty rows and columns are left out, short rows filled up."""
    cleaned = [[clean_cell(cell) for cell in row] for row in rows]
    width = max(map(len, cleaned), default=0)
    filled = [row + [""] * (width - len(row)) for row in cleaned if any(row)]
    columns = [at for at in range(width) if any(row[at] for row in filled)]
    lines = ["| " + " | ".join(row[at] for at in columns) + " |" for row in filled]
    if lines:
        lines.insert(1, "|" + " --- |" * len(columns))
    return "\n".join(lines)


def clean_cell(text: str) -> str:
    """A cell's text on one line; its pipes cannot end the cell."""
    return _SPACE.sub(" ", text).strip().replace("|", "\\|")
