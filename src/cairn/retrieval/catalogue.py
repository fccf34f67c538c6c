"""Collections by name: made, found, listed, changed and thrown away with all that is in them.

Names are an owner's own. A reference is an id, OWNER/NAME, or a name. A name means the own collection of who
refers, or else the only one; where several others have it, none.
"""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, delete, func, select
from sqlalchemy.exc import IntegrityError as ConstraintError
from sqlalchemy.orm import Session

from cairn.core import ConflictError, InvalidRequestError, NotFoundError, parse_config
from cairn.core.chat import Principal
from cairn.registry import Database, Registry
from cairn.retrieval.access import checked_labels, labels_of, may_see
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.documents import discard_artifacts, remove_documents
from cairn.retrieval.following import Indexes, index_key
from cairn.retrieval.space_tables import CollectionSpaceRow, QueryRow, RecallRow
from cairn.retrieval.spaces import live_spaces
from cairn.retrieval.tables import ChangeRow, ChunkRow, CollectionRow, DocumentRow, SpaceRow

_NAME = re.compile(r"[^\W_][\w .-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """A collection, without what is in it."""

    collection_id: str
    name: str
    owner: str
    config: CollectionConfig
    labels: tuple[str, ...]
    """Of documents that bring none of their own."""
    space_id: int | None
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionStats:
    """What is in a collection."""

    num_documents: int
    num_chunks: int
    num_bytes: int
    """Of the documents' files."""
    num_pages: int
    num_skipped_pages: int
    """Below the least confidence: shown, not indexed."""
    num_unreadable: int
    """Documents of which nothing could be read."""


def create_collection(
    registry: Registry,
    name: str,
    *,
    owner: str,
    labels: Iterable[str] | None = None,
    config: CollectionConfig | None = None,
) -> CollectionInfo:
    """A new, empty collection; its documents are its owner's alone unless `labels` or they say more."""
    row = CollectionRow(
        collection_id=f"vs_{uuid.uuid4().hex[:24]}",
        name=_checked_name(name),
        owner=owner,
        config=(config or CollectionConfig()).model_dump(),
        labels=checked_labels([f"user:{owner}"] if labels is None else labels),
        space_id=None,
        created_at=time.time(),
    )
    try:
        with registry.database.writing() as session:
            session.add(row)
    except ConstraintError:
        raise ConflictError(
            f"{owner} has a collection {name!r} already", remedy="choose another name, or delete that one"
        ) from None
    return _info(row)


def find_collection(database: Database, ref: str, *, owner: str = "") -> CollectionInfo:
    """The collection of a reference; `owner`'s own goes before others of the name."""
    with database.session(read_only=True) as session:
        return _info(_find(session, ref, owner))


def find_visible(database: Database, ref: str, reader: Principal) -> CollectionInfo:
    """The collection of a reference among those that `sees` lets its reader know of."""
    with database.session(read_only=True) as session:
        return _info(_find(session, ref, reader.user_id, lambda row: sees(session, row, reader)))


def told_names(infos: Iterable[CollectionInfo]) -> dict[str, str]:
    """By id what means each alone: its name, or OWNER/NAME where several have that."""
    known = list(infos)
    times = Counter(info.name for info in known)
    return {
        info.collection_id: info.name if times[info.name] == 1 else f"{info.owner}/{info.name}"
        for info in known
    }


def sees(session: Session, row: CollectionRow, reader: Principal) -> bool:
    """Whether a reader owns a collection, or may see what comes into it or a document that is in it."""
    carried = labels_of(reader)
    if row.owner == reader.user_id or may_see(row.labels, carried):
        return True
    labels = cast(DocumentRow.labels, Text)  # JSON cannot be compared everywhere
    different = session.scalars(
        select(labels).where(DocumentRow.collection_id == row.collection_id).distinct()
    )
    return any(may_see(json.loads(each), carried) for each in different)


def list_collections(database: Database) -> list[CollectionInfo]:
    """Every collection, by name and owner."""
    query = select(CollectionRow).order_by(CollectionRow.name, CollectionRow.owner)
    with database.session(read_only=True) as session:
        return [_info(row) for row in session.scalars(query)]


def change_collection(
    registry: Registry,
    ref: str,
    *,
    name: str | None = None,
    labels: Iterable[str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> CollectionInfo:
    """Change what is given; labels hold for documents that come later."""
    owner = ""
    try:
        with registry.database.writing() as session:
            row = _find(session, ref)
            owner = row.owner
            if name is not None:
                row.name = _checked_name(name)
            if labels is not None:
                row.labels = checked_labels(labels)
            if config is not None:
                changed = {**row.config, **config}
                row.config = parse_config(CollectionConfig, changed, source="collection").model_dump()
    except ConstraintError:
        raise ConflictError(
            f"{owner} has a collection {name!r} already", remedy="choose another name"
        ) from None
    return _info(row)


def delete_collection(
    registry: Registry,
    ref: str,
    indexes: Indexes,
    *,
    actor: str = "local",
    check: Callable[[Session], None] = lambda session: None,
) -> None:
    """Delete a collection with documents, vectors, its index, and artifacts that nothing else uses.

    `check` is called in the transaction, and raises where the collection shall stay.
    """
    with registry.database.writing() as session:
        row = _find(session, ref)
        check(session)
        documents = list(
            session.scalars(
                select(DocumentRow.document_id).where(DocumentRow.collection_id == row.collection_id)
            )
        )
        freed = remove_documents(session, documents)
        spaces = live_spaces(session, row.collection_id)
        for table in (CollectionSpaceRow, RecallRow, QueryRow):
            session.execute(delete(table).where(table.collection_id == row.collection_id))
        session.execute(delete(ChangeRow).where(ChangeRow.collection_id == row.collection_id))
        session.delete(row)
        told = {"documents": len(documents), "collection": row.collection_id}
        registry.audit.append_in(session, "collection.delete", actor, row.name, told)
    discard_artifacts(registry, freed)
    for space_id in spaces:
        indexes.drop(index_key(row.collection_id, space_id))


def collection_stats(database: Database, collection_id: str) -> CollectionStats:
    """Counts over everything in a collection."""
    with database.session(read_only=True) as session:
        rows = session.execute(
            select(
                DocumentRow.size, DocumentRow.num_pages, DocumentRow.skipped_pages, DocumentRow.status
            ).where(DocumentRow.collection_id == collection_id)
        ).all()
        num_chunks = session.scalar(
            select(func.count())
            .select_from(ChunkRow)
            .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
            .where(DocumentRow.collection_id == collection_id)
        )
    return CollectionStats(
        num_documents=len(rows),
        num_chunks=num_chunks or 0,
        num_bytes=sum(row.size for row in rows),
        num_pages=sum(row.num_pages for row in rows),
        num_skipped_pages=sum(len(row.skipped_pages) for row in rows),
        num_unreadable=sum(row.status == "unreadable" for row in rows),
    )


def find_space(session: Session, embedder: str, dimensions: int) -> int:
    """The space of an embedder, made when it is new."""
    same = (SpaceRow.embedder == embedder) & (SpaceRow.dimensions == dimensions)
    space = session.scalar(select(SpaceRow).where(same))
    if space is None:
        space = SpaceRow(embedder=embedder, dimensions=dimensions)
        session.add(space)
        session.flush()
    return space.space_id


def activate_space(session: Session, collection_id: str, embedder: str, dimensions: int) -> int:
    """The space of an embedder, active in the collection if none was."""
    space_id = find_space(session, embedder, dimensions)
    row = session.get(CollectionRow, collection_id)
    if row is None:
        raise _gone(collection_id)
    if row.space_id is None:
        row.space_id = space_id
    return space_id


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"name is {name!r}, allowed: letters, digits, spaces and . _ -, at most 100", param="name"
        )
    return name


def _find(
    session: Session,
    ref: str,
    owner: str = "",
    is_known: Callable[[CollectionRow], bool] = lambda row: True,
) -> CollectionRow:
    by_id = session.get(CollectionRow, ref)
    whose, _, name = ref.rpartition("/")
    named = select(CollectionRow).where(CollectionRow.name == name).order_by(CollectionRow.owner)
    if whose:
        named = named.where(CollectionRow.owner == whose)
    found = [by_id] if by_id is not None else session.scalars(named).all()
    known = [row for row in found if is_known(row)]
    if not known:
        raise _gone(ref)
    own = [row for row in known if row.owner == owner]
    if len(known) > 1 and not own:
        told = ", ".join(f"{row.owner}/{row.name}" for row in known)
        raise ConflictError(
            f"{len(known)} collections are called {ref!r}: {told}",
            remedy="name one of these, or its id",
        )
    return (own or known)[0]


def _gone(ref: str) -> NotFoundError:
    return NotFoundError(f"there is no collection {ref!r}", remedy="list them: cairn index ls")


def _info(row: CollectionRow) -> CollectionInfo:
    return CollectionInfo(
        collection_id=row.collection_id,
        name=row.name,
        owner=row.owner,
        config=parse_config(CollectionConfig, row.config, source=f"collection {row.name}"),
        labels=tuple(row.labels),
        space_id=row.space_id,
        created_at=row.created_at,
    )
