"""Collection: documents in, passages out, and only to those who may see them.

Every change is one transaction of the database; a process that dies leaves each document as it was or as it
was to be. The index follows. Objects may be shared between threads, and several processes may hold the same
collection open. Of two that put the same document at once the later one stays.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.orm import Session

from cairn.core import ConflictError
from cairn.core.chat import Principal
from cairn.core.retrieval import Passage
from cairn.data.parsing import Parsed, ParsedDocument
from cairn.registry import Registry
from cairn.retrieval.access import checked_labels, labels_of, may_see
from cairn.retrieval.catalogue import (
    CollectionInfo,
    CollectionStats,
    collection_stats,
    find_collection,
)
from cairn.retrieval.chunking import Chunk
from cairn.retrieval.collection_spaces import CollectionSpaces
from cairn.retrieval.document_files import describe, original_of, parse_of, store_document
from cairn.retrieval.documents import (
    DocumentInfo,
    discard_artifacts,
    document_id,
    find_documents,
    no_document,
    relabel_documents,
    remove_documents,
    rename_document,
    touch_document,
    write_document,
)
from cairn.retrieval.encoders import Encoders, RecentVectors
from cairn.retrieval.following import Indexes
from cairn.retrieval.graph.following import Graph
from cairn.retrieval.incoming import (
    CutDocument,
    NewDocument,
    PreparedDocument,
    Report,
    chunks_here,
    cut,
    embed,
)
from cairn.retrieval.index import Index
from cairn.retrieval.monitor import Monitor
from cairn.retrieval.passages import chunks_of
from cairn.retrieval.spaces import EncoderSource, OpenSpace, active_space, live_spaces
from cairn.retrieval.tables import DocumentRow


class Collection:
    """An open collection; `close` it.

    It follows the active space: what another process switched to answers from the next query on. `source`
    gives the encoders of other spaces.
    """

    def __init__(
        self,
        registry: Registry,
        info: CollectionInfo,
        encoders: Encoders,
        indexes: Indexes,
        source: EncoderSource | None = None,
    ) -> None:
        self.registry, self.database, self.indexes = registry, registry.database, indexes
        self._scratch = registry.store.scratch
        self.spaces = CollectionSpaces(self.database, info, encoders, indexes, source)
        self.graph = Graph(self.database, info.collection_id)
        self.monitor = Monitor(self.database, info.collection_id)

    @classmethod
    def open(
        cls,
        registry: Registry,
        ref: str,
        encoders: Encoders,
        indexes: Indexes,
        source: EncoderSource | None = None,
    ) -> Self:
        """Open a collection by name or id with the embedder that made its vectors."""
        return cls(registry, find_collection(registry.database, ref), encoders, indexes, source)

    def close(self) -> None:
        """Let go of the index; what was committed is safe with or without it."""
        self.monitor.close()
        self.spaces.active.release()

    @property
    def info(self) -> CollectionInfo:
        """Name, owner and settings, as they were last looked at."""
        return self.spaces.info

    @info.setter
    def info(self, info: CollectionInfo) -> None:
        self.spaces.info = info

    @property
    def encoders(self) -> Encoders:
        """Those of the active space, as it was last looked at."""
        return self.spaces.active.encoders

    @property
    def space_id(self) -> int:
        """The active space, as it was last looked at."""
        return self.spaces.active.space_id

    def using(self) -> AbstractContextManager[OpenSpace]:
        """The active space, open while the block lasts, whatever becomes the active one in the meantime."""
        return self.spaces.using()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    def put(self, document: NewDocument) -> DocumentInfo:
        """Add a document, or replace the one of the same source."""
        return self.put_all([document])[0]

    def put_all(self, batch: Sequence[NewDocument]) -> list[DocumentInfo]:
        """Add or replace documents, each whole and each on its own; they are embedded together."""
        return [self.write(each) for each in self.prepare(batch)]

    def prepare(self, batch: Sequence[NewDocument], *, anew: bool = False) -> list[PreparedDocument]:
        """Cut and embed documents, `anew` also what was embedded before; nothing is kept before `write`."""
        return self.embed([self.cut(each) for each in batch], anew=anew)

    def cut(self, document: NewDocument) -> CutDocument:
        """Cut a document into the chunks that it would be here."""
        with self.using() as space:
            return cut(document, self.info.config, space.space_id, space.encoders, self._scratch)

    def embed(
        self,
        documents: Sequence[CutDocument],
        recent: RecentVectors | None = None,
        *,
        anew: bool = False,
        report: Report | None = None,
    ) -> list[PreparedDocument]:
        """Embed documents together; what is `recent` is not embedded again."""
        with self.using() as space:
            others = {other.space_id: encoders for other, encoders in self.spaces.others(space.space_id)}
            spaces = {space.space_id: space.encoders, **others}
            recent = {} if recent is None else recent
            return embed(self.database, spaces, documents, self._scratch, recent, anew=anew, report=report)

    def write(
        self, prepared: PreparedDocument, also: Callable[[Session, DocumentInfo], None] | None = None
    ) -> DocumentInfo:
        """Put a prepared document in the place of the one of the same source.

        What `also` writes is part of the same transaction; when it raises, nothing was put.
        """
        while (info := self._written(prepared, also)) is None:
            [prepared] = self.prepare([prepared.document])
        return info

    def _written(
        self, prepared: PreparedDocument, also: Callable[[Session, DocumentInfo], None] | None
    ) -> DocumentInfo | None:
        """None where it was embedded for a space that is no longer the active one."""
        document = prepared.document
        labels = None if document.labels is None else checked_labels(document.labels)
        own_id = document_id(self.info.collection_id, document.source)
        # Nothing may throw the artifact out between its landing and its use.
        with self.registry.store.lock(shared=True):
            artifact = store_document(self.registry, document)
            with self.database.writing() as session:
                live = live_spaces(session, self.info.collection_id)
                active = active_space(session, self.info.collection_id)
                if active is not None and active not in prepared.spaces:
                    return None
                before = session.get(DocumentRow, own_id)
                _check_replaced(document, before)
                if labels is None:
                    labels = before.labels if before is not None else list(self.info.labels)
                confidence = self.info.config.least_confidence
                info = describe(document, artifact, self.info.collection_id, labels, confidence)
                batches = (
                    (chunks, {each: found for each, found in vectors.items() if each in live})
                    for chunks, vectors in prepared.batches
                )
                freed = write_document(session, info, batches)
                if also is not None:
                    also(session, info)
        discard_artifacts(self.registry, freed)
        return info

    def chunk(self, parsed: Parsed, encoders: Encoders | None = None) -> list[Chunk]:
        """The chunks that a document would be here."""
        return list(chunks_here(parsed, self.info.config, encoders or self.encoders))

    def delete(self, document_ids: Iterable[str]) -> None:
        """Remove documents: chunks, vectors, what the index holds, and artifacts that nothing else uses."""
        with self.database.writing() as session:
            freed = remove_documents(session, [self._own(session, each) for each in document_ids])
        discard_artifacts(self.registry, freed)
        self.index()

    def relabel(self, document_ids: Iterable[str], labels: Iterable[str]) -> None:
        """Say who may see documents, from the next search on."""
        allowed = checked_labels(labels)
        with self.database.writing() as session:
            relabel_documents(session, [self._own(session, each) for each in document_ids], allowed)

    def rename(self, document_id: str, source: str) -> str:
        """Give a document another source; returns its new id."""
        with self.database.writing() as session:
            return rename_document(session, self._own(session, document_id), source)

    def touch(self, document_id: str, modified_at: float) -> None:
        """Note that a file was looked at and is the same."""
        with self.database.writing() as session:
            touch_document(session, document_id, modified_at)

    # Reading

    def documents(self, reader: Principal | None) -> list[DocumentInfo]:
        """What a reader may see, by source; None is maintenance, which sees all."""
        labels = _labels(reader)
        with self.database.session(read_only=True) as session:
            found = find_documents(session, DocumentRow.collection_id == self.info.collection_id)
        return [info for info in found if may_see(info.labels, labels)]

    def document(self, document_id: str, reader: Principal | None) -> DocumentInfo:
        """One document; `NotFoundError` also when the reader may not see it."""
        with self.database.session(read_only=True) as session:
            mine = DocumentRow.collection_id == self.info.collection_id
            found = find_documents(session, mine & (DocumentRow.document_id == document_id))
        if not found or not may_see(found[0].labels, _labels(reader)):
            raise no_document(document_id)
        return found[0]

    def original(self, document_id: str, reader: Principal | None) -> Path:
        """The file with a document's bytes."""
        return original_of(self.registry, self.document(document_id, reader))

    def parsed(self, document_id: str, reader: Principal | None) -> ParsedDocument:
        """A document's text, blocks and pages."""
        return parse_of(self.registry, self.document(document_id, reader))

    def chunks(self, document_id: str, reader: Principal | None) -> list[Passage]:
        """A document's chunks in order."""
        self.document(document_id, reader)
        with self.database.session(read_only=True) as session:
            return chunks_of(session, self.info.collection_id, document_id, _labels(reader))

    def stats(self) -> CollectionStats:
        """Counts over everything that is here."""
        return collection_stats(self.database, self.info.collection_id)

    def index(self) -> Index:
        """The index with everything that was committed before the call."""
        with self.using() as space:
            return space.index()

    def rebuild(self) -> None:
        """Make the index anew from the database."""
        with self.using() as space:
            space.follower.rebuild()

    def _own(self, session: Session, document_id: str) -> str:
        row = session.get(DocumentRow, document_id)
        if row is None or row.collection_id != self.info.collection_id:
            raise no_document(document_id)
        return document_id


def _check_replaced(document: NewDocument, before: DocumentRow | None) -> None:
    if document.replaces is not None and (before is None or before.artifact != document.replaces):
        raise ConflictError(f"{document.source!r} changed meanwhile", remedy="look at it again")


def _labels(reader: Principal | None) -> frozenset[str] | None:
    return None if reader is None else labels_of(reader)
