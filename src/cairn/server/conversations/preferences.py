"""Which of two answers to the same messages was better, by the receipts that made them."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import delete, select

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.conversations.owning import new_id
from cairn.server.state import state_of
from cairn.server.tables import PreferenceRow

router = APIRouter()


class NewPreference(RequestBody):
    """Two answers, by receipt; `better` is one of them, or null, which takes back what was said before."""

    receipts: Annotated[list[str], Field(min_length=2, max_length=2)]
    better: str | None


class Preference(BaseModel):
    """Of two answers the better one, by receipt."""

    chosen: str
    rejected: str
    created_at: float


class PreferenceList(BaseModel):
    """Preferences, the latest first."""

    data: list[Preference]


@router.post("/preferences")
def prefer(request: Request, caller: MayConverse, body: NewPreference) -> PreferenceList:
    """Say which of two of one's own answers was better; gives what is said of the pair from now on."""
    first, second = body.receipts
    if first == second or body.better not in (None, first, second):
        raise InvalidRequestError(
            f"better is {body.better!r} of {first!r} and {second!r}, allowed: one of two different receipts",
            param="better",
        )
    registry = state_of(request).registry
    for receipt_id in body.receipts:
        if registry.receipt(receipt_id).user_id != caller.user_id:
            raise NotFoundError(f"no receipt {receipt_id!r}")
    with registry.database.session() as session, session.begin():
        session.execute(
            delete(PreferenceRow).where(
                PreferenceRow.user_id == caller.user_id,
                PreferenceRow.chosen.in_(body.receipts),
                PreferenceRow.rejected.in_(body.receipts),
            )
        )
        if body.better is None:
            return PreferenceList(data=[])
        made = PreferenceRow(
            id=new_id("pref"),
            user_id=caller.user_id,
            chosen=body.better,
            rejected=second if body.better == first else first,
            created_at=time.time(),
        )
        session.add(made)
        return PreferenceList(data=[_preference(made)])


@router.get("/preferences")
def list_preferences(
    request: Request,
    caller: MayConverse,
    receipt: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PreferenceList:
    """One's own preferences, or those that an answer is part of."""
    query = select(PreferenceRow).where(PreferenceRow.user_id == caller.user_id)
    if receipt is not None:
        query = query.where((PreferenceRow.chosen == receipt) | (PreferenceRow.rejected == receipt))
    query = query.order_by(PreferenceRow.created_at.desc(), PreferenceRow.id).limit(limit)
    with state_of(request).registry.database.session(read_only=True) as session:
        return PreferenceList(data=[_preference(row) for row in session.scalars(query)])


def _preference(row: PreferenceRow) -> Preference:
    return Preference(chosen=row.chosen, rejected=row.rejected, created_at=row.created_at)
