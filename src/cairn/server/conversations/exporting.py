"""Conversations as files: JSON that can be imported again, Markdown to read."""

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse

from cairn.core.chat import Principal
from cairn.registry import Database
from cairn.server.auth import MayConverse
from cairn.server.conversations.calling import Role, calls_of
from cairn.server.conversations.citing import StoredSearch, citations, open_documents, search_of
from cairn.server.conversations.exchange import (
    FORMAT,
    VERSION,
    ConversationFile,
    FiledConversation,
    FiledMessage,
    Judged,
)
from cairn.server.conversations.feedback import feedback_of
from cairn.server.conversations.messages import line_of, turns_of
from cairn.server.conversations.owning import owned
from cairn.server.openai_types import FileCitation, FoundPassage, SearchDone
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow, FolderRow, MessageRow

router = APIRouter()

_IN_MEMORY = 4_000_000
_PIECE = 65_536
_HEADINGS = {"user": "You", "assistant": "Reply", "system": "System", "tool": "What the tool gave"}

_As = Literal["json", "markdown"]


@router.get(
    "/conversations/export",
    response_model=ConversationFile,
    responses={200: {"content": {"application/zip": {}}}},
)
def export_conversations(request: Request, caller: MayConverse, format: _As = "json") -> Response:
    """All of the caller's conversations: one JSON document, or a ZIP file of Markdown."""
    database = state_of(request).registry.database
    own = ConversationRow.user_id == caller.user_id, ConversationRow.deleted_at.is_(None)
    query = select(ConversationRow.id).where(*own).order_by(ConversationRow.created_at)
    with database.session(read_only=True) as session:
        ids = session.scalars(query).all()
    if format == "markdown":
        return _attached(_zipped(database, ids, caller), "application/zip", "conversations.zip")
    return _attached(_written(database, ids, caller), "application/json", "conversations.json")


@router.get(
    "/conversations/{conversation_id}/export",
    response_model=ConversationFile,
    responses={200: {"content": {"text/markdown": {}}}},
)
def export_conversation(
    request: Request,
    caller: MayConverse,
    conversation_id: str,
    format: _As = "json",
    message_id: Annotated[
        str | None, Query(description="of Markdown: the last turn; the newest versions if left out")
    ] = None,
) -> Response:
    """A conversation: all of it as JSON, or as Markdown the turns up to one."""
    database = state_of(request).registry.database
    with database.session(read_only=True) as session:
        row = owned(session, conversation_id, caller.user_id)
        name = _file_name(row.title)
        if format == "markdown":
            text = markdown(session, row, caller, message_id)
            return _attached(iter([text.encode()]), "text/markdown", f"{name}.md")
    return _attached(_written(database, [row.id], caller), "application/json", f"{name}.json")


def markdown(session: Session, row: ConversationRow, caller: Principal, message_id: str | None = None) -> str:
    """A conversation to read, with the sources of its replies."""
    turns = line_of(turns_of(session, row.id), message_id)
    are_open = open_documents(session, [turn.sources for turn in turns], caller)
    begun = datetime.fromtimestamp(row.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [f"# {row.title}", f"*{', '.join(filter(None, (row.model, begun)))}*"]
    for turn in turns:
        said = turn.content.strip()
        parts += [f"## {_HEADINGS.get(turn.role, turn.role)}", fenced(said) if turn.role == "tool" else said]
        parts += [
            f"Calls `{each.function.name}`:\n\n{fenced(each.function.arguments, 'json')}"
            for each in calls_of(turn.tool_calls)
        ]
        sources = [
            f"- [{each.number}] {each.filename}, page {each.page}"
            for each in citations(turn.sources, are_open)
        ]
        if sources:
            parts.append("Sources:\n\n" + "\n".join(sources))
    return "\n\n".join(filter(None, parts)) + "\n"


def fenced(text: str, language: str = "") -> str:
    """A block of code in Markdown, whatever stands in it."""
    longest = max((len(each) for each in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def filed(session: Session, row: ConversationRow, caller: Principal) -> FiledConversation:
    """A conversation as it stands in a file; quotes of documents that are closed by now are left out."""
    turns = turns_of(session, row.id)
    feedback = feedback_of(session, row.id)
    are_open = open_documents(session, [turn.sources for turn in turns], caller)
    folder = session.get(FolderRow, row.folder_id) if row.folder_id else None

    def message(turn: MessageRow) -> FiledMessage:
        judged = feedback.get(turn.id)
        cited = citations(turn.sources, are_open)
        return FiledMessage(
            id=turn.id,
            parent_id=turn.parent_id,
            role=cast("Role", turn.role),
            content=turn.content,
            created_at=turn.created_at,
            receipt_id=turn.receipt_id,
            annotations=[FileCitation(**each.model_dump(exclude={"is_open"})) for each in cited],
            sentences=(turn.sources or {}).get("sentences", []),
            search=_filed_search(search_of(turn.sources, are_open)),
            tool_calls=calls_of(turn.tool_calls) or None,
            tool_call_id=turn.tool_call_id,
            feedback=Judged.model_validate(judged.model_dump()) if judged else None,
        )

    return FiledConversation(
        title=row.title,
        model=row.model,
        folder=folder.name if folder else "",
        created_at=row.created_at,
        updated_at=row.updated_at,
        messages=[message(turn) for turn in turns],
    )


def _filed_search(done: StoredSearch | None) -> SearchDone | None:
    if done is None:
        return None
    found = [FoundPassage(**each.model_dump(exclude={"is_open"})) for each in done.found]
    return SearchDone(query=done.query, collections=done.collections, found=found)


def _each(
    database: Database, ids: Sequence[str], caller: Principal
) -> Iterator[tuple[Session, ConversationRow]]:
    """Conversations one after the other; what was deleted meanwhile is left out."""
    for conversation_id in ids:
        with database.session(read_only=True) as session:
            row = session.get(ConversationRow, conversation_id)
            if row is not None and row.deleted_at is None and row.user_id == caller.user_id:
                yield session, row


def _written(database: Database, ids: Sequence[str], caller: Principal) -> Iterator[bytes]:
    head = {"format": FORMAT, "version": VERSION}
    yield (json.dumps(head)[:-1] + ', "conversations": [').encode()
    between = ""
    for session, row in _each(database, ids, caller):
        yield f"{between}\n{filed(session, row, caller).model_dump_json()}".encode()
        between = ","
    yield b"\n]}\n"


def _zipped(database: Database, ids: Sequence[str], caller: Principal) -> Iterator[bytes]:
    used: set[str] = set()
    with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for session, row in _each(database, ids, caller):
                folder = session.get(FolderRow, row.folder_id) if row.folder_id else None
                place = f"{_file_name(folder.name)}/" if folder else ""
                stem = place + _file_name(row.title)
                name, number = stem, 1
                while name.casefold() in used:
                    number += 1
                    name = f"{stem} ({number})"
                used.add(name.casefold())
                archive.writestr(f"{name}.md", markdown(session, row, caller))
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece


def _file_name(title: str) -> str:
    """A title as a name that every file system takes."""
    name = re.sub(r"[^\w .,()'-]+", " ", title)
    return re.sub(r"\s+", " ", name).strip(" .")[:80] or "conversation"


def _attached(pieces: Iterator[bytes], media_type: str, name: str) -> Response:
    ascii_name = name.encode("ascii", "replace").decode().replace("?", "_")
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    headers = {"content-disposition": f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quoted}"}
    return StreamingResponse(pieces, media_type=media_type, headers=headers)
