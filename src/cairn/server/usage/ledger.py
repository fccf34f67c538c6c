"""The ledger: what every request used, written in batches by one thread, off the path of the requests.

Guarantees: what was put in is stored once, in order; nothing is lost when the server ends as it should, and
no complete answer when it is killed: `note` has it in a file before its end is sent (`journal`). When the
database refuses, entries wait and are tried again; when too many wait, `is_full` says so, and the server
refuses requests rather than not to count them.
"""

import itertools
import logging
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.dialects import postgresql, sqlite

from cairn.core.errors import CairnError, StorageError
from cairn.registry import Database
from cairn.server.usage.journal import Journal, left_behind
from cairn.server.usage.tables import UsageRow

logger = logging.getLogger("cairn.server")

T = TypeVar("T")

_MOST_WAITING = 100_000
_BATCH = 1000
_SECONDS = 0.5
"""Longest time that an entry waits for others."""
_PATIENCE = 5
"""Tries to store what is left at the end."""
_STEPS_PER_OCTAVE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one request used; a row of the ledger."""

    usage_id: str
    at: float
    user_id: str
    key_id: str = ""
    groups: frozenset[str] = frozenset()
    model: str
    target: str = ""
    endpoint: str
    num_requests: int = 1
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    saved_tokens: int = 0
    saved_cost: int = 0
    currency: str
    prompt_price: int = 0
    cached_price: int = 0
    completion_price: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    outcome: str
    code: str = ""
    receipt_id: str = ""


_FIELDS = tuple(each.name for each in fields(Entry))


def latency_step(seconds: float) -> int:
    """The place of a time on a scale on which a step is a ninth more, from a millisecond on."""
    return round(_STEPS_PER_OCTAVE * math.log2(1 + 1000 * max(0.0, seconds)))


def seconds_of(step: int) -> float:
    """The time at a place of that scale."""
    return float((2 ** (step / _STEPS_PER_OCTAVE) - 1) / 1000)


def packed(groups: Sequence[str] | frozenset[str]) -> str:
    """Names in one text in which each can be searched for."""
    return "".join(f"\n{name}\n" for name in sorted(groups))


def unpacked(text: str) -> list[str]:
    """Those names."""
    return [name for name in text.split("\n") if name]


class Ledger:
    """Entries on their way into the database."""

    def __init__(
        self, database: Database, *, journal: Path | None = None, most_waiting: int = _MOST_WAITING
    ) -> None:
        self._database = database
        self._journal_folder = journal
        self._journal = Journal(journal) if journal is not None else None
        self._most_waiting = most_waiting
        self._waiting: deque[Entry | Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._num_works = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no more should come."""
        return len(self._waiting) >= self._most_waiting

    @property
    def num_waiting(self) -> int:
        """Entries that are not stored yet."""
        return len(self._waiting)

    def note(self, entry: Entry) -> None:
        """Keep what a request has used so far, should this process not live to `put` it."""
        if self._journal is not None:
            values = {name: getattr(entry, name) for name in _FIELDS} | {"groups": sorted(entry.groups)}
            self._journal.note(entry.usage_id, values)

    def recover(self) -> int:
        """Store what killed servers noted and had not stored; how many requests that were."""
        num = 0
        for own, lines in left_behind(self._journal_folder) if self._journal_folder is not None else ():
            entries = {line["usage_id"]: line for line in lines}
            rows = [
                _values(Entry(**{**line, "groups": frozenset(line["groups"])})) for line in entries.values()
            ]
            if rows:
                self._store(rows)
            shutil.rmtree(own, ignore_errors=True)
            num += len(rows)
        return num

    def put(self, entry: Entry) -> None:
        """Have an entry stored soon; never waits."""
        self._append(entry, is_urgent=False)

    def after(self, work: Callable[[], T]) -> "Future[T]":
        """The result of work that is done when all put in before is stored, and nothing put in after."""
        result: Future[T] = Future()

        def run() -> None:
            if not result.set_running_or_notify_cancel():
                return  # nobody waits for it any more
            try:
                result.set_result(work())
            except Exception as error:  # noqa: BLE001 (raised again where the result is read)
                result.set_exception(error)

        self._append(run, is_urgent=True)
        return result

    def flush(self) -> None:
        """Wait until all that was put in is stored."""
        self.after(lambda: None).result()

    def close(self) -> None:
        """Store what waits, and end."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._journal is not None:
            self._journal.close()

    def _append(self, item: Entry | Callable[[], None], *, is_urgent: bool) -> None:
        with self._wake:
            self._waiting.append(item)
            self._num_works += is_urgent
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cairn-ledger", daemon=True)
                self._thread.start()
            elif is_urgent or len(self._waiting) in (1, _BATCH):
                self._wake.notify()

    def _work(self) -> None:
        num_failures = 0
        while self._wait():
            try:
                self._take()
                num_failures = 0
            except CairnError as error:
                num_failures += 1
                if num_failures == 1:
                    logger.error("usage cannot be stored, it waits: %s", error.sentence)
                if self._is_closing and num_failures >= _PATIENCE:
                    logger.error("the usage of %d requests is lost: %s", len(self._waiting), error.sentence)
                    return
                time.sleep(_SECONDS)

    def _wait(self) -> bool:
        """Until there is something to store and it need not wait for more; False at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._is_closing)
            self._wake.wait_for(
                lambda: self._num_works or self._is_closing or len(self._waiting) >= _BATCH, _SECONDS
            )
            return bool(self._waiting)

    def _take(self) -> None:
        """Store what waits, as far as the next work that is to be done in between; then do that."""
        with self._wake:
            first = itertools.islice(self._waiting, _BATCH)
            batch = [each for each in itertools.takewhile(_is_entry, first) if isinstance(each, Entry)]
        if batch:
            self._store([_values(each) for each in batch])
            if self._journal is not None:
                self._journal.settle(each.usage_id for each in batch)
        with self._wake:
            for _ in batch:
                self._waiting.popleft()
            if not self._waiting or isinstance(work := self._waiting[0], Entry):
                return
            self._waiting.popleft()
            self._num_works -= 1
        work()

    def _store(self, rows: list[dict[str, Any]]) -> None:
        dialect = sqlite if self._database.is_sqlite else postgresql
        table = UsageRow.__table__  # of the class, each row would pass through the mapper
        statement = dialect.insert(table)
        # One id twice: a batch that was tried again, or more refusals of the same minute.
        statement = statement.on_conflict_do_update(
            index_elements=["usage_id"],
            set_={"num_requests": table.c.num_requests + statement.excluded.num_requests},
            where=table.c.outcome == "refused",
        )
        # On SQLite everybody else who writes would wait for the disk, too.
        is_sqlite = self._database.is_sqlite
        with self._database.session(is_synced=not is_sqlite) as session, session.begin():
            session.execute(statement, rows)
        with suppress(StorageError):  # it is stored; what could not be done now is done with the next
            self._database.sync()


def _is_entry(item: object) -> bool:
    return isinstance(item, Entry)


def _values(entry: Entry) -> dict[str, Any]:
    steps = {"hour": int(entry.at // 3600), "latency_step": latency_step(entry.seconds)}
    steps["num_first"] = int(entry.first_token_seconds is not None)
    return {name: getattr(entry, name) for name in _FIELDS} | steps | {"groups": packed(entry.groups)}
