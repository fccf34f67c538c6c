"""The full-text index of conversations, in the database's own: FTS5 in SQLite, `tsvector` in Postgres.

Words are cut here, so that both find the same: `cairn.retrieval.terms`, written in ASCII. Nothing is
indexed while somebody chats; a search first brings in what is new among its owner's conversations. Of a very
long message the first half megabyte of different words is found.
"""

import hashlib
import time
from collections.abc import Iterable

from sqlalchemy import and_, delete, select, text, update
from sqlalchemy.orm import Session

from cairn.registry import Database
from cairn.retrieval.terms import terms
from cairn.server.conversations.tables import SearchEntryRow
from cairn.server.tables import ConversationRow, MessageRow

_MAX_WORD = 64
_MAX_BYTES = 500_000
_AT_ONCE = 100


def token(term: str) -> str:
    """A term in letters and digits that every tokenizer leaves whole; prefixes stay prefixes."""
    term = term[:_MAX_WORD]
    return term if term.isascii() and term.isalnum() else "x" + term.encode().hex()


def bring_in(database: Database, user_id: str) -> None:
    """Index what is new in somebody's conversations, some at a time: other writers get in between."""
    is_stale = and_(
        ConversationRow.user_id == user_id,
        ConversationRow.deleted_at.is_(None),
        ConversationRow.indexed_at.is_(None),
    )
    with database.session(read_only=True) as session:
        is_whole = session.scalar(select(ConversationRow.id).where(is_stale).limit(1)) is None
    # Who adds a message meanwhile waits, and then says anew that something is new.
    some = select(ConversationRow).where(is_stale).limit(_AT_ONCE).with_for_update()
    while not is_whole:
        with database.writing() as session:
            found = session.scalars(some).all()
            for row in found:
                _index(session, row)
            is_whole = len(found) < _AT_ONCE


def outdate(session: Session, conversation_id: str) -> None:
    """Say that something is new in a conversation."""
    # Written even where it was so: a search may be about to say that it has seen all.
    row = update(ConversationRow).where(ConversationRow.id == conversation_id)
    session.execute(row.values(indexed_at=None))


def forget(session: Session, row: ConversationRow) -> None:
    """Take a conversation out of the index; where it is restored, a search brings it in again."""
    entries = SearchEntryRow.conversation_id == row.id
    _remove(session, session.scalars(select(SearchEntryRow.entry_id).where(entries)).all())
    row.indexed_at = None


def matching(session: Session, user_id: str, words: Iterable[Iterable[tuple[str, bool]]]) -> str:
    """The query of every word in one of its forms (a term, and whether it is the beginning of one)."""
    if _is_sqlite(session):
        every = " AND ".join(
            "(" + " OR ".join(f'"{term}"' + ("*" if is_start else "") for term, is_start in forms) + ")"
            for forms in words
        )
        return f'owner : "{_owner(user_id)}" AND terms : ({every})'
    every = " & ".join(
        "(" + " | ".join(f"'{term}'" + (":*" if is_start else "") for term, is_start in forms) + ")"
        for forms in words
    )
    return f"'{_owner(user_id)}' & {every}"


def entries_matching(session: Session) -> str:
    """SQL of the entries that `:query` finds."""
    if _is_sqlite(session):
        return "SELECT rowid FROM search_terms WHERE search_terms MATCH :query"
    return "SELECT rowid FROM search_terms WHERE terms @@ CAST(:query AS tsquery)"


def _index(session: Session, row: ConversationRow) -> None:
    entries = session.scalars(select(SearchEntryRow).where(SearchEntryRow.conversation_id == row.id)).all()
    _remove(session, [each.entry_id for each in entries if each.message_id is None])
    known = {each.message_id for each in entries}
    new: list[tuple[str | None, str]] = [(None, row.title)]
    # What a tool gave is folded away on the page: nobody reads it where a hit would lead.
    messages = select(MessageRow.id, MessageRow.content).where(
        MessageRow.conversation_id == row.id, MessageRow.role != "tool"
    )
    new += [(each.id, each.content) for each in session.execute(messages) if each.id not in known]
    for message_id, said in new:
        entry = SearchEntryRow(conversation_id=row.id, message_id=message_id)
        session.add(entry)
        session.flush()
        _add(session, entry.entry_id, row.user_id, _tokens(said))
    row.indexed_at = time.time()


def _tokens(said: str) -> list[str]:
    found, num_bytes = [], 0
    for term in dict.fromkeys(terms(said)):
        word = token(term)
        num_bytes += len(word) + 1
        if num_bytes > _MAX_BYTES:
            break
        found.append(word)
    return found


def _add(session: Session, entry_id: int, user_id: str, tokens: list[str]) -> None:
    values = {"entry": entry_id, "owner": _owner(user_id)}
    if _is_sqlite(session):
        insert = "INSERT INTO search_terms (rowid, owner, terms) VALUES (:entry, :owner, :terms)"
        session.execute(text(insert), values | {"terms": " ".join(tokens)})
        return
    insert = (
        "INSERT INTO search_terms (rowid, terms) VALUES (:entry, array_to_tsvector(CAST(:terms AS text[])))"
    )
    session.execute(text(insert), {"entry": entry_id, "terms": [values["owner"], *tokens]})


def _remove(session: Session, entries: Iterable[int]) -> None:
    for entry_id in entries:
        session.execute(text("DELETE FROM search_terms WHERE rowid = :entry"), {"entry": entry_id})
        session.execute(delete(SearchEntryRow).where(SearchEntryRow.entry_id == entry_id))


def _owner(user_id: str) -> str:
    """One lexeme for all of somebody's: the index meets it first, and does not walk everybody's."""
    return "owner" + hashlib.sha256(user_id.encode()).hexdigest()[:32]


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
