"""A process that reads and writes the graph is killed at random moments: what is left catches up, whole."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from cairn.core import Settings
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph.following import Graph
from cairn.retrieval.graph.mentions import dump_extract, read_passage
from cairn.retrieval.graph.tables import CommunityChunkRow, CommunityRow, GraphChunkRow, GraphRow
from cairn.retrieval.graph.writing import write_communities
from cairn.retrieval.tables import ChangeRow, ChunkRow
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders

NUM_KILLS = int(os.environ.get("CAIRN_KILLS", "5"))
NUM_DOCUMENTS, MOST_STEPS = 8, 150
NAMES = ["Ada Byron", "Zacharias Quill", "Mary Anning", "Porto", "Royal Society"]


def text_of(number: int, version: int) -> str:
    first, second, third = (NAMES[(number * version + n) % len(NAMES)] for n in range(3))
    return f"We know {first} and {second}.\n\n# Part\n\nIn v{version} came {second} with {third}."


def open_collection(registry: Registry) -> Collection:
    return Collection.open(registry, "notes", encoders(), ExactIndexes())


def change_until_killed(home: str, version: int) -> None:
    """Put, delete and read documents without end, and tell each statement that the database is given."""
    from sqlalchemy import event

    with Registry.open(Settings(home=Path(home))) as registry, open_collection(registry) as collection:
        event.listen(registry.database.engine, "before_cursor_execute", lambda *_: os.write(1, b"."))
        while True:
            for number in range(NUM_DOCUMENTS):
                info = collection.put(document(f"{number}.md", text_of(number, version), ["everyone"]))
                if number % 4 == 3:
                    collection.delete([info.document_id])
                collection.graph.update(most=2)
            collection.graph.update()
            write_communities(collection)
            version += 1


def kill_one(home: Path, version: int, num_steps: int) -> None:
    code = f"from {__name__} import change_until_killed as run; run({str(home)!r}, {version})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        # The child goes on while the signal is on its way, so it may be anywhere in the step that follows.
        told = child.stdout.read(num_steps)
        child.kill()
    assert len(told) == num_steps, "the child failed by itself"


def assert_whole(registry: Registry, collection: Collection) -> None:
    """Every row belongs to a chunk that is there, and after an update every chunk has its own."""
    collection.graph.update()
    with registry.database.session(read_only=True) as session:
        chunks = {row.chunk_id: row for row in session.scalars(select(ChunkRow))}
        kept = {row.chunk_id: row.extract for row in session.scalars(select(GraphChunkRow))}
        newest = max(session.scalars(select(ChangeRow.position)), default=0)
        assert session.get_one(GraphRow, collection.info.collection_id).position == newest
        communities = set(session.scalars(select(CommunityRow.community_id)))
        sources = session.execute(select(CommunityChunkRow.community_id, CommunityChunkRow.chunk_id)).all()
    assert chunks.keys() == kept.keys()
    for each, row in chunks.items():
        expected = dump_extract(read_passage(row.context, row.text))
        assert kept[each] == json.loads(json.dumps(expected))
    assert communities == {row.community_id for row in sources}
    assert {row.chunk_id for row in sources} <= chunks.keys()
    assert (
        collection.graph.view(None).keys
        == Graph(registry.database, collection.info.collection_id).view(None).keys
    )


@pytest.mark.parametrize("seed", [23])
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    home, chance = tmp_path / "home", random.Random(seed)
    with Registry.open(Settings(home=home)) as registry:
        create_collection(registry, "notes", owner="ann")
        with open_collection(registry) as collection:
            collection.graph.update()
    for version in range(NUM_KILLS):
        kill_one(home, 100 * version + 1, chance.randint(1, MOST_STEPS))
        with Registry.open(Settings(home=home)) as registry, open_collection(registry) as collection:
            assert_whole(registry, collection)
            num_written = write_communities(collection).num_written
            assert write_communities(collection).num_written == 0 <= num_written
