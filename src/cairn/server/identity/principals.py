"""Identity: from a key, a cookie, a link or a password to who asks; fast, because it is in every request.

What was verified is remembered, until anybody changes who may do what: this process, or another one of the
machine (`cairn key revoke` beside a running server). With Postgres another's change is felt within seconds.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from sqlalchemy import update
from sqlalchemy.orm import Session

from cairn.core.bounded_cache import BoundedCache
from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, StorageError
from cairn.registry import MARKED_SECONDS, AuditLog, Database, Mark
from cairn.server.identity import keys, passwords, people, sessions
from cairn.server.identity.changes import Change, digest_of
from cairn.server.identity.permissions import SERVICE, checked_scopes
from cairn.server.tables import KeyRow, UserRow

logger = logging.getLogger("cairn.server")

ADMIN = "admin"
COOKIE = "cairn_session"
"""The name under which a browser keeps its session."""
TRUST_SECONDS = 5.0
"""How long what was verified is not looked up again where only the database knows of changes."""
PEOPLE = "people"
"""The mark of changes to who may do what."""
_NOTE_SECONDS = 60.0
_MAX_REMEMBERED = 10_000
_LOCAL = "local"
_YEAR = 365 * 86400.0

Kind = Literal["key", "session"]


@dataclass(slots=True)
class _Known:
    """Who was verified, as long as that holds, and when a use was last noted."""

    principal: Principal
    trusted_until: float
    good_until: float
    mark: Mark | None
    ref: str
    """Of a key its id, of a session its hash."""
    noted: float


_Remembered = BoundedCache[tuple[Kind, str], _Known]


class Identity:
    """Accounts and their secrets, in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._audit = AuditLog(database)
        self._lock = Lock()
        self._remembered = _Remembered(_MAX_REMEMBERED)
        self._uses: dict[
            tuple[Kind, str], float
        ] = {}  # of keys by id and of sessions by hash, not written yet

    @contextmanager
    def changing(self, actor: str = _LOCAL) -> Iterator[Change]:
        """Change who may do what; nothing remembered outlives it."""
        with self._database.writing(marks=PEOPLE) as session:
            yield Change(session, self._audit, actor)
        self._forget()

    def reading(self) -> Session:
        """A session to read accounts in."""
        return self._database.session(read_only=True)

    def ensure_admin(self) -> str | None:
        """Make the administrator on the first start; the key is returned then and never again."""
        with self.reading() as session:
            if session.get(UserRow, ADMIN) is not None:
                return None
        return self.create_key(ADMIN, roles=("admin", "member"))

    def create_key(
        self,
        user_id: str,
        *,
        roles: Sequence[str] = ("member",),
        name: str = "",
        scopes: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        seconds: float | None = None,
        actor: str = _LOCAL,
    ) -> str:
        """A new key, good for `seconds`, of a person who is made (with `roles`) when not known yet."""
        with self.changing(actor) as change:
            row = change.session.get(UserRow, user_id) or people.add(change, user_id, roles=roles)
            _, key = keys.create(
                change,
                user_id,
                name=name,
                scopes=checked_scopes(scopes, row.roles),
                models=models,
                expires_at=None if seconds is None else time.time() + seconds,
            )
        return key

    def list_keys(self) -> list[KeyRow]:
        """All keys, oldest first; secrets are not among what is stored."""
        with self.reading() as session:
            return keys.listed(session)

    def revoke_key(self, key_id: str, *, actor: str = _LOCAL) -> None:
        """Make a key useless from now on."""
        with self.changing(actor) as change:
            keys.revoke(change, keys.find(change.session, key_id))

    def remembered(self, kind: Kind, secret: str) -> Principal | None:
        """Who a key or a cookie was verified to be a moment ago."""
        found = self._remembered.get((kind, digest_of(secret)))
        if found is None:
            return None
        now = time.time()
        if time.monotonic() >= found.trusted_until or now >= found.good_until:
            return None
        if found.mark != self._database.mark_of(PEOPLE):
            return None
        self._note_use(kind, found, now)
        return found.principal

    def principal_for(self, kind: Kind, secret: str) -> Principal:
        """Who holds a key or a cookie; `AuthenticationError` for a wrong, revoked or expired one."""
        known = self.remembered(kind, secret)
        return known if known is not None else self._verified(kind, secret)

    def principal_for_key(self, key: str) -> Principal:
        """Who holds a key; `AuthenticationError` for a wrong, revoked or expired one."""
        return self.principal_for("key", key)

    def principal_of(self, user_id: str) -> Principal:
        """An account as who asks, with its groups."""
        with self.reading() as session:
            return _principal(session, people.find(session, user_id))

    def principal_for_password(self, name: str, password: str) -> Principal:
        """Who signs in under a name with a password; an unknown name takes as long as a wrong password."""
        with self.reading() as session:
            row = people.named(session, name)
        is_open = row is not None and row.disabled_at is None and SERVICE not in row.roles
        kept = row.password_hash if row is not None and is_open else None
        if not passwords.is_right(kept, password):
            raise AuthenticationError(
                "name or password is not right", remedy="try again, or ask an administrator for a new one"
            )
        assert row is not None
        assert kept is not None
        if passwords.needs_rehash(kept):
            anew = passwords.hashed(password, user_id=row.user_id)
            with self._database.writing() as session:
                people.find(session, row.user_id).password_hash = anew
        return self.principal_of(row.user_id)

    def create_sign_in_token(self, user_id: str, *, seconds: float) -> str:
        """The secret of a one-time link that signs `user_id` in."""
        with self._database.writing() as session:
            return sessions.create_link(session, user_id, seconds=seconds)

    def redeem(self, token: str) -> Principal:
        """Use a link up; `AuthenticationError` when it is unknown, used or too old."""
        with self._database.writing() as session:
            user_id = sessions.redeem(session, token)
        return self.principal_of(user_id)

    def create_session(
        self,
        user_id: str,
        *,
        seconds: float,
        most: float = _YEAR,
        browser: sessions.Browser = sessions.Browser(),  # noqa: B008 (it never changes)
    ) -> str:
        """The cookie of a new browser session."""
        with self._database.writing() as session:
            return sessions.create(session, user_id, seconds=seconds, most=most, browser=browser)

    def end_session(self, cookie: str) -> None:
        """Sign a browser out."""
        with self._database.writing(marks=PEOPLE) as session:
            sessions.end(session, cookie)
        self._forget()

    def knows_device(self, name: str, device: str) -> bool:
        """Whether whoever signs in under a name did so in this browser before."""
        with self.reading() as session:
            row = people.named(session, name)
            return row is not None and sessions.knows_device(session, row.user_id, device)

    def remember_device(self, user_id: str, device: str) -> None:
        """Know a browser again."""
        with self._database.writing() as session:
            sessions.remember_device(session, user_id, device)

    @property
    def has_uses(self) -> bool:
        """Whether it is time for `write_uses`."""
        return bool(self._uses)

    def write_uses(self) -> None:
        """Write when keys and sessions were last used: at most once a minute for each."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if not uses:
            return  # another thread does it
        try:
            with self._database.writing() as session:
                for (kind, ref), at in uses.items():
                    if kind == "key":
                        used = update(KeyRow).where(KeyRow.key_id == ref).values(last_used_at=at)
                        session.execute(used)
                    else:
                        sessions.slide(session, ref, at)
        except StorageError as error:
            logger.warning("when keys were used could not be written: %s", error.message)

    def _verified(self, kind: Kind, secret: str) -> Principal:
        # The one that is there now: what is read here may be changed, and forgotten, meanwhile.
        remembered, mark, now = self._remembered, self._database.mark_of(PEOPLE), time.time()
        with self.reading() as session:
            key: KeyRow | None = None
            if kind == "key":
                key, good_until = keys.verified(session, secret)
                user_id, ref, noted = key.user_id, key.key_id, key.last_used_at or 0.0
            else:
                found = sessions.verified(session, secret)
                good_until, user_id = found.expires_at, found.user_id
                ref, noted = found.session_hash, found.last_seen_at
            principal = _principal(session, people.find(session, user_id), key)
        trusted_until = time.monotonic() + (TRUST_SECONDS if mark is None else MARKED_SECONDS)
        known = _Known(principal, trusted_until, good_until, mark, ref, noted)
        self._note_use(kind, known, now)
        remembered.put((kind, digest_of(secret)), known, 1)
        return principal

    def _note_use(self, kind: Kind, known: _Known, now: float) -> None:
        if now - known.noted > _NOTE_SECONDS:
            known.noted = now
            with self._lock:
                self._uses[kind, known.ref] = now

    def _forget(self) -> None:
        self._remembered = _Remembered(_MAX_REMEMBERED)


def _principal(session: Session, user: UserRow, key: KeyRow | None = None) -> Principal:
    if user.disabled_at is not None:
        raise AuthenticationError(
            f"{user.user_id} is disabled", remedy="ask an administrator: cairn user enable"
        )
    return Principal(
        user.user_id,
        groups=frozenset(people.groups_of(session, user.user_id)),
        roles=frozenset(user.roles),
        key_id=key.key_id if key is not None else "",
        scopes=None if key is None or key.scopes is None else frozenset(key.scopes),
        models=None if key is None or key.models is None else frozenset(key.models),
    )
