"""Rows of small files (JSON, JSON lines, CSV; gzipped too), and which of them are held out.

For sets that fit the memory many times over; `readers` streams what does not.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from cairn.core.errors import ConfigError

Split = Literal["train", "held_out"]
HELD_OUT_SHARE = 0.1
_Row = TypeVar("_Row")


def read_rows(path: Path) -> list[Any]:
    """The rows of a CSV file with a header, of JSON lines, of a JSON array or of `{"examples": array}`."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        if ".csv" in path.suffixes:
            reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
            return [{key: value or "" for key, value in row.items()} for row in reader]
        if data.lstrip()[:1] == b"[" or ".json" in path.suffixes:
            value = json.loads(data)
            return list(value["examples"] if isinstance(value, dict) and "examples" in value else value)
        return [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError as error:
        kind = "CSV" if ".csv" in path.suffixes else "JSON"
        raise ConfigError(
            f"{path.name} is not valid {kind}: {error}",
            remedy="mend that place; a file with one JSON value a line is named .jsonl",
        ) from None


def write_rows(rows: Iterable[Any], path: Path) -> int:
    """One JSON line a row; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def split_rows(rows: Sequence[_Row], split: Split, share: float = HELD_OUT_SHARE) -> Sequence[_Row]:
    """One part of rows of which the last share is held out, so that the split never depends on chance."""
    kept = len(rows) - math.ceil(len(rows) * share)
    return rows[:kept] if split == "train" else rows[kept:]
