"""What stored replies cite, shown as long as it is open to who reads them."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.retrieval.access import labels_of, may_see
from cairn.retrieval.tables import DocumentRow
from cairn.server.openai_types import FileCitation, SentenceCheck
from cairn.server.tables import MessageRow


class StoredCitation(FileCitation):
    """What a stored reply cites."""

    is_open: bool
    """Whether the document is there and open to the user; the quote is empty if not."""


def sources_json(
    annotations: Sequence[FileCitation] | None, sentences: Sequence[SentenceCheck] | None
) -> dict[str, Any] | None:
    """What a reply rests on, as it is stored."""
    found = {
        "annotations": [each.model_dump() for each in annotations or []],
        "sentences": [each.model_dump() for each in sentences or []],
    }
    return found if any(found.values()) else None


def open_documents(session: Session, messages: Sequence[MessageRow], caller: Principal) -> set[str]:
    """Documents that replies cite, of those that are open to the caller now."""
    cited = {each["document_id"] for row in messages for each in _cited(row)}
    if not cited:
        return set()
    query = select(DocumentRow.document_id, DocumentRow.labels).where(DocumentRow.document_id.in_(cited))
    carried = labels_of(caller)
    return {row.document_id for row in session.execute(query) if may_see(row.labels, carried)}


def citations(row: MessageRow, are_open: Collection[str]) -> list[StoredCitation]:
    """What a reply cites; of a document that is not open only which it was."""
    found = []
    for each in _cited(row):
        is_open = each["document_id"] in are_open
        said = {} if is_open else {"quote": "", "heading": []}
        found.append(StoredCitation(**each | said, is_open=is_open))
    return found


def _cited(row: MessageRow) -> list[dict[str, Any]]:
    return row.sources["annotations"] if row.sources else []
