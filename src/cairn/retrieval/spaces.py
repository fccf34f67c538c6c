"""The spaces of a collection: the active one that answers, the next one that is filled, the previous one.

`OpenSpace` is one with its embedder and its index. Whoever answers a query holds it from the query's vector
to its passages, so that a switch in between changes nothing for it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from cairn.registry import Database
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.following import Follower
from cairn.retrieval.index import Index
from cairn.retrieval.space_tables import CollectionSpaceRow
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, CollectionRow, DocumentRow, SpaceRow

Role = Literal["active", "next", "previous"]
EncoderSource = Callable[[str, str], Encoders]
"""The encoders of an embedder, by its name and the digest that its space has."""
SETTINGS = ("embedder", "fusion")
"""Settings of a collection that go with its space."""


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """A space and its part in a collection."""

    space_id: int
    role: Role
    digest: str
    """Of the embedder's artifact."""
    dimensions: int
    settings: Mapping[str, Any]

    @property
    def embedder(self) -> str:
        """The embedder's name."""
        return str(self.settings["embedder"])


class OpenSpace:
    """A space with its encoders and index; it closes when it was released by all who acquired it."""

    def __init__(
        self, space_id: int, encoders: Encoders, follower: Follower, settings: Mapping[str, Any]
    ) -> None:
        self.space_id, self.encoders, self.follower, self.settings = space_id, encoders, follower, settings
        self._lock = threading.Lock()
        self.num_holders = 1
        self.is_dropped = False
        """Whether its index need not be made durable: it may be gone already."""

    def index(self) -> Index:
        """The index with everything that was committed before the call and is in this space."""
        return self.follower.current()

    def acquire(self) -> None:
        """Keep it open until `release`."""
        with self._lock:
            assert self.num_holders, "it is open"
            self.num_holders += 1

    def release(self) -> None:
        """Let it close when nobody else holds it."""
        with self._lock:
            self.num_holders -= 1
            is_last = not self.num_holders
        if is_last:
            self.follower.close(is_dropped=self.is_dropped)

    @contextmanager
    def released_after(self) -> Iterator["OpenSpace"]:
        """Release it when the block ends."""
        try:
            yield self
        finally:
            self.release()


def active_space(session: Session, collection_id: str) -> int | None:
    """The space that answers; None before the first, and where the collection is gone."""
    return session.scalar(select(CollectionRow.space_id).where(CollectionRow.collection_id == collection_id))


def live_spaces(session: Session, collection_id: str) -> set[int]:
    """Every space whose vectors are kept."""
    beside = select(CollectionSpaceRow.space_id).where(CollectionSpaceRow.collection_id == collection_id)
    active = active_space(session, collection_id)
    return {*session.scalars(beside), *([] if active is None else [active])}


def spaces_of(session: Session, collection_id: str) -> dict[Role, SpaceInfo]:
    """The spaces of a collection by their part."""
    row = session.get(CollectionRow, collection_id)
    if row is None or row.space_id is None:
        return {}
    found: dict[Role, SpaceInfo] = {"active": _info(session, row.space_id, "active", settings_of(row))}
    for each in session.scalars(
        select(CollectionSpaceRow).where(CollectionSpaceRow.collection_id == collection_id)
    ):
        role: Role = "next" if each.role == "next" else "previous"
        found[role] = _info(session, each.space_id, role, each.settings)
    return found


def settings_of(row: CollectionRow) -> dict[str, Any]:
    """What goes with the active space."""
    return {name: row.config[name] for name in SETTINGS if name in row.config}


def settings_for(database: Database, collection_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the next space: what is given and not empty, else what it was begun with, else the collection's."""
    with database.session(read_only=True) as session:
        begun = spaces_of(session, collection_id).get("next")
        now = begun.settings if begun else settings_of(session.get_one(CollectionRow, collection_id))
    return {**now, **{name: value for name, value in given.items() if value}}


def lacking(collection_id: str, space_id: int) -> ColumnElement[bool]:
    """The chunks of a collection that have no vector in a space; for queries that join the documents."""
    vector = exists().where(ChunkVectorRow.chunk_id == ChunkRow.chunk_id, ChunkVectorRow.space_id == space_id)
    return (DocumentRow.collection_id == collection_id) & ~vector


def num_lacking(session: Session, collection_id: str, space_id: int) -> int:
    """How many there are."""
    query = (
        select(func.count())
        .select_from(ChunkRow)
        .join(DocumentRow, DocumentRow.document_id == ChunkRow.document_id)
        .where(lacking(collection_id, space_id))
    )
    return session.scalar(query) or 0


def _info(session: Session, space_id: int, role: Role, settings: Mapping[str, Any]) -> SpaceInfo:
    space = session.get_one(SpaceRow, space_id)
    return SpaceInfo(space_id, role, space.embedder, space.dimensions, dict(settings))
