"""The ledger: what every request used and the receipts of routes' answers, written in batches by one thread.

Guarantees: what was put in is stored once, in order; nothing is lost when the server ends as it should, and
nothing of a complete answer when it is killed: `note` and `keep` have it in a file before its end is sent
(`registry.journal`). When the database refuses, all waits and is tried again; when too much waits, `is_full`
says so, and the server refuses requests rather than not to count them.
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
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Table, literal_column
from sqlalchemy.exc import DBAPIError, StatementError

from cairn.core.errors import CairnError, StorageError
from cairn.registry import Database, Receipt, receipts
from cairn.registry.journal import Journal, left_behind
from cairn.registry.receipts import ReceiptLine, line_of
from cairn.registry.rows import row_writer
from cairn.server.usage.tables import UsageRow

logger = logging.getLogger("cairn.server")

T = TypeVar("T")

_MOST_WAITING = 100_000
_MOST_RECEIPTS = 10_000
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
_get = attrgetter(*_FIELDS)


def _count_again(insert: Any) -> Any:
    """One id twice: a batch that was tried again, or more refusals of the same minute."""
    table = UsageRow.__table__.c
    return insert.on_conflict_do_update(
        index_elements=["usage_id"],
        set_={"num_requests": table.num_requests + insert.excluded.num_requests},
        where=table.outcome == literal_column("'refused'"),
    )


_PLAIN = [name for name in _FIELDS if name != "groups"]
_plain = attrgetter(*_PLAIN)
_COLUMNS = (*_PLAIN, "groups", "hour", "latency_step", "num_first")
_write = row_writer(cast("Table", UsageRow.__table__), _COLUMNS, _count_again)


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


_Item = Entry | ReceiptLine


class Ledger:
    """Entries and receipts on their way into the database."""

    def __init__(
        self, database: Database, *, journal: Path | None = None, most_waiting: int = _MOST_WAITING
    ) -> None:
        self._database = database
        self._journal_folder = journal
        self._journal = Journal(journal) if journal is not None else None
        self._most_waiting = most_waiting
        self._waiting: deque[_Item | Callable[[], None]] = deque()
        self._num_receipts = 0
        self._wake = threading.Condition()
        self._num_works = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no more should come."""
        return len(self._waiting) >= self._most_waiting or self._num_receipts >= _MOST_RECEIPTS

    @property
    def num_waiting(self) -> int:
        """Entries and receipts that are not stored yet."""
        return len(self._waiting)

    def note(self, entry: Entry) -> None:
        """Keep what a request has used so far, should this process not live to `put` it."""
        if self._journal is not None:
            values = dict(zip(_FIELDS, _get(entry), strict=True)) | {"groups": sorted(entry.groups)}
            self._journal.note(entry.usage_id, {"usage": values})

    async def keep(self, receipt: Receipt) -> None:
        """Have a receipt stored soon; from here on it is found, and outlives this process."""
        line = line_of(receipt)
        if self._journal is not None and not self._journal.note(line.receipt_id, {"receipt": line}):
            raise StorageError(
                "the receipt of this answer cannot be written", remedy="free disk space, then ask again"
            )
        self._append(line, is_urgent=False)

    def recover(self) -> int:
        """Store what killed servers noted and had not stored; how many requests that were."""
        num = 0
        for own, lines in left_behind(self._journal_folder) if self._journal_folder is not None else ():
            values = {line["key"]: line["usage"] for line in lines if "usage" in line}
            entries = [Entry(**{**each, "groups": frozenset(each["groups"])}) for each in values.values()]
            self._store([*entries, *receipts.of_lines(lines).values()])
            shutil.rmtree(own, ignore_errors=True)
            num += len(entries)
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

    def _append(self, item: _Item | Callable[[], None], *, is_urgent: bool) -> None:
        with self._wake:
            self._waiting.append(item)
            self._num_receipts += isinstance(item, ReceiptLine)
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
            except Exception as error:  # noqa: BLE001 (whatever it is, this thread is the only one that stores)
                said = error.sentence if isinstance(error, CairnError) else repr(error)
                num_failures += 1
                if num_failures == 1:
                    logger.error("usage cannot be stored, it waits: %s", said)
                if self._is_closing and num_failures >= _PATIENCE:
                    logger.error("%d entries and receipts are lost: %s", len(self._waiting), said)
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
            batch: list[_Item] = []
            for each in itertools.islice(self._waiting, _BATCH):
                if not isinstance(each, Entry | ReceiptLine):
                    break
                batch.append(each)
        if batch:
            self._store(batch)
            if self._journal is not None:
                self._journal.settle(map(_key, batch))
        with self._wake:
            for stored in batch:
                self._waiting.popleft()
                self._num_receipts -= isinstance(stored, ReceiptLine)
            if not self._waiting or isinstance(work := self._waiting[0], Entry | ReceiptLine):
                return
            self._waiting.popleft()
            self._num_works -= 1
        work()

    def _store(self, items: Sequence[_Item]) -> None:
        """All of them; where one is nothing that the database can hold, the others."""
        try:
            self._insert(items)
        except (StatementError, TypeError, ValueError, OverflowError) as error:
            # The last three as a driver says them where SQLAlchemy does not wrap them.
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise  # of the database, which may take it later
            if len(items) > 1:
                for each in items:
                    self._store([each])
            else:
                logger.exception("%s cannot be stored and is lost", _key(items[0]))

    def _insert(self, items: Sequence[_Item]) -> None:
        rows = [_row(each) for each in items if isinstance(each, Entry)]
        made = [each for each in items if isinstance(each, ReceiptLine)]
        # On SQLite everybody else who writes would wait for the disk, too.
        is_sqlite = self._database.is_sqlite
        with self._database.session(is_synced=not is_sqlite) as session, session.begin():
            if rows:
                _write(session, rows)
            if made:
                receipts.save(session, made)
        with suppress(StorageError):  # it is stored; what could not be done now is done with the next
            self._database.sync()


def _key(item: _Item) -> str:
    return item.usage_id if isinstance(item, Entry) else item.receipt_id


def _row(entry: Entry) -> tuple[Any, ...]:
    computed = (
        int(entry.at // 3600),
        latency_step(entry.seconds),
        int(entry.first_token_seconds is not None),
    )
    return (*_plain(entry), packed(entry.groups), *computed)
