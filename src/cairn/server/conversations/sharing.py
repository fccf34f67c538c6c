"""Links to conversations: made, listed and ended by their owner, read by others.

A link shows a snapshot: the turns that were on show when it was made, and nothing that came later. Only the
token's hash is kept. What a reply cites is shown as far as the document is open to who reads; of the others
not even the name. Turns of the system, calls of tools and what they gave, receipts, judgements and other
versions are not in it.
"""

import secrets
import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from cairn.core.chat import Principal
from cairn.core.errors import ForbiddenError, InvalidRequestError, NotFoundError
from cairn.registry import AuditLog
from cairn.server.auth import PUBLIC, MayConverse, SignedIn
from cairn.server.body import RequestBody
from cairn.server.conversations.citing import StoredCitation, checks, citations, open_documents
from cairn.server.conversations.messages import line_of, turns_of
from cairn.server.conversations.owning import new_id, owned
from cairn.server.conversations.tables import ShareRow
from cairn.server.identity.changes import digest_of
from cairn.server.openai_types import SentenceCheck
from cairn.server.state import ServerState, state_of
from cairn.server.tables import UserRow

router = APIRouter()

Audience = Literal["server", "anyone"]
_SHOWN = ("user", "assistant")


class NewShare(RequestBody):
    """A link to make."""

    message_id: str | None = None
    """The last turn to show; without one, the newest versions of all."""
    audience: Audience = "server"
    """Whoever is signed in to this server, or whoever has the link, where the operator allows that."""


class Share(BaseModel):
    """A link; its secret part was shown when it was made."""

    share_id: str
    conversation_id: str
    title: str
    audience: Audience
    num_turns: int
    created_at: float


class MadeShare(Share):
    """A new link."""

    token: str
    """The end of the link, `/shared/TOKEN`; told this once."""


class ShareList(BaseModel):
    """The caller's links, the newest first."""

    shares: list[Share]
    allows_anyone: bool
    """Whether the operator lets links be open to who is not signed in."""


class SharedTurn(BaseModel):
    """A turn as others see it."""

    role: str
    content: str
    annotations: list[StoredCitation]
    sentences: list[SentenceCheck]
    created_at: float


class SharedConversation(BaseModel):
    """A conversation as it was when its link was made."""

    title: str
    model: str
    owner: str
    """What who shares it is called; empty for who is not signed in."""
    created_at: float
    turns: list[SharedTurn]


@router.post("/conversations/{conversation_id}/shares", status_code=201)
def share_conversation(
    request: Request, caller: MayConverse, conversation_id: str, body: NewShare
) -> MadeShare:
    """Make a link to a conversation as it is now."""
    state = state_of(request)
    token = secrets.token_urlsafe(32)
    with state.registry.database.writing() as session:
        conversation = owned(session, conversation_id, caller.user_id)
        if body.audience == "anyone" and not state.config.public_links:
            raise ForbiddenError(
                "links of this server are for those who are signed in",
                remedy='share with "server", or ask the operator to start it with --public-links',
            )
        line = line_of(turns_of(session, conversation_id), body.message_id)
        turns = [
            {"role": row.role, "content": row.content, "sources": row.sources, "created_at": row.created_at}
            for row in line
            if row.role in _SHOWN and (row.content.strip() or not row.tool_calls)
        ]
        if not turns:
            raise InvalidRequestError("the conversation is empty", remedy="share it when something is said")
        row = ShareRow(
            share_id=new_id("share"),
            token_hash=digest_of(token),
            conversation_id=conversation_id,
            user_id=caller.user_id,
            audience=body.audience,
            title=conversation.title,
            model=conversation.model,
            turns=turns,
            created_at=time.time(),
        )
        session.add(row)
        details = {"conversation": conversation_id, "audience": body.audience, "turns": len(turns)}
        state.registry.audit.append_in(session, "conversation.share", caller.user_id, row.share_id, details)
        return MadeShare(**_share(row).model_dump(), token=token)


@router.get("/shares")
def list_shares(request: Request, caller: MayConverse) -> ShareList:
    """The caller's links."""
    state = state_of(request)
    query = select(ShareRow).where(ShareRow.user_id == caller.user_id).order_by(ShareRow.created_at.desc())
    with state.registry.database.session(read_only=True) as session:
        shares = [_share(row) for row in session.scalars(query)]
    return ShareList(shares=shares, allows_anyone=state.config.public_links)


@router.delete("/shares/{share_id}", status_code=204)
def end_share(request: Request, caller: MayConverse, share_id: str) -> Response:
    """End a link: from now on it leads nowhere."""
    state = state_of(request)
    with state.registry.database.writing() as session:
        own = (ShareRow.share_id == share_id) & (ShareRow.user_id == caller.user_id)
        if not end_links(session, state.registry.audit, caller, own):
            raise NotFoundError(f"no shared link {share_id!r}")
    return Response(status_code=204)


@router.get("/shared/{token}")
def read_shared(request: Request, caller: SignedIn, token: str) -> SharedConversation:
    """What a link shows to somebody who is signed in."""
    return _read(state_of(request), token, caller)


@router.get("/public/{token}", dependencies=[PUBLIC])
def read_public(request: Request, token: str) -> SharedConversation:
    """What a link shows to anyone, where the operator and the owner allow it."""
    return _read(state_of(request), token, None)


def end_links(session: Session, audit: AuditLog, caller: Principal, which: ColumnElement[bool]) -> int:
    """End links in a writing session, each with its audit entry; how many there were."""
    ended = session.execute(select(ShareRow.share_id, ShareRow.conversation_id).where(which)).all()
    for each in ended:
        session.execute(delete(ShareRow).where(ShareRow.share_id == each.share_id))
        details = {"conversation": each.conversation_id}
        audit.append_in(session, "conversation.unshare", caller.user_id, each.share_id, details)
    return len(ended)


def _read(state: ServerState, token: str, caller: Principal | None) -> SharedConversation:
    with state.registry.database.session(read_only=True) as session:
        query = (
            select(ShareRow, UserRow.display_name)
            .join(UserRow, ShareRow.user_id == UserRow.user_id)
            .where(ShareRow.token_hash == digest_of(token), UserRow.disabled_at.is_(None))
        )
        found = session.execute(query).one_or_none()
        is_for_all = found is not None and found[0].audience == "anyone" and state.config.public_links
        if found is None or (caller is None and not is_for_all):
            raise NotFoundError(
                "this link leads nowhere", remedy="it may have been ended; ask who sent it for another"
            )
        row, name = found
        replies = [turn["sources"] for turn in row.turns]
        are_open = open_documents(session, replies, caller) if caller is not None else set()
        return SharedConversation(
            title=row.title,
            model=row.model,
            owner=(name or row.user_id) if caller is not None else "",
            created_at=row.created_at,
            turns=[
                SharedTurn(
                    role=turn["role"],
                    content=turn["content"],
                    annotations=citations(turn["sources"], are_open, of_another=True),
                    sentences=checks(turn["sources"]),
                    created_at=turn["created_at"],
                )
                for turn in row.turns
            ],
        )


def _share(row: ShareRow) -> Share:
    return Share(
        share_id=row.share_id,
        conversation_id=row.conversation_id,
        title=row.title,
        audience="anyone" if row.audience == "anyone" else "server",
        num_turns=len(row.turns),
        created_at=row.created_at,
    )
