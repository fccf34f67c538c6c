"""Stored traces: a SQLite file of their own, bounded in size and age, in which the oldest make room.

Of its own, so that traces never wait for the catalogue's writers, nor these for traces; and because what is
lost with it is no more than telemetry: a file that cannot be read is put aside, and a new one begun.
Write-ahead logging keeps it whole when the process is killed; at most the last batch is gone. Several
processes may share one. Not covered: several machines; each keeps its own, OTLP brings them together.
"""

import contextlib
import json
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cairn.core.errors import StorageError
from cairn.telemetry.finished import FinishedSpan, FinishedTrace

logger = logging.getLogger("cairn.telemetry")

_VERSION = 1
_PAGE = 4096
_WAL_BYTES = 1_000_000
_PART = 20
"""A full store lets go a twentieth at a time."""
_COLUMNS = (
    "root_id",
    "trace_id",
    "name",
    "at",
    "seconds",
    "user_id",
    "key_id",
    "model",
    "status",
    "outcome",
    "error",
    "receipt_id",
)
_SPAN = tuple(each.name for each in fields(FinishedSpan))
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS traces (
    root_id TEXT PRIMARY KEY, trace_id TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL,
    seconds REAL NOT NULL, user_id TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL,
    status INTEGER NOT NULL, outcome TEXT NOT NULL, error TEXT NOT NULL, receipt_id TEXT NOT NULL,
    spans BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_at ON traces (at);
CREATE INDEX IF NOT EXISTS traces_user ON traces (user_id, at);
CREATE INDEX IF NOT EXISTS traces_trace ON traces (trace_id);
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A line of the list."""

    root_id: str
    trace_id: str
    name: str
    at: float
    seconds: float
    user_id: str
    key_id: str
    model: str
    status: int
    outcome: str
    error: str
    receipt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFilter:
    """Which traces to list; what is left open is any."""

    since: float = 0.0
    until: float | None = None
    user_id: str | None = None
    model: str | None = None
    outcome: str | None = None
    min_seconds: float = 0.0
    before: tuple[float, str] | None = None
    """Those after this one in the list: when it began, and its root's id."""


class TraceStore:
    """The file at `path`. One thread writes, any reads."""

    def __init__(self, path: Path, *, max_bytes: int, max_seconds: float) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def write(self, traces: Sequence[FinishedTrace]) -> None:
        """Store traces, and let go what is too old or too much; `StorageError` when the disk refuses."""
        rows = [(*(getattr(each, name) for name in _COLUMNS), _packed(each.spans)) for each in traces]
        with self._lock:
            try:
                self._write(rows)
            except sqlite3.Error as error:
                self._drop_connection()
                raise StorageError(f"traces cannot be stored in {self.path}: {error}") from error

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        connection = self._opened()
        places = ", ".join("?" * (len(_COLUMNS) + 1))
        with connection:
            connection.executemany(f"INSERT OR IGNORE INTO traces VALUES ({places})", rows)
            connection.execute("DELETE FROM traces WHERE at < ?", (time.time() - self._max_seconds,))
        while self._used_bytes(connection) > self._max_bytes:
            with connection:
                (count,) = connection.execute("SELECT count(*) FROM traces").fetchone()
                if not count:
                    break
                connection.execute(
                    "DELETE FROM traces WHERE root_id IN (SELECT root_id FROM traces ORDER BY at LIMIT ?)",
                    (max(1, count // _PART),),
                )
        # As a script, which is stepped to its end: each step gives one page back.
        connection.executescript("PRAGMA incremental_vacuum")

    def listed(self, only: TraceFilter, limit: int) -> list[TraceSummary]:
        """The traces that a filter leaves, newest first."""
        terms, values = _terms(only)
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM traces WHERE {' AND '.join(terms)} "
            "ORDER BY at DESC, root_id DESC LIMIT ?"
        )
        with self._reading() as connection:
            rows = connection.execute(query, (*values, limit)).fetchall() if connection else []
        return [TraceSummary(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def found(
        self, trace_id: str, user_id: str | None = None
    ) -> list[tuple[TraceSummary, list[FinishedSpan]]]:
        """The requests of a trace, of one person or of all, earliest first, with their spans."""
        query = f"SELECT {', '.join(_COLUMNS)}, spans FROM traces WHERE trace_id = ?"
        values: list[Any] = [trace_id]
        if user_id is not None:
            query, values = f"{query} AND user_id = ?", [trace_id, user_id]
        query = f"{query} ORDER BY at LIMIT 100"
        with self._reading() as connection:
            rows = connection.execute(query, values).fetchall() if connection else []
        return [
            (TraceSummary(**dict(zip(_COLUMNS, row[:-1], strict=True))), _unpacked(row[-1])) for row in rows
        ]

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = _open(self.path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # busy, full, not allowed: nothing is wrong with what is in it
                aside = self.path.with_name(f"{self.path.name}.unreadable")
                logger.error("%s cannot be read (%s): it is now %s", self.path, error, aside.name)
                self.path.replace(aside)
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                self._connection = _open(self.path)
        return self._connection

    def _used_bytes(self, connection: sqlite3.Connection) -> int:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return (int(pages) - int(free)) * _PAGE + _WAL_BYTES

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that reads; None before anything was stored."""
        if not self.path.exists():
            yield None
            return
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(f"stored traces cannot be read: {error}", remedy="try again") from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=10.0)
    try:
        # Before the first table: the file can then shrink.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}").fetchall()
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_BYTES // _PAGE}").fetchall()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}, known: {_VERSION}")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _terms(only: TraceFilter) -> tuple[list[str], list[Any]]:
    terms, values = ["at >= ?"], [only.since]
    given: list[Any] = list(values)
    for term, value in (
        ("at <= ?", only.until),
        ("user_id = ?", only.user_id),
        ("model = ?", only.model),
        ("outcome = ?", only.outcome),
        ("seconds >= ?", only.min_seconds or None),
    ):
        if value is not None:
            terms.append(term)
            given.append(value)
    if only.before is not None:
        terms.append("(at, root_id) < (?, ?)")
        given += only.before
    return terms, given


def _packed(spans: Sequence[FinishedSpan]) -> bytes:
    rows = [[getattr(span, name) for name in _SPAN] for span in spans]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def _unpacked(data: bytes) -> list[FinishedSpan]:
    text = zlib.decompress(data).decode("utf-8", "surrogatepass")
    return [FinishedSpan(**dict(zip(_SPAN, row, strict=True))) for row in json.loads(text)]
