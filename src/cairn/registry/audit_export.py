"""The audit log as a file, piece by piece, so that memory does not grow with the log."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice

from cairn.core import canonical_json
from cairn.core.csv_cells import safe_cell
from cairn.registry.audit import AuditEntry

_COLUMNS = [each.name for each in fields(AuditEntry)]
_LINES = 500
"""So many travel at once."""


def audit_jsonl(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """A JSON object a line: all that is sealed, and the seal."""
    lines = (canonical_json(entry.plain()).decode() + "\n" for entry in entries)
    while piece := "".join(islice(lines, _LINES)):
        yield piece


def audit_csv(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Rows for a spreadsheet: times as text, details as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    rows = map(_row, entries)
    while piece := buffer.getvalue():
        yield piece
        buffer.seek(0)
        buffer.truncate()
        writer.writerows(islice(rows, _LINES))


def _row(entry: AuditEntry) -> list[str]:
    at = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    plain = entry.plain() | {"at": at, "details": json.dumps(dict(entry.details), ensure_ascii=False)}
    return [safe_cell(str(plain[name])) for name in _COLUMNS]
