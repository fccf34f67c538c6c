"""API keys: `cairn_<id>_<secret>`; only the secret's SHA-256 is stored, and compared in constant time.

A rotated key keeps its id and its settings; its old secret stays good for a while, so that programs can
be given the new one in turn.
"""

import hmac
import secrets
import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import AuthenticationError, ConflictError, InvalidRequestError, NotFoundError
from cairn.server.identity.changes import Change, digest_of
from cairn.server.tables import KeyRow

KEY_PREFIX = "cairn_"


def create(
    change: Change,
    user_id: str,
    *,
    name: str = "",
    scopes: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    expires_at: float | None = None,
) -> tuple[KeyRow, str]:
    """A new key of a person that there is: its row and, this once, the key itself."""
    now = time.time()
    if expires_at is not None and expires_at <= now:
        raise InvalidRequestError(
            "the key would have expired already, allowed: a time to come", param="expires_at"
        )
    # Hexadecimal, so that a double click selects the whole key.
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    row = KeyRow(
        key_id=key_id,
        user_id=user_id,
        name=name,
        secret_hash=digest_of(secret),
        old_secret_hash=None,
        old_expires_at=None,
        scopes=None if scopes is None else list(scopes),
        models=None if models is None else sorted(set(models)),
        created_at=now,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
    )
    change.session.add(row)
    change.session.flush()
    change.note(
        "key.create",
        key_id,
        user=user_id,
        name=name,
        scopes=row.scopes,
        models=row.models,
        expires=expires_at,
    )
    return row, f"{KEY_PREFIX}{key_id}_{secret}"


def find(session: Session, key_id: str, *, owner: str | None = None) -> KeyRow:
    """A key, of an owner's where one is named; `NotFoundError` also when it is another's."""
    row = session.get(KeyRow, key_id)
    if row is None or (owner is not None and row.user_id != owner):
        raise NotFoundError(f"no key {key_id!r}", remedy="list them: cairn key ls")
    return row


def listed(session: Session, *, owner: str | None = None) -> list[KeyRow]:
    """All keys or an owner's, oldest first."""
    query = select(KeyRow).order_by(KeyRow.created_at)
    return list(session.scalars(query if owner is None else query.where(KeyRow.user_id == owner)))


def revoke(change: Change, row: KeyRow) -> None:
    """Make a key useless from now on."""
    if row.revoked_at is None:
        row.revoked_at = time.time()
        change.note("key.revoke", row.key_id, user=row.user_id)


def rotate(change: Change, row: KeyRow, *, overlap_seconds: float) -> str:
    """A new secret under the same id; the old one stays good for `overlap_seconds`."""
    if not is_good(row):
        raise ConflictError(f"the key {row.key_id} is {state_of_key(row)}", remedy="make a new one")
    secret = secrets.token_hex(32)
    row.old_secret_hash, row.old_expires_at = row.secret_hash, time.time() + overlap_seconds
    row.secret_hash = digest_of(secret)
    change.note("key.rotate", row.key_id, user=row.user_id, overlap_seconds=overlap_seconds)
    return f"{KEY_PREFIX}{row.key_id}_{secret}"


def is_good(row: KeyRow) -> bool:
    """Whether a key is neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > time.time())


def state_of_key(row: KeyRow) -> str:
    """`active`, `expired` or `revoked`."""
    return "revoked" if row.revoked_at is not None else "active" if is_good(row) else "expired"


def verified(session: Session, key: str) -> tuple[KeyRow, float]:
    """The row of a key that is right and good, and until when; `AuthenticationError` says what else it is."""
    key_id, _, secret = key.removeprefix(KEY_PREFIX).partition("_")
    row = session.get(KeyRow, key_id) if key.startswith(KEY_PREFIX) else None
    # Both comparisons are made for unknown ids too, so that timing does not tell them apart.
    given, nobodys = digest_of(secret), digest_of("")
    is_right = hmac.compare_digest(given, row.secret_hash if row else nobodys)
    is_old = hmac.compare_digest(given, (row and row.old_secret_hash) or nobodys)
    until = float("inf")
    if row is not None and not is_right and is_old and row.old_expires_at is not None:
        until = row.old_expires_at
        is_right = until > time.time()
    if row is None or not is_right:
        raise AuthenticationError("this API key is not valid", remedy="make one: cairn key create")
    if not is_good(row):
        raise AuthenticationError(
            f"this API key is {state_of_key(row)}", remedy="make another: cairn key create"
        )
    return row, min(until, row.expires_at or float("inf"))
