"""Keys of one's own under `/api/keys`, everybody's under `/api/issued-keys`."""

import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.server.auth import allowed
from cairn.server.body import RequestBody, ShortText
from cairn.server.identity import keys, people
from cairn.server.identity.changes import Change
from cairn.server.identity.permissions import Permission, checked_scopes, require_grant, require_models
from cairn.server.state import state_of
from cairn.server.tables import KeyRow, UserRow

router = APIRouter(prefix="/api", tags=["keys"])

Owner = Annotated[Principal, allowed(Permission.OWN_KEYS)]
KeyAdministrator = Annotated[Principal, allowed(Permission.MANAGE_KEYS)]


class NewKey(RequestBody):
    """A key to make."""

    name: ShortText = ""
    scopes: Annotated[list[ShortText], Field(max_length=100)] | None = None
    """Permissions it is narrowed to; null: all of its owner's."""
    models: Annotated[list[ShortText], Field(min_length=1, max_length=100)] | None = None
    """Names of models it is for; null: all."""
    expires_at: float | None = None
    """Seconds since 1970; null: never."""


class NewKeyFor(NewKey):
    """A key to make for somebody."""

    user_id: ShortText


class Rotation(RequestBody):
    """How long the old secret shall stay good beside the new one."""

    overlap_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 86400.0


class KeyOut(BaseModel):
    """A key; its secret is not stored."""

    key_id: str
    user_id: str
    name: str
    state: str
    """`active`, `expired` or `revoked`."""
    scopes: list[str] | None
    models: list[str] | None
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    """To a minute."""
    old_until: float | None
    """When the secret before the last rotation ends; null once it has."""


class MadeKey(KeyOut):
    """A new key with its secret, which is shown this once."""

    key: str


@router.get("/keys")
def list_own_keys(request: Request, caller: Owner) -> list[KeyOut]:
    """One's own keys, oldest first."""
    with state_of(request).identity.reading() as session:
        return [_key(row) for row in keys.listed(session, owner=caller.user_id)]


@router.post("/keys", status_code=201)
def create_own_key(request: Request, caller: Owner, body: NewKey) -> MadeKey:
    """Make a key of one's own. One that is made with a narrowed key is at least as narrow."""
    with state_of(request).identity.changing(caller.user_id) as change:
        return _made(change, caller, caller.user_id, body)


@router.post("/keys/{key_id}/rotate")
def rotate_own_key(request: Request, caller: Owner, key_id: str, body: Rotation) -> MadeKey:
    """Give a key of one's own a new secret."""
    with state_of(request).identity.changing(caller.user_id) as change:
        return _rotated(change, caller, keys.find(change.session, key_id, owner=caller.user_id), body)


@router.delete("/keys/{key_id}", status_code=204)
def revoke_own_key(request: Request, caller: Owner, key_id: str) -> Response:
    """Make a key of one's own useless, at once."""
    with state_of(request).identity.changing(caller.user_id) as change:
        keys.revoke(change, keys.find(change.session, key_id, owner=caller.user_id))
    return Response(status_code=204)


@router.get("/issued-keys")
def list_issued_keys(request: Request, _caller: KeyAdministrator, user_id: str | None = None) -> list[KeyOut]:
    """Everybody's keys or somebody's, oldest first."""
    with state_of(request).identity.reading() as session:
        return [_key(row) for row in keys.listed(session, owner=user_id)]


@router.post("/issued-keys", status_code=201)
def issue_key(request: Request, caller: KeyAdministrator, body: NewKeyFor) -> MadeKey:
    """Make a key for somebody; one that would reach further than who makes it is refused."""
    with state_of(request).identity.changing(caller.user_id) as change:
        return _made(change, caller, body.user_id, body)


@router.post("/issued-keys/{key_id}/rotate")
def rotate_issued_key(request: Request, caller: KeyAdministrator, key_id: str, body: Rotation) -> MadeKey:
    """Give somebody's key a new secret."""
    with state_of(request).identity.changing(caller.user_id) as change:
        return _rotated(change, caller, keys.find(change.session, key_id), body)


@router.delete("/issued-keys/{key_id}", status_code=204)
def revoke_issued_key(request: Request, caller: KeyAdministrator, key_id: str) -> Response:
    """Make somebody's key useless, at once."""
    with state_of(request).identity.changing(caller.user_id) as change:
        keys.revoke(change, keys.find(change.session, key_id))
    return Response(status_code=204)


def _made(change: Change, caller: Principal, owner: str, body: NewKey) -> MadeKey:
    row = people.find(change.session, owner)
    scopes = checked_scopes(body.scopes, row.roles)
    _check_reach(caller, row, scopes, body.models)
    made, key = keys.create(
        change, owner, name=body.name.strip(), scopes=scopes, models=body.models, expires_at=body.expires_at
    )
    return MadeKey(**_key(made).model_dump(), key=key)


def _rotated(change: Change, caller: Principal, row: KeyRow, body: Rotation) -> MadeKey:
    """Who gets a key's secret can use it: no narrow key becomes a wide one by rotating another."""
    _check_reach(caller, people.find(change.session, row.user_id), row.scopes, row.models)
    key = keys.rotate(change, row, overlap_seconds=body.overlap_seconds)
    return MadeKey(**_key(row).model_dump(), key=key)


def _check_reach(
    caller: Principal, owner: UserRow, scopes: list[str] | None, models: list[str] | None
) -> None:
    require_grant(caller, owner.roles, "this key", scopes=scopes)
    require_models(caller, models)


def _key(row: KeyRow) -> KeyOut:
    is_overlapping = row.old_expires_at is not None and row.old_expires_at > time.time()
    return KeyOut(
        key_id=row.key_id,
        user_id=row.user_id,
        name=row.name,
        state=keys.state_of_key(row),
        scopes=row.scopes,
        models=row.models,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        old_until=row.old_expires_at if is_overlapping else None,
    )
