"""Communities of entities and what their passages say, written down beside the graph.

A community is made from documents with the same labels and from no others, so whoever may see one of its
passages may see all of them, and its summary tells nobody what he could not read himself. It goes with the
first of its passages that changes, in the same transaction, and is looked at again when it is shown: all its
passages must be open to the reader at that moment. The next writing makes what is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from cairn.core.chat import Principal
from cairn.core.progress import Progress, Silent
from cairn.retrieval.access import labels_of, may_see
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph.mentions import STATISTICS
from cairn.retrieval.graph.summaries import Draft, draft_communities, extractive_summary
from cairn.retrieval.graph.tables import CommunityChunkRow, CommunityRow
from cairn.retrieval.graph.view import View
from cairn.retrieval.passages import load_passages
from cairn.retrieval.tables import ChunkRow, DocumentRow

Summarise = Callable[[Sequence[str], Sequence[str], Sequence[int]], str]
"""Names of entities, the passages about them and their ids in; what these say out, or nothing."""


@dataclass(frozen=True, slots=True)
class Community:
    """Entities that go together, as they are shown."""

    community_id: int
    names: tuple[str, ...]
    """Of its entities, the most central first."""
    summary: str
    writer: str
    """`statistics`, or the model that wrote the summary."""
    labels: tuple[str, ...]
    chunk_ids: tuple[int, ...]
    """Of every passage it was made from."""


@dataclass(slots=True)
class WritingReport:
    """What became of the communities."""

    num_written: int = 0
    num_kept: int = 0
    num_removed: int = 0


def list_communities(collection: Collection, reader: Principal | None) -> list[Community]:
    """Those that a reader may see, the largest first; None is maintenance, which sees all."""
    labels = None if reader is None else labels_of(reader)
    with collection.database.session(read_only=True) as session:
        rows = _rows(session, collection.info.collection_id)
        wanted = {each for _, chunk_ids in rows for each in chunk_ids}
        open_now = load_passages(session, collection.info.collection_id, wanted, labels).keys()
    found = [
        Community(
            row.community_id, tuple(row.names), row.summary, row.writer, tuple(row.labels), tuple(chunk_ids)
        )
        for row, chunk_ids in rows
        if chunk_ids and may_see(row.labels, labels) and open_now >= chunk_ids
    ]
    return sorted(found, key=lambda each: (-len(each.chunk_ids), each.community_id))


def write_communities(
    collection: Collection,
    *,
    writer: str = STATISTICS,
    summarise: Summarise | None = None,
    progress: Progress | None = None,
) -> WritingReport:
    """Bring the communities up to the graph; those of the same passages and writer stay as they are."""
    report = WritingReport()
    views = collection.graph.views_by_labels()
    drafts = {labels: draft_communities(view) for labels, view in views.items()}
    with collection.database.session(read_only=True) as session:
        before = {
            (frozenset(row.labels), frozenset(chunk_ids)): row.community_id
            for row, chunk_ids in _rows(session, collection.info.collection_id)
            if row.writer == writer
        }
    keep = {
        before[labels, frozenset(draft.chunk_ids)]
        for labels, found in drafts.items()
        for draft in found
        if (labels, frozenset(draft.chunk_ids)) in before
    }
    report.num_kept = len(keep)
    report.num_removed = _remove_others(collection, keep)
    total = sum(map(len, drafts.values())) - len(keep)
    with (progress or Silent()).task("communities", total) as task:
        for labels, found in drafts.items():
            for draft in found:
                if (labels, frozenset(draft.chunk_ids)) not in before:
                    report.num_written += _write(collection, labels, views[labels], draft, writer, summarise)
                    task.advance()
    return report


def _write(
    collection: Collection,
    labels: frozenset[str],
    view: View,
    draft: Draft,
    writer: str,
    summarise: Summarise | None,
) -> bool:
    """Summarise and keep one; False when its passages changed meanwhile."""
    names = [view.names[each] for each in draft.entities]
    with collection.database.session(read_only=True) as session:
        texts = _texts(session, draft.chunk_ids, labels)
    if texts is None:
        return False
    summary = summarise(names, [text for _, text in texts], draft.chunk_ids) if summarise is not None else ""
    by = writer if summary else STATISTICS
    summary = summary or extractive_summary(view, draft, texts)
    with collection.database.writing() as session:
        if _texts(session, draft.chunk_ids, labels) is None:
            return False
        row = CommunityRow(
            collection_id=collection.info.collection_id,
            labels=sorted(labels),
            names=names,
            summary=summary,
            writer=by,
        )
        session.add(row)
        session.flush()
        session.execute(
            insert(CommunityChunkRow),
            [{"community_id": row.community_id, "chunk_id": each} for each in draft.chunk_ids],
        )
    return True


def _texts(
    session: Session, chunk_ids: Sequence[int], labels: frozenset[str]
) -> list[tuple[str, str]] | None:
    """Context and text of chunks; None unless every one is there with just these labels."""
    query = (
        select(ChunkRow.chunk_id, ChunkRow.context, ChunkRow.text, DocumentRow.labels)
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(ChunkRow.chunk_id.in_(chunk_ids))
    )
    found = {row.chunk_id: row for row in session.execute(query)}
    if any(each not in found or frozenset(found[each].labels) != labels for each in chunk_ids):
        return None
    return [(found[each].context, found[each].text) for each in chunk_ids]


def _rows(session: Session, collection_id: str) -> list[tuple[CommunityRow, set[int]]]:
    """Communities with their passages."""
    mine = CommunityRow.collection_id == collection_id
    chunk_ids: dict[int, set[int]] = {}
    links = (
        select(CommunityChunkRow.community_id, CommunityChunkRow.chunk_id)
        .join(CommunityRow, CommunityRow.community_id == CommunityChunkRow.community_id)
        .where(mine)
    )
    for row in session.execute(links):
        chunk_ids.setdefault(row.community_id, set()).add(row.chunk_id)
    rows = session.scalars(select(CommunityRow).where(mine).order_by(CommunityRow.community_id))
    return [(row, chunk_ids.get(row.community_id, set())) for row in rows]


def _remove_others(collection: Collection, keep: set[int]) -> int:
    with collection.database.writing() as session:
        mine = CommunityRow.collection_id == collection.info.collection_id
        gone = [
            each
            for each in session.scalars(select(CommunityRow.community_id).where(mine))
            if each not in keep
        ]
        for each in gone:
            session.execute(delete(CommunityRow).where(CommunityRow.community_id == each))
        return len(gone)
