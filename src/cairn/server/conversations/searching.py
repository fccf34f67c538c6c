"""A search of one's own conversations: titles and what was said, with the passage that matches."""

import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from cairn.retrieval.terms import NO_SPACES, terms
from cairn.server.auth import MayConverse
from cairn.server.conversations.indexing import bring_in, entries_matching, matching, token
from cairn.server.conversations.tables import SearchEntryRow
from cairn.server.state import state_of
from cairn.server.tables import ConversationRow, MessageRow

router = APIRouter()

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MAX_WORDS = 20
_BEFORE, _AFTER = 60, 140
"""Characters of a passage around its first match."""


class Piece(BaseModel):
    """A part of a passage."""

    text: str
    is_match: bool


class FoundMessage(BaseModel):
    """A conversation whose title, or a message whose text, has all the words."""

    conversation_id: str
    title: str
    message_id: str | None
    """Null: it is the title that matches."""
    role: str
    created_at: float
    passage: list[Piece]


class FoundMessages(BaseModel):
    """What was found, the newest first."""

    hits: list[FoundMessage]
    has_more: bool


class _Wanted:
    """What a query asks for: every word as it is, and the last also as the beginning of one."""

    def __init__(self, query: str) -> None:
        words = [each.group() for each in _WORD.finditer(query)][:_MAX_WORDS]
        self.forms: list[list[tuple[str, bool]]] = []
        for word in words:
            self.forms.extend([(term, False)] for term in terms(word))
        if self.forms:
            # Somebody is still writing it: `lighth` finds lighthouses.
            self.forms[-1].append((words[-1].lower() if words[-1].isascii() else self.forms[-1][0][0], True))

    def tokens(self) -> list[list[tuple[str, bool]]]:
        return [[(token(term), is_start) for term, is_start in forms] for forms in self.forms]

    def is_in(self, word: str) -> bool:
        found = terms(word)
        return any(
            term == wanted or (is_start and (term.startswith(wanted) or word.lower().startswith(wanted)))
            for forms in self.forms
            for wanted, is_start in forms
            for term in found
        )


@router.get("/conversations/search")
def search_conversations(
    request: Request,
    caller: MayConverse,
    q: Annotated[str, Query(max_length=500)],
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> FoundMessages:
    """Find one's own titles and messages that have all the words, in any form; the last may be begun only."""
    database = state_of(request).registry.database
    wanted = _Wanted(q)
    if not wanted.forms:
        return FoundMessages(hits=[], has_more=False)
    bring_in(database, caller.user_id)
    with database.session(read_only=True) as session:
        hits = _hits(session, caller.user_id, wanted, offset, limit + 1)
    return FoundMessages(hits=hits[:limit], has_more=len(hits) > limit)


def _hits(session: Session, user_id: str, wanted: _Wanted, offset: int, limit: int) -> list[FoundMessage]:
    found = text(entries_matching(session)).bindparams(query=matching(session, user_id, wanted.tokens()))
    said_at = func.coalesce(MessageRow.created_at, ConversationRow.updated_at)
    query = (
        select(
            SearchEntryRow.message_id,
            ConversationRow.id,
            ConversationRow.title,
            MessageRow.role,
            MessageRow.content,
            said_at.label("said_at"),
        )
        .join(ConversationRow, SearchEntryRow.conversation_id == ConversationRow.id)
        .outerjoin(MessageRow, SearchEntryRow.message_id == MessageRow.id)
        .where(
            ConversationRow.user_id == user_id,
            ConversationRow.deleted_at.is_(None),
            SearchEntryRow.entry_id.in_(found),
        )
        .order_by(said_at.desc(), SearchEntryRow.entry_id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [
        FoundMessage(
            conversation_id=row.id,
            title=row.title,
            message_id=row.message_id,
            role=row.role or "",
            created_at=row.said_at,
            passage=_passage(row.title if row.message_id is None else row.content, wanted),
        )
        for row in session.execute(query)
    ]


def _passage(said: str, wanted: _Wanted) -> list[Piece]:
    """What stands around the first match, cut into what matches and what does not."""
    first = next((start for start, _ in _matches(said, wanted)), 0)
    start, end = max(0, first - _BEFORE), min(len(said), first + _AFTER)
    while start > 0 and start < first and not said[start - 1].isspace():
        start += 1
    while end < len(said) and end > first + 1 and not said[end].isspace():
        end -= 1
    pieces: list[Piece] = []
    place = start

    def take(to: int, *, is_match: bool) -> None:
        nonlocal place
        if to > place:
            pieces.append(Piece(text=said[place:to], is_match=is_match))
            place = to

    if start > 0:
        pieces.append(Piece(text="… ", is_match=False))
    for match_start, match_end in _matches(said, wanted, start, end):
        take(match_start, is_match=False)
        take(match_end, is_match=True)
    take(end, is_match=False)
    if end < len(said):
        pieces.append(Piece(text=" …", is_match=False))
    return pieces


def _matches(said: str, wanted: _Wanted, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Where words match; what is written without spaces, by two characters as it is indexed."""
    for word in _WORD.finditer(said, start, len(said) if end is None else end):
        run = NO_SPACES.search(word.group()) if not word.group().isascii() else None
        if run is None or len(run.group()) < 2:
            if wanted.is_in(word.group()):
                yield word.span()
            continue
        pairs = [n for n in range(word.start(), word.end() - 1) if wanted.is_in(said[n : n + 2])]
        for n in pairs:
            yield n, n + 2
