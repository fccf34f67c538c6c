"""The graph of a collection, kept up with its changes as an index is.

Reading a chunk leaves a row in the same transaction that moves the position on, so a process that is killed
leaves a graph of everything up to its position, and the next one goes on from there. Rows are each chunk's
own: a document that changes touches no others. What is not read yet is not in the graph; what was closed or
removed is out of it from the next look on.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from cairn.core.progress import Progress, Silent
from cairn.registry import Database
from cairn.retrieval.access import may_see
from cairn.retrieval.graph.mentions import STATISTICS, dump_extract, load_extract, read_passage
from cairn.retrieval.graph.tables import GraphChunkRow, GraphRow
from cairn.retrieval.graph.view import View, build_view
from cairn.retrieval.graph.vocabulary import ChunkMentions, Vocabulary
from cairn.retrieval.tables import ChangeRow, ChunkRow, DocumentRow

_BATCH, _MOST_VIEWS = 500, 4


@dataclass(frozen=True, slots=True)
class _Seen:
    """A chunk as it is held."""

    document_id: str
    labels: frozenset[str]
    mentions: ChunkMentions


class Graph:
    """What the passages of one collection speak of; shared by any number of threads."""

    def __init__(self, database: Database, collection_id: str) -> None:
        self._database, self._collection_id = database, collection_id
        self._lock = threading.Lock()
        self._forget(generation=0)

    def update(self, most: int | None = None, progress: Progress | None = None) -> int:
        """Read chunks that came since, at most `most` of them; returns how many were read."""
        num_read = 0
        with (progress or Silent()).task("reading", self._num_waiting()) as task:
            while most is None or num_read < most:
                position, rows = self._waiting()
                rows = _up_to(rows, _BATCH if most is None else most - num_read)
                if not rows:
                    break
                extracts = {
                    row.chunk_id: dump_extract(read_passage(row.context, row.text))
                    for row in rows
                    if _is_unread(row)
                }
                if self._keep(extracts, position, rows[-1].position):
                    num_read += len(extracts)
                    task.advance(len(rows))
        return num_read

    def view(self, labels: frozenset[str] | None) -> View:
        """The graph of what a reader may see, as it is now; None is maintenance, which sees all."""
        with self._lock:
            hidden = self._follow()
            opened = frozenset(each for each in self._by_labels if may_see(each, labels))
            key = (opened, hidden)
            found = self._views.pop(key, None)
            if found is None:
                chunks = {
                    chunk_id: self._chunks[chunk_id].mentions
                    for each in opened
                    for chunk_id in self._by_labels[each]
                    if chunk_id not in hidden
                }
                found = build_view(chunks, self.words)
            self._views[key] = found
            for old in list(self._views)[:-_MOST_VIEWS]:
                del self._views[old]
            return found

    def document_of(self, chunk_id: int) -> str:
        """The document of a chunk; empty for one that is gone."""
        seen = self._chunks.get(chunk_id)
        return seen.document_id if seen is not None else ""

    def views_by_labels(self) -> dict[frozenset[str], View]:
        """For each set of labels that documents have, the graph of those that have just these."""
        with self._lock:
            hidden = self._follow()
            return {
                labels: build_view(
                    {each: self._chunks[each].mentions for each in chunk_ids - hidden}, self.words
                )
                for labels, chunk_ids in sorted(self._by_labels.items(), key=lambda item: sorted(item[0]))
            }

    def num_waiting(self) -> int:
        """Changes that are not followed yet."""
        return self._num_waiting()

    # What comes after the position of the database's rows

    def _num_waiting(self) -> int:
        with self._database.session(read_only=True) as session:
            row = session.get(GraphRow, self._collection_id)
            query = (
                select(func.count())
                .select_from(ChangeRow)
                .where(
                    ChangeRow.collection_id == self._collection_id,
                    ChangeRow.position > (row.position if row is not None else 0),
                )
            )
            return session.scalar(query) or 0

    def _waiting(self) -> tuple[int, Sequence[Any]]:
        """The position, and the changes that come next."""
        with self._database.session(read_only=True) as session:
            row = session.get(GraphRow, self._collection_id)
            position = row.position if row is not None else 0
            query = (
                select(
                    ChangeRow.position,
                    ChangeRow.chunk_id,
                    ChunkRow.context,
                    ChunkRow.text,
                    GraphChunkRow.extractor,
                )
                .outerjoin(ChunkRow, ChunkRow.chunk_id == ChangeRow.chunk_id)
                .outerjoin(GraphChunkRow, GraphChunkRow.chunk_id == ChangeRow.chunk_id)
                .where(ChangeRow.collection_id == self._collection_id, ChangeRow.position > position)
                .order_by(ChangeRow.position)
                .limit(_BATCH)
            )
            return position, session.execute(query).all()

    def _keep(self, extracts: dict[int, dict[str, Any]], position: int, reached: int) -> bool:
        """Write rows and move on; False when another process did meanwhile."""
        with self._database.writing() as session:
            row = session.get(GraphRow, self._collection_id)
            if row is None:
                row = GraphRow(collection_id=self._collection_id, position=0, generation=0)
                session.add(row)
            if row.position != position:
                return False
            row.position = reached
            session.flush()
            there = session.scalars(select(ChunkRow.chunk_id).where(ChunkRow.chunk_id.in_(extracts))).all()
            if there:
                session.execute(
                    insert(GraphChunkRow),
                    [
                        {"chunk_id": each, "extractor": STATISTICS, "extract": extracts[each]}
                        for each in there
                    ],
                )
        return True

    # What is held in memory

    def _forget(self, generation: int) -> None:
        self.words = Vocabulary()
        self._generation, self._position = generation, 0
        self._chunks: dict[int, _Seen] = {}
        self._by_labels: dict[frozenset[str], set[int]] = {}
        self._views: dict[tuple[frozenset[frozenset[str]], frozenset[int]], View] = {}

    def _follow(self) -> frozenset[int]:
        """Take in what was read; returns chunks that changed and are not read, which stay out until then."""
        with self._database.session(read_only=True) as session:
            graph = session.get(GraphRow, self._collection_id)
            reached, generation = (graph.position, graph.generation) if graph is not None else (0, 0)
            # A position that went back is that of an older backup.
            if generation != self._generation or reached < self._position:
                self._forget(generation)
            mine = ChangeRow.collection_id == self._collection_id
            while self._position < reached:
                query = (
                    select(
                        ChangeRow.position,
                        ChangeRow.chunk_id,
                        DocumentRow.document_id,
                        DocumentRow.labels,
                        GraphChunkRow.extract,
                    )
                    .outerjoin(ChunkRow, ChunkRow.chunk_id == ChangeRow.chunk_id)
                    .outerjoin(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
                    .outerjoin(GraphChunkRow, GraphChunkRow.chunk_id == ChangeRow.chunk_id)
                    .where(mine, ChangeRow.position > self._position, ChangeRow.position <= reached)
                    .order_by(ChangeRow.position)
                    .limit(_BATCH)
                )
                rows = session.execute(query).all()
                self._take_in(rows)
                self._position = rows[-1].position if len(rows) == _BATCH else reached
            later = select(ChangeRow.chunk_id).where(mine, ChangeRow.position > reached)
            return frozenset(session.scalars(later))

    def _take_in(self, rows: Iterable[Any]) -> None:
        self._views.clear()
        for row in rows:
            before = self._chunks.pop(row.chunk_id, None)
            if before is not None:
                held = self._by_labels[before.labels]
                held.discard(row.chunk_id)
                if not held:
                    del self._by_labels[before.labels]
            if row.document_id is None or row.extract is None:
                continue
            mentions = (
                before.mentions if before is not None else self.words.take_in(load_extract(row.extract))
            )
            labels = frozenset(row.labels)
            self._chunks[row.chunk_id] = _Seen(row.document_id, labels, mentions)
            self._by_labels.setdefault(labels, set()).add(row.chunk_id)


def _is_unread(row: Any) -> bool:
    return row.text is not None and row.extractor is None


def _up_to(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """The first rows, with at most so many chunks to read."""
    num_unread = 0
    for place, row in enumerate(rows):
        num_unread += _is_unread(row)
        if num_unread > most:
            return rows[:place]
    return rows
