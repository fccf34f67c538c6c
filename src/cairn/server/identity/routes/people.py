"""People and service accounts, for administrators. Nobody gives more than they have themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.server.auth import MayManagePeople
from cairn.server.body import RequestBody, ShortText
from cairn.server.identity import passwords, people, sessions
from cairn.server.identity.changes import Change
from cairn.server.identity.permissions import require_grant, require_models
from cairn.server.identity.routes.account import NewPassword, SessionOut, session_out
from cairn.server.state import state_of
from cairn.server.tables import UserRow

router = APIRouter(prefix="/api/people", tags=["people"])

_Roles = Annotated[list[ShortText], Field(min_length=1, max_length=10)]


class NewPerson(RequestBody):
    """An account to make; with the one role `service` it is a program's."""

    user_id: ShortText
    roles: _Roles = Field(default=["member"])
    display_name: ShortText = ""
    email: ShortText | None = None
    password: NewPassword | None = None


class PersonChange(RequestBody):
    """What shall be different; what is left out stays."""

    roles: _Roles | None = None
    display_name: ShortText | None = None
    email: ShortText | None = None
    """Empty: none any more."""
    is_disabled: bool | None = None


class PasswordOrder(RequestBody):
    """Somebody's new password."""

    password: NewPassword


class PersonOut(BaseModel):
    """An account."""

    user_id: str
    display_name: str
    email: str | None
    roles: list[str]
    groups: list[str]
    is_disabled: bool
    has_password: bool
    created_at: float


@router.get("")
def list_people(request: Request, _caller: MayManagePeople) -> list[PersonOut]:
    """All accounts by name."""
    with state_of(request).identity.reading() as session:
        return [_out(each) for each in people.listed(session)]


@router.post("", status_code=201)
def add_person(request: Request, caller: MayManagePeople, body: NewPerson) -> PersonOut:
    """Make an account."""
    require_grant(caller, body.roles, "this account")
    require_models(caller, None)
    hashed = passwords.hashed(body.password, user_id=body.user_id) if body.password is not None else None
    with state_of(request).identity.changing(caller.user_id) as change:
        row = people.add(
            change, body.user_id, roles=body.roles, display_name=body.display_name, email=body.email
        )
        if hashed is not None:
            people.set_password(change, row, hashed)
        return _out(people.person(change.session, row))


@router.get("/{user_id}")
def get_person(request: Request, _caller: MayManagePeople, user_id: str) -> PersonOut:
    """One account."""
    with state_of(request).identity.reading() as session:
        return _out(people.person(session, people.find(session, user_id)))


@router.patch("/{user_id}")
def change_person(request: Request, caller: MayManagePeople, user_id: str, body: PersonChange) -> PersonOut:
    """Change an account; the last administrator stays one."""
    with _reaching(request, caller, user_id) as (change, row):
        if body.roles is not None:
            require_grant(caller, body.roles, "this account")
            people.set_roles(change, row, body.roles)
        if body.display_name is not None or body.email is not None:
            people.set_details(change, row, display_name=body.display_name, email=body.email)
        if body.is_disabled is not None:
            (people.disable if body.is_disabled else people.enable)(change, row)
        return _out(people.person(change.session, row))


@router.put("/{user_id}/password", status_code=204)
def set_password(request: Request, caller: MayManagePeople, user_id: str, body: PasswordOrder) -> Response:
    """Set somebody's password; all their sessions end."""
    with state_of(request).identity.reading() as session:
        user_id = people.find(session, user_id).user_id
    hashed = passwords.hashed(body.password, user_id=user_id)
    with _reaching(request, caller, user_id) as (change, row):
        people.set_password(change, row, hashed)
    return Response(status_code=204)


@router.get("/{user_id}/sessions")
def list_sessions(request: Request, _caller: MayManagePeople, user_id: str) -> list[SessionOut]:
    """Where somebody is signed in."""
    with state_of(request).identity.reading() as session:
        people.find(session, user_id)
        return [session_out(row) for row in sessions.listed(session, user_id)]


@router.delete("/{user_id}/sessions", status_code=204)
def end_sessions(request: Request, caller: MayManagePeople, user_id: str) -> Response:
    """End all of somebody's sessions."""
    with state_of(request).identity.changing(caller.user_id) as change:
        sessions.end_all(change, people.find(change.session, user_id).user_id)
    return Response(status_code=204)


@contextmanager
def _reaching(request: Request, caller: Principal, user_id: str) -> Iterator[tuple[Change, UserRow]]:
    """A change of an account that may do no more than who changes it: else they could become it."""
    with state_of(request).identity.changing(caller.user_id) as change:
        row = people.find(change.session, user_id)
        require_grant(caller, row.roles, "changing this account")
        require_models(caller, None)
        yield change, row


def _out(found: people.Person) -> PersonOut:
    return PersonOut(**{name: getattr(found, name) for name in PersonOut.model_fields})
