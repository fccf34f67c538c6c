"""Responses in the database: kept, read, continued and deleted by their maker; old ones go by themselves."""

import time
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete
from sqlalchemy.orm import Session

from cairn.core.errors import NotFoundError
from cairn.registry import Database, Registry
from cairn.server.responses.building import response_json
from cairn.server.responses.tables import ResponseRow
from cairn.server.responses.types import InputItem, ResponseObject

_ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(list[InputItem])
_DAY = 86400.0


def store(registry: Registry, user_id: str, response: ResponseObject, items: Sequence[InputItem]) -> None:
    """Keep a response and what it was asked with."""
    body = response_json(response)
    for item in body["output"]:
        for part in item.get("content", ()):
            part["annotations"] = [each | {"quote": "", "heading": []} for each in part["annotations"]]
    row = ResponseRow(
        response_id=response.id,
        user_id=user_id,
        previous_id=response.previous_response_id,
        created_at=time.time(),
        input=[item.model_dump(exclude_none=True) for item in items],
        body=body,
    )
    with registry.database.writing() as session:
        session.add(row)


def own_response(session: Session, response_id: str, user_id: str) -> ResponseRow:
    """A response of that user; somebody else's is not known, like one that does not exist."""
    row = session.get(ResponseRow, response_id)
    if row is None or row.user_id != user_id:
        raise NotFoundError(
            f"there is no response {response_id!r}",
            remedy="it may have been deleted, or made with store: false",
        )
    return row


def history(registry: Registry, response_id: str | None, user_id: str) -> list[InputItem]:
    """All items up to the end of a response, the first turn first."""
    turns: list[list[dict[str, Any]]] = []
    with registry.database.session(read_only=True) as session:
        while response_id is not None:
            row = own_response(session, response_id, user_id)
            turns.append([*row.input, *row.body["output"]])
            response_id = row.previous_id
    return _ITEMS.validate_python([item for turn in reversed(turns) for item in turn])


def delete_expired(database: Database, days: float) -> int:
    """Delete what is older than so many days; returns how many went."""
    with database.writing() as session:
        limit = time.time() - days * _DAY
        gone = session.execute(delete(ResponseRow).where(ResponseRow.created_at < limit))
        return int(gone.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it
