"""What stored replies cite, shown as long as it is open to who reads them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.retrieval.access import labels_of, may_see
from cairn.retrieval.tables import DocumentRow
from cairn.server.openai_types import FileCitation, FoundPassage, SearchDone, SentenceCheck

Sources = Mapping[str, Any] | None
"""What a reply rests on, as it is stored."""

_SAID: dict[str, Any] = {"quote": "", "heading": []}
_WHICH: dict[str, Any] = {
    "file_id": "",
    "filename": "",
    "collection": "",
    "collection_id": "",
    "document_id": "",
    "chunk_id": 0,
    "page": 0,
    "start": 0,
    "end": 0,
}
_NONE: dict[str, Any] = {"query": "", "collections": [], "found": []}


class StoredCitation(FileCitation):
    """What a stored reply cites."""

    is_open: bool
    """Whether the document is there and open to the user; the quote is empty if not."""


class StoredPassage(FoundPassage):
    """What was found for a stored reply."""

    is_open: bool
    """Whether the document is there and open to the user; what it says is left out if not."""


class StoredSearch(BaseModel):
    """The search that was made for a stored reply."""

    query: str
    collections: list[str]
    found: list[StoredPassage]


def sources_json(
    annotations: Sequence[FileCitation] | None,
    sentences: Sequence[SentenceCheck] | None,
    search: SearchDone | None,
) -> dict[str, Any] | None:
    """What a reply rests on, as it is stored."""
    found: dict[str, Any] = {
        "annotations": [each.model_dump() for each in annotations or []],
        "sentences": [each.model_dump() for each in sentences or []],
    }
    if search is not None:
        found["search"] = search.model_dump()
    return found if any(found.values()) else None


def open_documents(session: Session, replies: Iterable[Sources], caller: Principal) -> set[str]:
    """Documents that replies cite, of those that are open to the caller now."""
    cited = {
        each["document_id"] for sources in replies for each in (*_cited(sources), *_search(sources)["found"])
    }
    if not cited:
        return set()
    query = select(DocumentRow.document_id, DocumentRow.labels).where(DocumentRow.document_id.in_(cited))
    carried = labels_of(caller)
    return {row.document_id for row in session.execute(query) if may_see(row.labels, carried)}


def citations(
    sources: Sources, are_open: Collection[str], *, of_another: bool = False
) -> list[StoredCitation]:
    """What a reply cites; of a document that is not open only which it was, of another's not even that."""
    hidden = _SAID | _WHICH if of_another else _SAID
    found = []
    for each in _cited(sources):
        is_open = each["document_id"] in are_open
        found.append(StoredCitation(**each | ({} if is_open else hidden), is_open=is_open))
    return found


def search_of(sources: Sources, are_open: Collection[str]) -> StoredSearch | None:
    """The search that was made for a reply; of a document that is not open only which it was."""
    if not (done := _search(sources))["query"]:
        return None
    found = []
    for each in done["found"]:
        is_open = each["document_id"] in are_open
        found.append(StoredPassage(**each | ({} if is_open else _SAID), is_open=is_open))
    return StoredSearch(query=done["query"], collections=done["collections"], found=found)


def checks(sources: Sources) -> list[SentenceCheck]:
    """How the sentences of a reply stand to what it cites."""
    return [SentenceCheck(**each) for each in sources["sentences"]] if sources else []


def _search(sources: Sources) -> Mapping[str, Any]:
    return sources["search"] if sources and "search" in sources else _NONE


def _cited(sources: Sources) -> list[dict[str, Any]]:
    return sources["annotations"] if sources else []
