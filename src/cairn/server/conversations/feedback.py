"""Judgements of replies, kept with the receipts that made them."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.server.auth import MayConverse
from cairn.server.body import RequestBody
from cairn.server.conversations.owning import new_id, owned
from cairn.server.state import state_of
from cairn.server.tables import FeedbackRow, MessageRow

router = APIRouter()


class NewFeedback(RequestBody):
    """A judgement of a reply; 0 takes it back."""

    message_id: str
    receipt_id: str = ""
    rating: Literal[1, 0, -1]
    comment: Annotated[str, StringConstraints(max_length=10_000)] = ""


class Feedback(BaseModel):
    """A stored judgement."""

    rating: int
    comment: str


@router.post("/feedback")
def give_feedback(request: Request, caller: MayConverse, body: NewFeedback) -> Feedback:
    """Store a judgement of one's own conversation's reply, with the receipt that made it."""
    with state_of(request).registry.database.session() as session, session.begin():
        message = session.get(MessageRow, body.message_id)
        if message is None:
            raise NotFoundError(f"no message {body.message_id!r}")
        owned(session, message.conversation_id, caller.user_id)
        if body.receipt_id and body.receipt_id != message.receipt_id:
            raise InvalidRequestError(
                f"message {message.id!r} was not made by receipt {body.receipt_id!r}", param="receipt_id"
            )
        query = select(FeedbackRow).where(FeedbackRow.message_id == message.id)
        row = session.scalars(query).one_or_none()
        if row is None:
            row = FeedbackRow(id=new_id("fb"), user_id=caller.user_id, message_id=message.id)
            session.add(row)
        row.receipt_id = message.receipt_id or ""
        row.rating, row.comment, row.created_at = body.rating, body.comment, time.time()
        return Feedback(rating=row.rating, comment=row.comment)


def feedback_of(session: Session, conversation_id: str) -> dict[str, Feedback]:
    """The judgements of a conversation by message."""
    judged = (
        select(FeedbackRow)
        .join(MessageRow, FeedbackRow.message_id == MessageRow.id)
        .where(MessageRow.conversation_id == conversation_id)
    )
    return {
        row.message_id: Feedback(rating=row.rating, comment=row.comment) for row in session.scalars(judged)
    }
