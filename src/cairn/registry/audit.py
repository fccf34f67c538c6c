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
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cairn.core import IntegrityError, InvalidRequestError, canonical_json
from cairn.registry.audit_question import AuditQuestion
from cairn.registry.database import Database
from cairn.registry.manifest import plain_json
from cairn.registry.tables import AuditHeadRow, AuditRow

_GENESIS = "0" * 64
_PAGE = 1000
AUDIT_REMEDY = "the log was changed outside Cairn: keep a copy of the database and compare it with a backup"


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

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"details": dict(self.details)}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """What a walk along the chain found: how many entries fit, and which is the first that does not."""

    count: int
    """Entries that fit, from the first on."""
    head: AuditHead
    """Where the chain ended when the walk began."""
    problem: str = ""
    """Empty: the chain holds."""
    broken: int | None = None
    """The number of the first entry that does not fit."""
    broken_at: float | None = None
    """When that entry says it was written; None when it is missing."""
    good_until: float | None = None
    """When the last entry before it was written."""


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

    def entries(self) -> list[AuditEntry]:
        """All of a small log, oldest first."""
        return list(self.matching(AuditQuestion()))

    def head(self) -> AuditHead:
        """Where the chain ends now."""
        with self._database.session(read_only=True) as session:
            return _head(session)

    def page(self, question: AuditQuestion, *, limit: int, offset: int = 0) -> tuple[list[AuditEntry], int]:
        """A page of what was asked for, the newest first, and how many there are in all."""
        conditions = question.conditions()
        query = select(AuditRow).where(*conditions).order_by(AuditRow.seq.desc()).limit(limit).offset(offset)
        counted = select(func.count()).select_from(AuditRow).where(*conditions)
        with self._database.session(read_only=True) as session:
            # A log has no gaps, so that its head counts it; a broken one is for `examine` to tell.
            total = session.scalar(counted) if conditions else _head(session).count
            return [_entry(row) for row in session.scalars(query)], total or 0

    def matching(self, question: AuditQuestion) -> Iterator[AuditEntry]:
        """All that was asked for, oldest first, read by pages."""
        query = select(AuditRow).where(*question.conditions()).order_by(AuditRow.seq).limit(_PAGE)
        last = question.after
        while True:
            with self._database.session(read_only=True) as session:
                rows = session.scalars(query.where(AuditRow.seq > last)).all()
            yield from map(_entry, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].seq

    def names(self) -> tuple[list[str], list[str]]:
        """Every actor and every action that the log knows."""
        with self._database.session(read_only=True) as session:
            pairs = session.execute(select(AuditRow.actor, AuditRow.action).distinct()).all()
        return sorted({actor for actor, _ in pairs}), sorted({action for _, action in pairs})

    def verify(self, expected: AuditHead | None = None) -> int:
        """Walk the whole chain and return its length; `IntegrityError` names the first broken entry.

        With `expected`, a head noted earlier, the chain must also pass through it.
        """
        found = self.examine(expected)
        if found.problem:
            raise IntegrityError(found.problem, remedy=AUDIT_REMEDY)
        return found.count

    def examine(self, expected: AuditHead | None = None) -> AuditFinding:
        """Walk the whole chain, as `verify`, and tell where it breaks."""
        previous, seq, at = _GENESIS, 0, None
        with self._database.session(read_only=True) as session:
            head = _head(session)
            for row in _in_order(session):
                problem = ""
                if row.seq != seq + 1:
                    problem = f"audit entry {seq + 1} is missing"
                elif row.hash != _hash(previous, row):
                    problem = f"audit entry {row.seq} is changed"
                elif expected is not None and expected.count == row.seq and expected.hash != row.hash:
                    problem = f"audit entry {row.seq} or one before it was replaced since the head was noted"
                if problem:
                    broken_at = row.at if row.seq == seq + 1 else None
                    return AuditFinding(
                        count=seq,
                        head=head,
                        problem=problem,
                        broken=seq + 1,
                        broken_at=broken_at,
                        good_until=at,
                    )
                previous, seq, at = row.hash, row.seq, row.at
        told = ""
        if head.count != seq:
            told = (
                f"audit entry {min(seq, head.count) + 1} is missing: "
                f"the log ends at {seq}, its head says {head.count}"
            )
        elif head.hash != previous:
            told = f"audit entry {seq} is not the one its head names"
        elif expected is not None and expected.count > seq:
            told = (
                f"audit entry {seq + 1} is missing: "
                f"the log ends at {seq}, the head noted was {expected.count}"
            )
        if not told:
            return AuditFinding(count=seq, head=head)
        broken = seq if told.endswith("names") else min(seq, head.count) + 1
        return AuditFinding(count=seq, head=head, problem=told, broken=broken, good_until=at)


def _in_order(session: Session) -> Iterator["_Sealed"]:
    """Every entry by number, a page at a time, so that memory does not grow with the log.

    Columns, not objects: making a hundred thousand of these takes longer than hashing what is in them.
    """
    query = select(*_COLUMNS).order_by(AuditRow.seq).limit(_PAGE)
    rows = session.execute(query).all()
    while rows:
        for row in rows:
            yield _Sealed(*row)
        rows = session.execute(query.where(AuditRow.seq > rows[-1].seq)).all()


def _head(session: Session) -> AuditHead:
    row = session.get(AuditHeadRow, 1)
    return AuditHead(row.count, row.hash) if row else AuditHead(0, _GENESIS)


class _Sealed(NamedTuple):
    """An entry's columns."""

    seq: int
    at: float
    action: str
    actor: str
    subject: str
    details: str
    hash: str


_COLUMNS = tuple(getattr(AuditRow, name) for name in _Sealed._fields)


def _hash(previous: str, row: "AuditRow | _Sealed") -> str:
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
