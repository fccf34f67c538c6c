"""The routes of saved prompts."""

import re
import time
import uuid
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.registry import AuditLog
from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.identity.permissions import Permission, permissions_of, require
from cairn.server.prompts.tables import PromptRow
from cairn.server.state import state_of

router = APIRouter(prefix="/api", tags=["prompts"])

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Content = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
_VARIABLE = re.compile(r"\{\{\s*([^{}\n]{1,100}?)\s*\}\}")
_MAX_PROMPTS = 1000


class NewPrompt(RequestBody):
    """A prompt to save."""

    name: Name
    content: Content
    is_shared: bool = False


class PromptChange(RequestBody):
    """What is given is changed."""

    name: Name | None = None
    content: Content | None = None
    is_shared: bool | None = None


class Prompt(BaseModel):
    """A saved prompt."""

    prompt_id: str
    name: str
    content: str
    variables: list[str]
    """What stands in `{{ }}`, each once, in order."""
    is_shared: bool
    owner: str
    may_change: bool
    updated_at: float


@router.get("/prompts")
def list_prompts(request: Request, caller: MayConverse) -> list[Prompt]:
    """The caller's prompts and those that are shared with everyone, by name."""
    query = select(PromptRow).where(or_(PromptRow.user_id == caller.user_id, PromptRow.is_shared))
    with state_of(request).registry.database.session(read_only=True) as session:
        found = [_prompt(row, caller) for row in session.scalars(query)]
    return sorted(found, key=lambda each: (each.name.casefold(), each.prompt_id))


@router.post("/prompts", status_code=201)
def create_prompt(request: Request, caller: MayConverse, body: NewPrompt) -> Prompt:
    """Save a prompt."""
    registry = state_of(request).registry
    now = time.time()
    row = PromptRow(
        prompt_id=f"prompt_{uuid.uuid4().hex}",
        user_id=caller.user_id,
        name=body.name,
        content=body.content,
        is_shared=False,
        created_at=now,
        updated_at=now,
    )
    with registry.database.writing() as session:
        own = select(func.count()).select_from(PromptRow).where(PromptRow.user_id == caller.user_id)
        if (session.scalar(own) or 0) >= _MAX_PROMPTS:
            raise InvalidRequestError(
                f"there are {_MAX_PROMPTS} prompts, which is the most", remedy="delete one first"
            )
        session.add(row)
        if body.is_shared:
            _set_shared(session, registry.audit, caller, row, is_shared=True)
        return _prompt(row, caller)


@router.patch("/prompts/{prompt_id}")
def change_prompt(request: Request, caller: MayConverse, prompt_id: str, body: PromptChange) -> Prompt:
    """Change a prompt of one's own, or one that is everybody's."""
    registry = state_of(request).registry
    with registry.database.writing() as session:
        row = _changeable(session, prompt_id, caller)
        if body.is_shared is not None and body.is_shared != row.is_shared:
            _set_shared(session, registry.audit, caller, row, is_shared=body.is_shared)
        if row.is_shared:
            require(caller, Permission.SHARE_PROMPTS)
        row.name = body.name or row.name
        row.content = body.content or row.content
        row.updated_at = time.time()
        return _prompt(row, caller)


@router.delete("/prompts/{prompt_id}", status_code=204)
def delete_prompt(request: Request, caller: MayConverse, prompt_id: str) -> Response:
    """Delete a prompt."""
    registry = state_of(request).registry
    with registry.database.writing() as session:
        row = _changeable(session, prompt_id, caller)
        if row.is_shared:
            _set_shared(session, registry.audit, caller, row, is_shared=False)
        session.delete(row)
    return Response(status_code=204)


def _changeable(session: Session, prompt_id: str, caller: Principal) -> PromptRow:
    """A prompt to change: what all see needs the permission, whoever made it; another's own is not there."""
    row = session.get(PromptRow, prompt_id)
    if row is None or not (row.is_shared or row.user_id == caller.user_id):
        raise NotFoundError(f"no prompt {prompt_id!r}")
    if row.is_shared and row.user_id != caller.user_id:
        require(caller, Permission.SHARE_PROMPTS)
    return row


def _set_shared(
    session: Session, audit: AuditLog, caller: Principal, row: PromptRow, *, is_shared: bool
) -> None:
    if is_shared:
        require(caller, Permission.SHARE_PROMPTS)
    row.is_shared = is_shared
    action = "prompt.share" if is_shared else "prompt.unshare"
    audit.append_in(session, action, caller.user_id, row.prompt_id, {"name": row.name, "owner": row.user_id})


def _prompt(row: PromptRow, caller: Principal) -> Prompt:
    is_own = row.user_id == caller.user_id
    return Prompt(
        prompt_id=row.prompt_id,
        name=row.name,
        content=row.content,
        variables=list(dict.fromkeys(_VARIABLE.findall(row.content))),
        is_shared=row.is_shared,
        owner=row.user_id,
        may_change=is_own or Permission.SHARE_PROMPTS in permissions_of(caller),
        updated_at=row.updated_at,
    )
