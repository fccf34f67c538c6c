"""Folders of conversations. Deleting one leaves what lay in it in the list."""

import time
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select, update
from starlette.responses import Response

from cairn.core.errors import InvalidRequestError
from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.conversations.owning import new_id, owned, owned_folder
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow, FolderRow

router = APIRouter()

FolderName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
_MAX_FOLDERS = 500


class NewFolder(RequestBody):
    """A folder to make, with what shall lie in it: so a deletion can be undone."""

    name: FolderName
    conversation_ids: Annotated[list[str], Field(max_length=5000)] = Field(default_factory=list)


class FolderChange(RequestBody):
    """A new name."""

    name: FolderName


class Folder(BaseModel):
    """A folder; conversations say in which they lie."""

    folder_id: str
    name: str


@router.get("/folders")
def list_folders(request: Request, caller: MayConverse) -> list[Folder]:
    """The caller's folders by name."""
    query = select(FolderRow).where(FolderRow.user_id == caller.user_id)
    with state_of(request).registry.database.session(read_only=True) as session:
        found = [_folder(row) for row in session.scalars(query)]
    return sorted(found, key=lambda each: each.name.casefold())


@router.post("/folders", status_code=201)
def create_folder(request: Request, caller: MayConverse, body: NewFolder) -> Folder:
    """Make a folder."""
    with state_of(request).registry.database.writing() as session:
        query = select(FolderRow.folder_id).where(FolderRow.user_id == caller.user_id)
        if len(session.scalars(query).all()) >= _MAX_FOLDERS:
            raise InvalidRequestError(
                f"there are {_MAX_FOLDERS} folders, which is the most", remedy="delete one first"
            )
        row = FolderRow(
            folder_id=new_id("folder"), user_id=caller.user_id, name=body.name, created_at=time.time()
        )
        session.add(row)
        session.flush()
        for conversation_id in body.conversation_ids:
            owned(session, conversation_id, caller.user_id, with_deleted=True).folder_id = row.folder_id
        return _folder(row)


@router.patch("/folders/{folder_id}")
def rename_folder(request: Request, caller: MayConverse, folder_id: str, body: FolderChange) -> Folder:
    """Give a folder another name."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = owned_folder(session, folder_id, caller.user_id)
        row.name = body.name
        return _folder(row)


@router.delete("/folders/{folder_id}", status_code=204)
def delete_folder(request: Request, caller: MayConverse, folder_id: str) -> Response:
    """Take a folder away; its conversations stay."""
    with state_of(request).registry.database.session() as session, session.begin():
        row = owned_folder(session, folder_id, caller.user_id)
        inside = update(ConversationRow).where(ConversationRow.folder_id == folder_id)
        session.execute(inside.values(folder_id=None))
        session.delete(row)
    return Response(status_code=204)


def _folder(row: FolderRow) -> Folder:
    return Folder(folder_id=row.folder_id, name=row.name)
