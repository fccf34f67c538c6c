"""The spaces of an open collection: which one answers, followed from query to query."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from cairn.core import CairnError, ConflictError
from cairn.registry import Database
from cairn.retrieval.catalogue import CollectionInfo, activate_space, find_collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.following import Follower, Indexes
from cairn.retrieval.spaces import EncoderSource, OpenSpace, SpaceInfo, active_space, spaces_of


class CollectionSpaces:
    """The active space, kept open, and the others when they are asked for.

    `info` is the collection with its settings as they were when it was last looked at.
    """

    def __init__(
        self,
        database: Database,
        info: CollectionInfo,
        encoders: Encoders,
        indexes: Indexes,
        source: EncoderSource | None,
    ) -> None:
        self.info, self._database, self._indexes, self._source = info, database, indexes, source
        self._lock = threading.Lock()
        with database.session(read_only=True) as session:
            active = spaces_of(session, info.collection_id).get("active")
        if active is not None and not _is_of(active, encoders):
            if source is None:
                raise _other_embedder(info.name, active, encoders)
            encoders = source(active.embedder, active.digest)
        with database.writing() as session:
            dimensions = encoders.embedder.dimensions
            space_id = activate_space(session, info.collection_id, encoders.digest, dimensions)
        self.active = self.open(space_id, encoders)

    def open(
        self, space_id: int, encoders: Encoders, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> OpenSpace:
        """A space with its index; `release` it. `settings` come before the collection's own."""
        dimensions = encoders.embedder.dimensions
        follower = Follower(
            self._database, self._indexes, self.info.collection_id, space_id, dimensions, encoders.forget
        )
        return OpenSpace(space_id, encoders, follower, settings)

    def using(self) -> AbstractContextManager[OpenSpace]:
        """The active space, open while the block lasts, whatever becomes the active one in the meantime."""
        while True:
            with self._database.session(read_only=True) as session:
                active = active_space(session, self.info.collection_id)
            with self._lock:
                if active in (None, self.active.space_id):
                    self.active.acquire()
                    return self.active.released_after()
            self._follow_switch()

    def encoders_of(self, space: SpaceInfo) -> Encoders:
        """The encoders of a space; an error where they cannot be had."""
        held = self.active
        if space.space_id == held.space_id:
            return held.encoders
        if self._source is None:
            raise _other_embedder(self.info.name, space, held.encoders)
        return self._source(space.embedder, space.digest)

    def others(self, active: int) -> list[tuple[SpaceInfo, Encoders]]:
        """Spaces beside the active one whose embedders are here; what others lack is filled in later."""
        with self._database.session(read_only=True) as session:
            spaces = spaces_of(session, self.info.collection_id).values()
        found = []
        for each in spaces:
            try:
                if each.space_id != active:
                    found.append((each, self.encoders_of(each)))
            except CairnError:
                continue
        return found

    def _follow_switch(self) -> None:
        """Open what is the active space now; models are loaded before anybody has to wait."""
        info = find_collection(self._database, self.info.collection_id)
        with self._database.session(read_only=True) as session:
            active = spaces_of(session, info.collection_id)["active"]
        opened = self.open(active.space_id, self.encoders_of(active))
        with self._lock:
            # Another thread may have been faster.
            if self.active.space_id != opened.space_id:
                self.active, opened, self.info = opened, self.active, info
                opened.is_dropped = True
        opened.release()


def _is_of(space: SpaceInfo, encoders: Encoders) -> bool:
    return (space.digest, space.dimensions) == (encoders.digest, encoders.embedder.dimensions)


def _other_embedder(name: str, space: SpaceInfo, encoders: Encoders) -> ConflictError:
    return ConflictError(
        f"collection {name!r} was embedded by {space.digest}, not by {encoders.digest}",
        remedy=f"open it with that model, or embed it again: cairn index reembed {name!r}",
    )
