"""Who asks: API keys, one-time sign-in links and browser sessions.

A secret is shown once, when it is made; only its SHA-256 is stored, and digests are compared in
constant time. A link works once and for minutes; redeeming it is one conditional DELETE, so
two clicks at the same time cannot both succeed.
Not covered yet: groups, single sign-on, key scopes.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence

from sqlalchemy import delete, select, update

from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, NotFoundError
from cairn.registry import Database
from cairn.server.tables import KeyRow, SessionRow, SignInTokenRow, UserRow

KEY_PREFIX = "cairn_"
ADMIN = "admin"
COOKIE = "cairn_session"
"""The name under which a browser keeps its session."""


class Identity:
    """Users and their secrets, in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure_admin(self) -> str | None:
        """Make the administrator on the first start; the key is returned then and never again."""
        with self._database.session(read_only=True) as session:
            if session.get(UserRow, ADMIN) is not None:
                return None
        return self.create_key(ADMIN, roles=("admin", "user"))

    def create_key(self, user_id: str, *, roles: Sequence[str] = ("user",)) -> str:
        """A new key for a user, who is made (with `roles`) when not known yet."""
        # Hexadecimal, so that a double click selects the whole key.
        key_id, secret, now = secrets.token_hex(6), secrets.token_hex(32), time.time()
        with self._database.session() as session, session.begin():
            if session.get(UserRow, user_id) is None:
                session.add(UserRow(user_id=user_id, roles=sorted(roles), created_at=now))
                session.flush()
            session.add(
                KeyRow(
                    key_id=key_id,
                    user_id=user_id,
                    secret_hash=_hash(secret),
                    created_at=now,
                    revoked_at=None,
                )
            )
        return f"{KEY_PREFIX}{key_id}_{secret}"

    def list_keys(self) -> list[KeyRow]:
        """All keys, oldest first; secrets are not among what is stored."""
        with self._database.session(read_only=True) as session:
            return list(session.scalars(select(KeyRow).order_by(KeyRow.created_at)))

    def revoke_key(self, key_id: str) -> None:
        """Make a key useless from now on."""
        with self._database.session() as session, session.begin():
            changed = session.execute(
                update(KeyRow)
                .where(KeyRow.key_id == key_id)
                .values(revoked_at=time.time())
                .returning(KeyRow.key_id)
            ).all()
        if not changed:
            raise NotFoundError(f"no key {key_id!r}", remedy="list them: cairn key ls")

    def principal_for_key(self, key: str) -> Principal:
        """Who holds a key; `AuthenticationError` for a wrong or revoked one."""
        key_id, _, secret = key.removeprefix(KEY_PREFIX).partition("_")
        with self._database.session(read_only=True) as session:
            row = session.get(KeyRow, key_id) if key.startswith(KEY_PREFIX) else None
            # The comparison is made for unknown ids too, so that timing does not tell them apart.
            is_right = hmac.compare_digest(_hash(secret), row.secret_hash if row else _hash(""))
            if row is None or not is_right or row.revoked_at is not None:
                raise AuthenticationError("this API key is not valid", remedy="make one: cairn key create")
            return _principal(session.get(UserRow, row.user_id))

    def create_sign_in_token(self, user_id: str, *, seconds: float) -> str:
        """The secret of a one-time link that signs `user_id` in."""
        token = secrets.token_urlsafe(32)
        with self._database.session() as session, session.begin():
            session.execute(delete(SignInTokenRow).where(SignInTokenRow.expires_at < time.time()))
            session.add(
                SignInTokenRow(token_hash=_hash(token), user_id=user_id, expires_at=time.time() + seconds)
            )
        return token

    def redeem(self, token: str) -> Principal:
        """Use a link up; `AuthenticationError` when it is unknown, used or too old."""
        with self._database.session() as session, session.begin():
            row = session.execute(
                delete(SignInTokenRow)
                .where(SignInTokenRow.token_hash == _hash(token))
                .returning(SignInTokenRow.user_id, SignInTokenRow.expires_at)
            ).first()
            if row is None or row.expires_at < time.time():
                raise AuthenticationError(
                    "this sign-in link is used up or too old", remedy="make another: cairn key link"
                )
            return _principal(session.get(UserRow, row.user_id))

    def create_session(self, user_id: str, *, seconds: float) -> str:
        """The cookie of a new browser session."""
        cookie, now = secrets.token_urlsafe(32), time.time()
        with self._database.session() as session, session.begin():
            session.execute(delete(SessionRow).where(SessionRow.expires_at < now))
            session.add(
                SessionRow(
                    session_hash=_hash(cookie), user_id=user_id, created_at=now, expires_at=now + seconds
                )
            )
        return cookie

    def principal_for_session(self, cookie: str) -> Principal:
        """Who is signed in with a cookie."""
        with self._database.session(read_only=True) as session:
            row = session.get(SessionRow, _hash(cookie))
            if row is None or row.expires_at < time.time():
                raise AuthenticationError("your sign-in has ended", remedy="sign in again")
            return _principal(session.get(UserRow, row.user_id))

    def end_session(self, cookie: str) -> None:
        """Sign a browser out."""
        with self._database.session() as session, session.begin():
            session.execute(delete(SessionRow).where(SessionRow.session_hash == _hash(cookie)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _principal(row: UserRow | None) -> Principal:
    assert row is not None, "keys and sessions refer to users"
    return Principal(row.user_id, roles=frozenset(row.roles))
