"""One's own account: password and sessions; and the table of permissions."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from starlette.responses import Response

from cairn.core.errors import InvalidRequestError
from cairn.server.auth import SignedIn, address_of
from cairn.server.body import RequestBody
from cairn.server.identity import COOKIE, passwords, people, sessions
from cairn.server.identity.changes import digest_of
from cairn.server.identity.permissions import MEANING, require_grant, require_models, roles_with
from cairn.server.identity.throttle import address_source
from cairn.server.state import state_of
from cairn.server.tables import SessionRow

router = APIRouter(prefix="/api", tags=["account"])

NewPassword = Annotated[str, StringConstraints(max_length=10_000)]


class PasswordChange(RequestBody):
    """The password of now (empty where there is none yet), and the new one."""

    current: NewPassword
    new: NewPassword


class AccountOut(BaseModel):
    """An account, as its owner sees it."""

    user_id: str
    display_name: str
    email: str | None
    roles: list[str]
    groups: list[str]
    has_password: bool
    created_at: float


class SessionOut(BaseModel):
    """A browser that is signed in."""

    session_id: str
    address: str
    agent: str
    created_at: float
    last_seen_at: float
    """To a minute."""
    expires_at: float
    is_current: bool
    """Whether it is the one that asks."""


class PermissionOut(BaseModel):
    """A permission, what it allows, and the roles that have it."""

    name: str
    meaning: str
    roles: list[str]


@router.get("/account")
def own_account(request: Request, caller: SignedIn) -> AccountOut:
    """Who one is here."""
    with state_of(request).identity.reading() as session:
        row = people.find(session, caller.user_id)
        return AccountOut(
            user_id=row.user_id,
            display_name=row.display_name,
            email=row.email,
            roles=sorted(caller.roles),
            groups=sorted(caller.groups),
            has_password=row.password_hash is not None,
            created_at=row.created_at,
        )


@router.put("/account/password", status_code=204)
def change_own_password(request: Request, caller: SignedIn, body: PasswordChange) -> Response:
    """Change one's own password; every other session ends."""
    require_grant(caller, caller.roles, "a password")
    require_models(caller, None)
    state = state_of(request)
    with state.identity.reading() as session:
        row = people.find(session, caller.user_id)
    with state.failures.attempt(address_source(address_of(request)), wrong=InvalidRequestError):
        if row.password_hash is not None and not passwords.is_right(row.password_hash, body.current):
            raise InvalidRequestError(
                "the current password is not right", remedy="type it again", param="current"
            )
    hashed = passwords.hashed(body.new, user_id=row.user_id)
    with state.identity.changing(caller.user_id) as change:
        keep = digest_of(request.cookies.get(COOKIE, ""))
        people.set_password(change, people.find(change.session, caller.user_id), hashed, keep_session=keep)
    return Response(status_code=204)


@router.get("/account/sessions")
def list_own_sessions(request: Request, caller: SignedIn) -> list[SessionOut]:
    """Where one is signed in, the last used first."""
    current = digest_of(request.cookies.get(COOKIE, ""))
    with state_of(request).identity.reading() as session:
        return [session_out(row, current) for row in sessions.listed(session, caller.user_id)]


@router.delete("/account/sessions", status_code=204)
def end_own_sessions(request: Request, caller: SignedIn) -> Response:
    """Sign out everywhere: all sessions of one's own end, this one too."""
    with state_of(request).identity.changing(caller.user_id) as change:
        sessions.end_all(change, caller.user_id)
    return Response(status_code=204)


@router.delete("/account/sessions/{session_id}", status_code=204)
def end_own_session(request: Request, caller: SignedIn, session_id: str) -> Response:
    """End a session of one's own."""
    with state_of(request).identity.changing(caller.user_id) as change:
        sessions.end_one(change, session_id, owner=caller.user_id)
    return Response(status_code=204)


@router.get("/permissions")
def list_permissions(_caller: SignedIn) -> list[PermissionOut]:
    """The table of permissions."""
    return [
        PermissionOut(
            name=permission,
            meaning=meaning,
            roles=roles_with(permission),
        )
        for permission, meaning in MEANING.items()
    ]


def session_out(row: SessionRow, current: str = "") -> SessionOut:
    """A session as it is listed."""
    return SessionOut(
        session_id=row.session_id,
        address=row.address,
        agent=row.agent,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        is_current=row.session_hash == current,
    )
