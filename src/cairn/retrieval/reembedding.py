"""Another embedder for a collection while the first one answers: filled, compared, switched to, rolled back.

    begin      the next space is there; documents that come now go into both
    fill       what was there before is embedded in it, in steps that outlive the process
    switch     in one transaction it answers, and the one that did is kept as the previous one
    roll_back  the same with the previous one; what answered becomes the next again

A chunk is never without a vector in the space that answers: a switch is refused by its own transaction as
long as one lacks, and fills it first. Vectors of spaces that a collection no longer has are deleted in steps,
the rest by whoever drops next.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from cairn.core import ConflictError, NotFoundError
from cairn.core.progress import Progress, Silent
from cairn.registry import Registry
from cairn.retrieval.catalogue import find_space
from cairn.retrieval.chunking import embedded_text
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders, embed_texts
from cairn.retrieval.following import Indexes, index_key
from cairn.retrieval.space_tables import CollectionSpaceRow
from cairn.retrieval.spaces import (
    OpenSpace,
    Role,
    SpaceInfo,
    lacking,
    live_spaces,
    num_lacking,
    settings_of,
    spaces_of,
)
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, CollectionRow, DocumentRow, SpaceRow

_STEP, _DELETED = 64, 5000


@dataclass(slots=True)
class Filled:
    """What was embedded into a space."""

    num_chunks: int = 0
    num_cut: int = 0
    """Chunks of which its embedder reads only the beginning."""


def begin(collection: Collection, encoders: Encoders, settings: Mapping[str, Any]) -> SpaceInfo:
    """Give a collection its next space; the same one again goes on."""
    collection_id = collection.info.collection_id
    with collection.database.writing() as session:
        before = spaces_of(session, collection_id)
        space_id = find_space(session, encoders.digest, encoders.embedder.dimensions)
        if space_id == before["active"].space_id:
            raise ConflictError(
                f"{collection.info.name!r} is embedded by {settings['embedder']} already",
                remedy="name another embedder",
            )
        if "next" in before and before["next"].space_id != space_id:
            raise ConflictError(
                f"{collection.info.name!r} is being embedded by {before['next'].embedder}",
                remedy=f"let it go: cairn index reembed {collection.info.name!r} --drop",
            )
        if "next" not in before:
            session.execute(_of(collection_id, space_id))
            _add(session, collection_id, space_id, "next", settings)
        return spaces_of(session, collection_id)["next"]


def fill(
    collection: Collection, space: SpaceInfo, encoders: Encoders, progress: Progress | None = None
) -> Filled:
    """Embed what a space lacks, until it lacks nothing."""
    done = Filled()
    with collection.database.session(read_only=True) as session:
        missing = num_lacking(session, collection.info.collection_id, space.space_id)
    total = collection.stats().num_chunks
    with (progress or Silent()).task(f"embedding with {space.embedder}", total) as task:
        task.resume(total - missing)
        while num := _fill_some(collection, space, encoders, done):
            task.advance(num)
    return done


def switch(collection: Collection, progress: Progress | None = None, *, actor: str = "local") -> SpaceInfo:
    """Let the next space answer."""
    return _become_active(collection, "next", progress, actor)


def roll_back(collection: Collection, progress: Progress | None = None, *, actor: str = "local") -> SpaceInfo:
    """Let the previous space answer again."""
    return _become_active(collection, "previous", progress, actor)


def drop(registry: Registry, collection_id: str, indexes: Indexes) -> list[SpaceInfo]:
    """Let every space go but the active one."""
    with registry.database.writing() as session:
        gone = [each for role, each in spaces_of(session, collection_id).items() if role != "active"]
        session.execute(delete(CollectionSpaceRow).where(CollectionSpaceRow.collection_id == collection_id))
    delete_unused(registry, collection_id, indexes)
    return gone


def delete_unused(registry: Registry, collection_id: str, indexes: Indexes) -> None:
    """Delete vectors and indexes of spaces that a collection does not have."""
    mine = select(ChunkRow.chunk_id).join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
    mine = mine.where(DocumentRow.collection_id == collection_id)
    with registry.database.session(read_only=True) as session:
        unused = set(session.scalars(select(SpaceRow.space_id))) - live_spaces(session, collection_id)
    for space_id in unused:
        while True:
            with registry.database.writing() as session:
                if space_id in live_spaces(session, collection_id):
                    break  # it was begun again
                in_space = select(ChunkVectorRow.chunk_id).where(ChunkVectorRow.space_id == space_id)
                some = session.scalars(
                    in_space.where(ChunkVectorRow.chunk_id.in_(mine)).limit(_DELETED)
                ).all()
                session.execute(
                    delete(ChunkVectorRow).where(
                        ChunkVectorRow.space_id == space_id, ChunkVectorRow.chunk_id.in_(some)
                    )
                )
            if not some:
                indexes.drop(index_key(collection_id, space_id))
                break


def _fill_some(collection: Collection, space: SpaceInfo, encoders: Encoders, done: Filled) -> int:
    """The next chunks without a vector; 0 when there are none."""
    wanted = (
        select(ChunkRow.chunk_id, ChunkRow.context, ChunkRow.text, ChunkRow.embedded_digest)
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(lacking(collection.info.collection_id, space.space_id))
        .order_by(ChunkRow.chunk_id)
        .limit(_STEP)
    )
    with collection.database.session(read_only=True) as session:
        rows = session.execute(wanted).all()
    if not rows:
        return 0
    texts = [embedded_text(row.context, row.text) for row in rows]
    lengths = encoders.count_tokens(texts)
    vectors = embed_texts(encoders, collection.database, space.space_id, texts, lengths, truncate=True)
    new = [
        {"chunk_id": row.chunk_id, "space_id": space.space_id, "vector": vector.astype("<f4").tobytes()}
        for row, vector in zip(rows, vectors, strict=True)
    ]
    with collection.database.writing() as session:
        _check_is_live(session, collection, space)
        # What was deleted meanwhile stays so, and what another process was faster with is not written twice.
        still = set(
            session.scalars(
                select(ChunkRow.chunk_id)
                .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
                .where(
                    lacking(collection.info.collection_id, space.space_id),
                    ChunkRow.chunk_id.in_([each["chunk_id"] for each in new]),
                )
            )
        )
        if still:
            session.execute(insert(ChunkVectorRow), [each for each in new if each["chunk_id"] in still])
    done.num_chunks += len(still)
    done.num_cut += sum(length > encoders.embedder.max_tokens for length in lengths)
    return len(rows)


def _check_is_live(session: Session, collection: Collection, space: SpaceInfo) -> None:
    if space.space_id not in live_spaces(session, collection.info.collection_id):
        raise ConflictError(
            f"the space of {space.embedder} was dropped from {collection.info.name!r}",
            remedy="begin again: cairn index reembed",
        )


def _become_active(collection: Collection, role: Role, progress: Progress | None, actor: str) -> SpaceInfo:
    """Fill a space, make its index, and let it answer."""
    with collection.database.session(read_only=True) as session:
        space = spaces_of(session, collection.info.collection_id).get(role)
    if space is None:
        raise NotFoundError(
            f"{collection.info.name!r} has no {role} space",
            remedy=f"make one: cairn index reembed {collection.info.name!r} --embedder OTHER"
            if role == "next"
            else f"list its spaces: cairn index stats {collection.info.name!r}",
        )
    encoders = collection.spaces.encoders_of(space)
    opened = collection.spaces.open(space.space_id, encoders)
    with opened.released_after():
        while True:
            fill(collection, space, encoders, progress)
            _make_index(opened, progress)
            with collection.database.writing() as session:
                if not num_lacking(session, collection.info.collection_id, space.space_id):
                    _swap(session, collection, space, actor)
                    break
    delete_unused(collection.registry, collection.info.collection_id, collection.indexes)
    return space


def _make_index(space: OpenSpace, progress: Progress | None) -> None:
    with (progress or Silent()).task("indexing", None):
        space.index().flush()


def _swap(session: Session, collection: Collection, space: SpaceInfo, actor: str) -> None:
    """What answered takes the part that is free: the previous one after a switch, the next after a roll-back.

    One that had this part before is let go.
    """
    collection_id = collection.info.collection_id
    _check_is_live(session, collection, space)
    row = session.get_one(CollectionRow, collection_id)
    assert row.space_id is not None
    if row.space_id == space.space_id:
        return  # another process was faster
    role: Role = "previous" if space.role == "next" else "next"
    before, settings = row.space_id, settings_of(row)
    session.execute(_of(collection_id, space.space_id))
    session.execute(
        delete(CollectionSpaceRow).where(
            CollectionSpaceRow.collection_id == collection_id, CollectionSpaceRow.role == role
        )
    )
    _add(session, collection_id, before, role, settings)
    row.space_id, row.config = space.space_id, {**row.config, **space.settings}
    told = {"embedder": space.embedder, "digest": space.digest, "before": settings.get("embedder", "")}
    what = "collection.switch" if space.role == "next" else "collection.rollback"
    collection.registry.audit.append_in(session, what, actor, row.name, told)


def _of(collection_id: str, space_id: int) -> Any:
    return delete(CollectionSpaceRow).where(
        CollectionSpaceRow.collection_id == collection_id, CollectionSpaceRow.space_id == space_id
    )


def _add(
    session: Session, collection_id: str, space_id: int, role: Role, settings: Mapping[str, Any]
) -> None:
    session.add(
        CollectionSpaceRow(
            collection_id=collection_id,
            space_id=space_id,
            role=role,
            settings=dict(settings),
            created_at=time.time(),
        )
    )
