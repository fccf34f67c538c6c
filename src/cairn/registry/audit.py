"""The audit log: a chain of entries, each sealed by the SHA-256 of the one before it and its own content.

    hash(n) = SHA-256(hash(n-1) as hex + canonical JSON of entry n),   hash(0) = 64 zeros

So an entry cannot be changed, moved or removed without breaking every hash after it, and `verify` names
the first that does not fit. A tail cut off is noticed by the head record (count and hash). Who may write
to the database could forge chain and head together; against that, note the head that `cairn audit verify`
prints somewhere else, and pass it to `verify` later. Appending takes one lock (SQLite's write lock, a
Postgres advisory lock), so concurrent writers make one chain.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cairn.core import IntegrityError, InvalidRequestError, canonical_json
from cairn.registry.database import Database
from cairn.registry.manifest import plain_json
from cairn.registry.tables import AuditHeadRow, AuditRow

_GENESIS = "0" * 64
_PAGE = 1000
_REMEDY = "the log was changed outside Cairn: keep a copy of the database and compare it with a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who (`actor`) did what (`action`) to what (`subject`), when (`at`, Unix seconds)."""

    seq: int
    at: float
    action: str
    actor: str
    subject: str
    details: Mapping[str, Any] = field(hash=False)
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Where the chain ends. Written `count:hash`."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parse(cls, value: str) -> "AuditHead":
        """A head that was noted elsewhere."""
        count, _, digest = value.partition(":")
        if not count.isdecimal() or len(digest) != 64:
            raise InvalidRequestError(
                f"{value!r} is not a head",
                remedy="it looks like 42:<64 hex digits>; cairn audit verify prints it",
            )
        return cls(int(count), digest)


class AuditLog:
    """The chain in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self, action: str, actor: str, subject: str, details: Mapping[str, Any] | None = None
    ) -> AuditEntry:
        """Add an entry."""
        with self._database.writing() as session:
            return self.append_in(session, action, actor, subject, details)

    def append_in(
        self,
        session: Session,
        action: str,
        actor: str,
        subject: str,
        details: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Add an entry in a writing session, so that it is kept exactly when the rest of it is."""
        self._database.serialise(session)
        head = session.get(AuditHeadRow, 1, populate_existing=True)
        if head is None:
            head = AuditHeadRow(head_id=1, count=0, hash=_GENESIS)
            session.add(head)
        row = AuditRow(
            seq=head.count + 1,
            at=time.time(),
            action=action,
            actor=actor,
            subject=subject,
            details=canonical_json(plain_json(details or {})).decode(),
        )
        row.hash = _hash(head.hash, row)
        head.count, head.hash = row.seq, row.hash
        session.add(row)
        session.flush()
        return _entry(row)

    def entries(self, limit: int = 100, after: int | None = None) -> list[AuditEntry]:
        """The newest `limit` entries, or the `limit` that follow entry number `after`; oldest first."""
        newest = select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)
        following = select(AuditRow).where(AuditRow.seq > (after or 0)).order_by(AuditRow.seq).limit(limit)
        with self._database.session(read_only=True) as session:
            rows = session.scalars(newest if after is None else following).all()
        return sorted((_entry(row) for row in rows), key=lambda entry: entry.seq)

    def head(self) -> AuditHead:
        """Where the chain ends now."""
        with self._database.session(read_only=True) as session:
            return _head(session)

    def verify(self, expected: AuditHead | None = None) -> int:
        """Walk the whole chain and return its length; `IntegrityError` names the first broken entry.

        With `expected`, a head noted earlier, the chain must also pass through it.
        """
        with self._database.session(read_only=True) as session:
            head = _head(session)
            count = session.scalar(select(func.count()).select_from(AuditRow)) or 0
            previous, seq = _GENESIS, 0
            for row in _in_order(session):
                seq += 1
                if row.seq != seq or row.hash != _hash(previous, row):
                    raise IntegrityError(f"audit entry {seq} is {_damage(row.seq, seq)}", remedy=_REMEDY)
                previous = row.hash
                _check_head(expected, seq, previous)
        if (head.count, head.hash) != (count, previous):
            raise IntegrityError(
                f"audit entry {min(seq, head.count) + 1} is missing: "
                f"the log ends at {seq}, its head says {head.count}"
                if head.count != seq
                else f"audit entry {seq} is not the one its head names",
                remedy=_REMEDY,
            )
        if expected is not None and expected.count > seq:
            raise IntegrityError(
                f"audit entry {seq + 1} is missing: "
                f"the log ends at {seq}, the head noted was {expected.count}",
                remedy=_REMEDY,
            )
        return seq


def _in_order(session: Session) -> Iterator[AuditRow]:
    """Every entry by number, a page at a time, so that memory does not grow with the log."""
    query = select(AuditRow).order_by(AuditRow.seq).limit(_PAGE)
    rows = session.scalars(query).all()
    while rows:
        yield from rows
        session.expunge_all()
        rows = session.scalars(query.where(AuditRow.seq > rows[-1].seq)).all()


def _check_head(expected: AuditHead | None, seq: int, found: str) -> None:
    if expected is not None and expected.count == seq and expected.hash != found:
        raise IntegrityError(
            f"audit entry {seq} or one before it was replaced since the head was noted", remedy=_REMEDY
        )


def _damage(found: int, expected: int) -> str:
    return "changed" if found == expected else "missing"


def _head(session: Session) -> AuditHead:
    row = session.get(AuditHeadRow, 1)
    return AuditHead(row.count, row.hash) if row else AuditHead(0, _GENESIS)


def _hash(previous: str, row: AuditRow) -> str:
    content = {
        "seq": row.seq,
        "at": row.at,
        "action": row.action,
        "actor": row.actor,
        "subject": row.subject,
        "details": row.details,
    }
    return hashlib.sha256(previous.encode() + canonical_json(content)).hexdigest()


def _entry(row: AuditRow) -> AuditEntry:
    details: dict[str, Any] = json.loads(row.details)
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        action=row.action,
        actor=row.actor,
        subject=row.subject,
        details=details,
        hash=row.hash,
    )
