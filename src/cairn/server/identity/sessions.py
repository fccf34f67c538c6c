"""One-time links, browser sessions, and browsers in which somebody signed in before.

Only hashes are stored. A link works once and for minutes; redeeming it is one conditional DELETE, so
two clicks at the same time cannot both succeed. A session lasts as long as it is used, up to its end.
"""

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from cairn.core.errors import AuthenticationError, NotFoundError
from cairn.server.identity.changes import Change, digest_of
from cairn.server.tables import DeviceRow, SessionRow, SignInTokenRow

_MAX_DEVICES = 20
"""Of one person; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a session is used."""

    address: str = ""
    agent: str = ""


def create_link(session: Session, user_id: str, *, seconds: float) -> str:
    """The secret of a one-time link."""
    token, now = secrets.token_urlsafe(32), time.time()
    session.execute(delete(SignInTokenRow).where(SignInTokenRow.expires_at < now))
    session.add(SignInTokenRow(token_hash=digest_of(token), user_id=user_id, expires_at=now + seconds))
    return token


def redeem(session: Session, token: str) -> str:
    """Use a link up: whose it is."""
    row = session.execute(
        delete(SignInTokenRow)
        .where(SignInTokenRow.token_hash == digest_of(token))
        .returning(SignInTokenRow.user_id, SignInTokenRow.expires_at)
    ).first()
    if row is None or row.expires_at < time.time():
        raise AuthenticationError(
            "this sign-in link is used up or too old", remedy="make another: cairn key link"
        )
    return str(row.user_id)


def create(session: Session, user_id: str, *, seconds: float, most: float, browser: Browser) -> str:
    """The cookie of a new session, which ends `seconds` after its last use and after `most` at all events."""
    cookie, now = secrets.token_urlsafe(32), time.time()
    session.execute(delete(SessionRow).where(SessionRow.expires_at < now))
    row = SessionRow(
        session_hash=digest_of(cookie),
        session_id=secrets.token_hex(8),
        user_id=user_id,
        address=browser.address,
        agent=browser.agent[:200],
        created_at=now,
        last_seen_at=now,
        idle_seconds=seconds,
        expires_at=now + min(seconds, most),
        ends_at=now + most,
    )
    session.add(row)
    return cookie


def verified(session: Session, cookie: str) -> SessionRow:
    """The session of a cookie; `AuthenticationError` when it has ended."""
    row = session.get(SessionRow, digest_of(cookie))
    if row is None or row.expires_at < time.time():
        raise AuthenticationError("your sign-in has ended", remedy="sign in again")
    return row


def slide(session: Session, session_hash: str, seen_at: float) -> None:
    """Move the end of a session on, because it was used."""
    row = session.get(SessionRow, session_hash)
    if row is not None and row.expires_at > seen_at > row.last_seen_at:
        expires_at = max(row.expires_at, min(seen_at + row.idle_seconds, row.ends_at))
        session.execute(
            update(SessionRow)
            .where(SessionRow.session_hash == session_hash)
            .values(last_seen_at=seen_at, expires_at=expires_at)
        )


def listed(session: Session, user_id: str) -> list[SessionRow]:
    """Somebody's sessions, the last used first."""
    query = select(SessionRow).where(SessionRow.user_id == user_id, SessionRow.expires_at >= time.time())
    return list(session.scalars(query.order_by(SessionRow.last_seen_at.desc())))


def end(session: Session, cookie: str) -> None:
    """End the session of a cookie, if there is one."""
    session.execute(delete(SessionRow).where(SessionRow.session_hash == digest_of(cookie)))


def end_one(change: Change, session_id: str, *, owner: str) -> None:
    """End one of somebody's sessions."""
    mine = delete(SessionRow).where(SessionRow.session_id == session_id, SessionRow.user_id == owner)
    if change.session.execute(mine.returning(SessionRow.session_id)).first() is None:
        raise NotFoundError(f"no session {session_id!r}", remedy="it may have ended already")
    change.note("session.end", owner, session=session_id)


def end_all(change: Change, owner: str) -> None:
    """End all of somebody's sessions."""
    change.session.execute(delete(SessionRow).where(SessionRow.user_id == owner))
    change.note("session.end", owner, session="all")


def knows_device(session: Session, user_id: str, device: str) -> bool:
    """Whether somebody signed in to an account in a browser before."""
    return session.get(DeviceRow, (digest_of(device), user_id)) is not None


def remember_device(session: Session, user_id: str, device: str) -> None:
    """Know a browser again."""
    if not knows_device(session, user_id, device):
        session.add(DeviceRow(device_hash=digest_of(device), user_id=user_id, created_at=time.time()))
        session.flush()
        mine = select(DeviceRow.device_hash).where(DeviceRow.user_id == user_id)
        newest = mine.order_by(DeviceRow.created_at.desc()).limit(_MAX_DEVICES)
        session.execute(
            delete(DeviceRow).where(DeviceRow.user_id == user_id, DeviceRow.device_hash.not_in(newest))
        )
