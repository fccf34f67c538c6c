"""People and programs with an account, and their groups. Nobody is removed: who leaves is disabled."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from cairn.core.errors import ConflictError, InvalidRequestError, NotFoundError
from cairn.server.identity.changes import Change
from cairn.server.identity.permissions import SERVICE, checked_roles
from cairn.server.tables import DeviceRow, GroupRow, MembershipRow, SessionRow, UserRow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MAX_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account."""

    user_id: str
    display_name: str
    email: str | None
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    is_disabled: bool
    has_password: bool
    created_at: float


def add(
    change: Change, user_id: str, *, roles: Sequence[str], display_name: str = "", email: str | None = None
) -> UserRow:
    """A new account, without a password."""
    if not _NAME.fullmatch(user_id):
        raise InvalidRequestError(
            f"{user_id!r} is no name for an account, allowed: letters, digits and . _ @ + -, 100 at most",
            param="user_id",
        )
    if (known := holder(change.session, user_id)) is not None:
        raise ConflictError(
            f"the name {user_id!r} belongs to the user {known!r}", remedy="choose another name"
        )
    row = UserRow(
        user_id=user_id,
        roles=checked_roles(roles),
        display_name=display_name[:_MAX_TEXT],
        email=_checked_email(change.session, email, user_id),
        password_hash=None,
        disabled_at=None,
        created_at=time.time(),
    )
    change.session.add(row)
    change.session.flush()
    change.note("user.add", user_id, roles=row.roles)
    return row


def find(session: Session, user_id: str) -> UserRow:
    """An account; `NotFoundError` when there is none."""
    row = session.get(UserRow, user_id)
    if row is None:
        raise NotFoundError(f"no user {user_id!r}", remedy="list them: cairn user ls")
    return row


def named(session: Session, name: str) -> UserRow | None:
    """Who signs in under a name: an id or an e-mail address."""
    return session.scalar(select(UserRow).where(or_(UserRow.user_id == name, UserRow.email == name.lower())))


def holder(session: Session, name: str, *, besides: str = "") -> str | None:
    """Whose id or e-mail address a name is, however it is written."""
    same = or_(func.lower(UserRow.user_id) == name.lower(), UserRow.email == name.lower())
    return session.scalar(select(UserRow.user_id).where(same, UserRow.user_id != besides).limit(1))


def person(session: Session, row: UserRow) -> Person:
    """An account with its groups."""
    return _person(row, groups_of(session, row.user_id))


def listed(session: Session) -> list[Person]:
    """All accounts by name."""
    groups: dict[str, list[str]] = {}
    for each in session.scalars(select(MembershipRow).order_by(MembershipRow.group_name)):
        groups.setdefault(each.user_id, []).append(each.group_name)
    rows = session.scalars(select(UserRow).order_by(UserRow.user_id))
    return [_person(row, groups.get(row.user_id, ())) for row in rows]


def set_details(change: Change, row: UserRow, *, display_name: str | None, email: str | None) -> None:
    """Change what is given; an empty e-mail address takes it away."""
    if display_name is not None:
        row.display_name = display_name[:_MAX_TEXT]
    if email is not None:
        row.email = _checked_email(change.session, email, row.user_id)
    change.note("user.change", row.user_id, display_name=row.display_name, email=row.email)


def set_roles(change: Change, row: UserRow, roles: Iterable[str]) -> None:
    """Give other roles; the last administrator stays one."""
    before, row.roles = row.roles, checked_roles(roles)
    if SERVICE in row.roles and row.password_hash is not None:
        row.password_hash = None
    _check_admin_remains(change.session)
    change.note("user.roles", row.user_id, before=before, roles=row.roles)


def disable(change: Change, row: UserRow) -> None:
    """Let nobody in under this name: sessions end, keys are useless until it is enabled again."""
    if row.disabled_at is None:
        row.disabled_at = time.time()
        _check_admin_remains(change.session)
        change.session.execute(delete(SessionRow).where(SessionRow.user_id == row.user_id))
        change.note("user.disable", row.user_id)


def enable(change: Change, row: UserRow) -> None:
    """Let a disabled account in again."""
    if row.disabled_at is not None:
        row.disabled_at = None
        change.note("user.enable", row.user_id)


def set_password(change: Change, row: UserRow, hashed: str, *, keep_session: str = "") -> None:
    """Set a password's hash, which was made before the change; all sessions but one end."""
    if SERVICE in row.roles:
        raise InvalidRequestError(
            f"{row.user_id} is a service account, which has keys and no password",
            remedy=f"make a key: cairn key create {row.user_id}",
        )
    row.password_hash = hashed
    others = delete(SessionRow).where(
        SessionRow.user_id == row.user_id, SessionRow.session_hash != keep_session
    )
    change.session.execute(others)
    change.session.execute(delete(DeviceRow).where(DeviceRow.user_id == row.user_id))
    change.note("user.password", row.user_id)


def groups_of(session: Session, user_id: str) -> list[str]:
    """The groups somebody is in."""
    query = select(MembershipRow.group_name).where(MembershipRow.user_id == user_id)
    return sorted(session.scalars(query))


def add_group(change: Change, name: str, description: str = "") -> GroupRow:
    """A new group, with nobody in it."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} is no name for a group, allowed: letters, digits and . _ @ + -, 100 at most",
            param="name",
        )
    if change.session.get(GroupRow, name) is not None:
        raise ConflictError(f"there is a group {name!r} already", remedy="choose another name")
    row = GroupRow(name=name, description=description[:_MAX_TEXT], created_at=time.time())
    change.session.add(row)
    change.session.flush()
    change.note("group.add", name)
    return row


def find_group(session: Session, name: str) -> GroupRow:
    """A group; `NotFoundError` when there is none."""
    row = session.get(GroupRow, name)
    if row is None:
        raise NotFoundError(f"no group {name!r}", remedy=f"make it: cairn group add {name}")
    return row


def remove_group(change: Change, name: str) -> None:
    """Remove a group; documents that are open to it alone are then open to nobody but their owner."""
    change.session.delete(find_group(change.session, name))
    change.note("group.remove", name)


def join(change: Change, name: str, user_id: str) -> None:
    """Put somebody into a group."""
    group, row = find_group(change.session, name), find(change.session, user_id)
    if change.session.get(MembershipRow, (group.name, row.user_id)) is None:
        change.session.add(MembershipRow(group_name=group.name, user_id=row.user_id))
        change.note("group.join", name, user=user_id)


def leave(change: Change, name: str, user_id: str) -> None:
    """Take somebody out of a group."""
    find_group(change.session, name)
    found = change.session.get(MembershipRow, (name, user_id))
    if found is None:
        raise NotFoundError(f"{user_id!r} is not in the group {name!r}", remedy="list it: cairn group ls")
    change.session.delete(found)
    change.note("group.leave", name, user=user_id)


def groups(session: Session) -> list[tuple[GroupRow, list[str]]]:
    """All groups by name, each with who is in it."""
    members: dict[str, list[str]] = {}
    for each in session.scalars(select(MembershipRow).order_by(MembershipRow.user_id)):
        members.setdefault(each.group_name, []).append(each.user_id)
    return [
        (row, members.get(row.name, [])) for row in session.scalars(select(GroupRow).order_by(GroupRow.name))
    ]


def _person(row: UserRow, groups: Iterable[str]) -> Person:
    return Person(
        user_id=row.user_id,
        display_name=row.display_name,
        email=row.email,
        roles=tuple(row.roles),
        groups=tuple(groups),
        is_disabled=row.disabled_at is not None,
        has_password=row.password_hash is not None,
        created_at=row.created_at,
    )


def _checked_email(session: Session, email: str | None, user_id: str) -> str | None:
    """An address as it is kept: nobody else's, and no other account's name."""
    if not email:
        return None
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email) or len(email) > _MAX_TEXT:
        raise InvalidRequestError(f"{email!r} is no e-mail address", param="email")
    if holder(session, email, besides=user_id) is not None:
        raise ConflictError(f"{email} belongs to another account", remedy="give another address")
    return email


def _check_admin_remains(session: Session) -> None:
    session.flush()
    query = select(UserRow.roles).where(UserRow.disabled_at.is_(None))
    if not any("admin" in roles for roles in session.scalars(query)):
        raise ConflictError("nobody would be administrator any more", remedy="make somebody else one first")
