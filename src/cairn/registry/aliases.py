"""Aliases: `assistant:production` points to one digest, moves in one transaction, and keeps every move."""

import re
import time
from dataclasses import dataclass
from types import EllipsisType

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core import ConflictError, InvalidRequestError, NotFoundError, short
from cairn.registry.audit import AuditLog
from cairn.registry.tables import AliasMoveRow, AliasRow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_LIKE_DIGEST = re.compile(r"sha256|[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Alias:
    """Where `name:alias` points; `updated_at` in Unix seconds."""

    name: str
    alias: str
    digest: str
    updated_at: float

    @property
    def full_name(self) -> str:
        return f"{self.name}:{self.alias}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """One move: `previous` is None when the alias was new, `digest` is None when it was removed."""

    name: str
    alias: str
    previous: str | None
    digest: str | None
    actor: str
    moved_at: float


def check_name(name: str, alias: str) -> None:
    """`InvalidRequestError` unless both may be used; what reads like a digest may not."""
    for param, value in (("name", name), ("alias", alias)):
        if not _NAME.fullmatch(value) or _LIKE_DIGEST.fullmatch(value):
            raise InvalidRequestError(
                f"{param} is {value!r}, allowed: letters, digits and . _ / - (at most 128, "
                "the first a letter or digit), not 8 or more hex digits",
                param=param,
            )


def move(
    session: Session,
    audit: AuditLog,
    *,
    name: str,
    alias: str,
    digest: str | None,
    actor: str,
    expected: str | EllipsisType | None = ...,
) -> Alias | None:
    """Point an alias to `digest` (None: remove it) and write history and audit in the same transaction.

    The session must be a `writing` one.
    `expected` is the digest it must point to now, or None when it must be new; `ConflictError` otherwise.
    """
    row = session.get(AliasRow, (name, alias))
    previous = row.digest if row else None
    if expected is not ... and previous != expected:
        raise _overtaken(name, alias, previous, expected)
    if digest is None and row is None:
        raise NotFoundError(f"there is no alias {name}:{alias}", remedy="list them: cairn artifact alias")
    now = time.time()
    if row is not None and digest == previous:
        return Alias(name, alias, row.digest, row.updated_at)
    if digest is None:
        session.delete(row)
    elif row is not None:
        row.digest, row.updated_at = digest, now
    else:
        session.add(AliasRow(name=name, alias=alias, digest=digest, updated_at=now))
    session.add(
        AliasMoveRow(name=name, alias=alias, previous=previous, digest=digest, actor=actor, moved_at=now)
    )
    audit.append_in(
        session,
        "alias.remove" if digest is None else "alias.move",
        actor,
        f"{name}:{alias}",
        {"previous": previous, "digest": digest},
    )
    return Alias(name, alias, digest, now) if digest is not None else None


def listing(session: Session, name: str | None) -> list[Alias]:
    """Every alias (of a name), sorted."""
    query = select(AliasRow).order_by(AliasRow.name, AliasRow.alias)
    if name is not None:
        query = query.where(AliasRow.name == name)
    return [Alias(row.name, row.alias, row.digest, row.updated_at) for row in session.scalars(query)]


def history(session: Session, name: str, alias: str) -> list[AliasMove]:
    """Every move of an alias, oldest first."""
    query = (
        select(AliasMoveRow)
        .where(AliasMoveRow.name == name, AliasMoveRow.alias == alias)
        .order_by(AliasMoveRow.move_id)
    )
    return [
        AliasMove(
            name=row.name,
            alias=row.alias,
            previous=row.previous,
            digest=row.digest,
            actor=row.actor,
            moved_at=row.moved_at,
        )
        for row in session.scalars(query)
    ]


def _overtaken(name: str, alias: str, found: str | None, expected: str | None) -> ConflictError:
    return ConflictError(
        f"{name}:{alias} points to {short(found) if found else 'nothing'}, "
        f"expected {short(expected) if expected else 'nothing'}",
        remedy=f"someone moved it: look at cairn artifact alias {name}:{alias} --history and decide again",
    )
