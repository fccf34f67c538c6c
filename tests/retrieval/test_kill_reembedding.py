"""A process that embeds a collection with another model is killed at random moments, switches included.

Whatever answers then has a vector of its own embedder for every chunk, once; the work goes on where it was.
"""

import random
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, select

from cairn.core import ConflictError, Settings
from cairn.registry import Registry
from cairn.retrieval import reembedding
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.chunking import embedded_text
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import unit_length
from cairn.retrieval.index import Filter
from cairn.retrieval.index_folder import IndexFolder
from cairn.retrieval.space_tables import CollectionSpaceRow
from cairn.retrieval.spaces import live_spaces, spaces_of
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, DocumentRow
from tests.retrieval.conftest import document
from tests.retrieval.test_kill import NUM_KILLS, kill_one, telling, text_of
from tests.retrieval.two_spaces import FIRST, OTHER, TwoEmbedders

NUM_DOCUMENTS = 8


def open_collection(registry: Registry) -> Collection:
    return TwoEmbedders().open(registry, IndexFolder(registry.settings.home / "indexes"))


def reembed_until_killed(settings: Settings, version: int, steps: int) -> None:
    """Embed anew, add and delete meanwhile, switch, roll back, switch, and drop, without end."""
    reembedding._STEP, reembedding._DELETED = 3, 5
    models = TwoEmbedders()
    with Registry.open(settings) as registry, open_collection(registry) as collection:
        tell = telling(steps)
        sys.addaudithook(tell)
        event.listen(registry.database.engine, "before_cursor_execute", lambda *_: tell("sql"))
        for number in count(version):
            with registry.database.session(read_only=True) as session:
                active = spaces_of(session, collection.info.collection_id)["active"].embedder
            other = OTHER if active == FIRST else FIRST
            encoders = models.other if other == OTHER else models.first
            settings_of_next = {"embedder": other, "fusion": "calibrated"}
            try:
                space = reembedding.begin(collection, encoders, settings_of_next)
            except ConflictError:  # one that was killed left another one that was begun
                reembedding.drop(registry, collection.info.collection_id, collection.indexes)
                continue
            info = collection.put(document(f"{number % NUM_DOCUMENTS}.md", text_of(number, number)))
            reembedding.fill(collection, space, encoders)
            if number % 3 == 0:
                collection.delete([info.document_id])
            reembedding.switch(collection)
            collection.put(document(f"{number % NUM_DOCUMENTS}.md", text_of(number, number + 1)))
            if number % 2:
                reembedding.roll_back(collection)
            if number % 4 == 0:
                reembedding.drop(registry, collection.info.collection_id, collection.indexes)


def assert_whole(registry: Registry) -> None:
    """Every chunk once, with one vector of the embedder that answers; the index is equal to the database."""
    models = TwoEmbedders()
    with open_collection(registry) as collection, collection.using() as space:
        with registry.database.session(read_only=True) as session:
            spaces = spaces_of(session, collection.info.collection_id)
            documents = set(session.scalars(select(DocumentRow.document_id)))
            chunks = {row.chunk_id: row for row in session.scalars(select(ChunkRow))}
            rows = list(session.scalars(select(ChunkVectorRow)))
            assert len(list(session.scalars(select(CollectionSpaceRow)))) == len(spaces) - 1
        assert space.space_id == spaces["active"].space_id
        assert {row.chunk_id for row in rows} <= chunks.keys()
        mine = {row.chunk_id: row.vector for row in rows if row.space_id == space.space_id}
        assert mine.keys() == chunks.keys()
        encoders = models(spaces["active"].embedder, spaces["active"].digest)
        for each in documents:
            texts = [chunk.text for chunk in collection.chunks(each, None)]
            parsed = collection.parsed(each, None)
            cuts = [collection.chunk(parsed, encoders=encoders) for encoders in (models.first, models.other)]
            assert texts in [[chunk.text for chunk in cut] for cut in cuts]
        for chunk_id, chunk in chunks.items():
            text = embedded_text(chunk.context, chunk.text)
            vector = unit_length(encoders.embedder.embed([text], truncate=True).vectors[0])
            assert np.array_equal(np.frombuffer(mine[chunk_id], "<f4"), vector)
        index = space.index()
        assert index.count() == len(chunks)
        found = index.exact(vector, len(chunks) + 10, Filter(None)) if chunks else []
        assert sorted(match.chunk_id for match in found) == sorted(chunks)


@pytest.mark.parametrize("seed", [23])
def test_killed_while_it_is_embedded_anew(tmp_path: Path, seed: int) -> None:
    settings, chance = Settings(home=tmp_path / "home"), random.Random(seed)
    with Registry.open(settings) as registry:
        create_collection(registry, "notes", owner="ann")
        with open_collection(registry) as collection:
            collection.put_all([document(f"{n}.md", text_of(n, 0)) for n in range(NUM_DOCUMENTS)])
    active = set()
    for version in range(NUM_KILLS):
        kill_one(settings, 1000 * version, chance, reembed_until_killed)
        with Registry.open(settings) as registry:
            assert_whole(registry)
            with registry.database.session(read_only=True) as session:
                [collection_id] = {row.collection_id for row in session.scalars(select(DocumentRow))}
                active.add(spaces_of(session, collection_id)["active"].embedder)
    with Registry.open(settings) as registry, open_collection(registry) as collection:
        # What a killed process left of spaces that are gone is cleared by the next that drops.
        reembedding.drop(registry, collection_id, collection.indexes)
        with registry.database.session(read_only=True) as session:
            kept = live_spaces(session, collection_id)
            assert {row.space_id for row in session.scalars(select(ChunkVectorRow))} == kept
            assert len(kept) == 1
