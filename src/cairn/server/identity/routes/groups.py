"""Groups, for administrators: what is open to `group:NAME` in a collection is open to who is in it."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from cairn.server.auth import MayManagePeople
from cairn.server.body import RequestBody, ShortText
from cairn.server.identity import people
from cairn.server.state import state_of

router = APIRouter(prefix="/api/groups", tags=["people"])


class NewGroup(RequestBody):
    """A group to make."""

    name: ShortText
    description: ShortText = ""


class GroupOut(BaseModel):
    """A group and who is in it."""

    name: str
    description: str
    members: list[str]
    created_at: float


@router.get("")
def list_groups(request: Request, _caller: MayManagePeople) -> list[GroupOut]:
    """All groups by name."""
    with state_of(request).identity.reading() as session:
        return [
            GroupOut(name=row.name, description=row.description, members=members, created_at=row.created_at)
            for row, members in people.groups(session)
        ]


@router.post("", status_code=201)
def add_group(request: Request, caller: MayManagePeople, body: NewGroup) -> GroupOut:
    """Make a group."""
    with state_of(request).identity.changing(caller.user_id) as change:
        row = people.add_group(change, body.name, body.description)
        return GroupOut(name=row.name, description=row.description, members=[], created_at=row.created_at)


@router.delete("/{name}", status_code=204)
def remove_group(request: Request, caller: MayManagePeople, name: str) -> Response:
    """Remove a group; what is open to it alone is then open to nobody but its owner."""
    with state_of(request).identity.changing(caller.user_id) as change:
        people.remove_group(change, name)
    return Response(status_code=204)


@router.put("/{name}/members/{user_id}", status_code=204)
def join_group(request: Request, caller: MayManagePeople, name: str, user_id: str) -> Response:
    """Put somebody into a group."""
    with state_of(request).identity.changing(caller.user_id) as change:
        people.join(change, name, user_id)
    return Response(status_code=204)


@router.delete("/{name}/members/{user_id}", status_code=204)
def leave_group(request: Request, caller: MayManagePeople, name: str, user_id: str) -> Response:
    """Take somebody out of a group."""
    with state_of(request).identity.changing(caller.user_id) as change:
        people.leave(change, name, user_id)
    return Response(status_code=204)
