"""A process that ingests is killed at random moments: database and index agree, nothing is lost or twice."""

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, select

from cairn.core import Settings
from cairn.registry import Registry
from cairn.retrieval import incoming
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.index import Filter
from cairn.retrieval.index_folder import IndexFolder
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow, DocumentRow
from tests.registry.test_crash import STEPS
from tests.retrieval.conftest import document
from tests.retrieval.exact import DIMENSIONS, WordEmbedder, encoders

NUM_KILLS = int(os.environ.get("CAIRN_KILLS", "6"))
NUM_DOCUMENTS, MOST_STEPS = 12, 1200


def text_of(number: int, version: int) -> str:
    """Several chunks; which version a chunk is of can be read from it."""
    parts = [
        f"# Part {n}\n\nDocument {number} version v{version} part {n} says {'word ' * 30}" for n in range(4)
    ]
    return "\n\n".join(parts)


def open_collection(registry: Registry) -> Collection:
    return Collection.open(registry, "notes", encoders(), IndexFolder(registry.settings.home / "indexes"))


def telling(steps: int) -> Callable[..., None]:
    """An audit hook that writes a byte for each step that touches the disk."""

    def tell(name: str, *_: object) -> None:
        if name in STEPS:
            os.write(steps, b".")

    return tell


def ingest_until_killed(settings: Settings, version: int, steps: int) -> None:
    """Put every document anew, delete some, and make the index durable now and then, without end.

    Each step that touches the disk is told.
    """

    tell = telling(steps)
    # Every document comes in several parts that wait on disk.
    incoming.BATCH_BYTES, incoming._IN_MEMORY_BYTES = 200, 1
    with Registry.open(settings) as registry, open_collection(registry) as collection:
        sys.addaudithook(tell)
        event.listen(registry.database.engine, "before_cursor_execute", lambda *_: tell("sql"))
        while True:
            for number in range(NUM_DOCUMENTS):
                info = collection.put(document(f"{number}.md", text_of(number, version)))
                if number % 5 == 4:
                    collection.delete([info.document_id])
                if number % 3 == 2:
                    collection.index().flush()
            version += 1


def kill_one(
    settings: Settings, version: int, chance: random.Random, work: Callable[[Settings, int, int], None]
) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(settings, version, writing)
        except BaseException:  # noqa: BLE001 (the edge of the child process)
            traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os.close(writing)
    # The child goes on while the signal is on its way, so it may be anywhere in the step that follows.
    for _ in range(chance.randint(1, MOST_STEPS)):
        os.read(reading, 1)
    os.kill(child, signal.SIGKILL)
    os.close(reading)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child failed by itself"


def assert_whole(registry: Registry) -> None:
    """Every document is of one version and has each of its chunks once; the index equals the database."""
    with registry.database.session(read_only=True) as session:
        documents = {row.document_id: row for row in session.scalars(select(DocumentRow))}
        chunks = list(session.scalars(select(ChunkRow).order_by(ChunkRow.document_id, ChunkRow.span_start)))
        vectors = list(session.scalars(select(ChunkVectorRow.chunk_id)))
    assert sorted(vectors) == sorted(chunk.chunk_id for chunk in chunks)
    assert {chunk.document_id for chunk in chunks} == documents.keys()
    with open_collection(registry) as collection:
        index = collection.index()
        for each in documents:
            mine = [chunk for chunk in chunks if chunk.document_id == each]
            whole = collection.parsed(each, None).text
            expected = [(chunk.span, chunk.text) for chunk in collection.chunk(collection.parsed(each, None))]
            assert [((chunk.span_start, chunk.span_end), chunk.text) for chunk in mine] == expected
            assert collection.original(each, None).read_text() == whole
            registry.verify(documents[each].artifact)
        assert index.count() == len(chunks)
        anything = WordEmbedder().embed(["document"]).vectors[0]
        found = [match.chunk_id for match in index.exact(anything, len(chunks) + 10, Filter(None))]
        assert sorted(found) == sorted(chunk.chunk_id for chunk in chunks)
        by_words = index.search_text("document version part", len(chunks) + 10, Filter(None))
        assert sorted(match.chunk_id for match in by_words) == sorted(found)
    assert len(anything) == DIMENSIONS


@pytest.mark.parametrize("seed", [17])
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    settings, chance = Settings(home=tmp_path / "home"), random.Random(seed)
    with Registry.open(settings) as registry:
        create_collection(registry, "notes", owner="ann")
    for version in range(NUM_KILLS):
        kill_one(settings, 1000 * version, chance, ingest_until_killed)
        with Registry.open(settings) as registry:
            assert_whole(registry)
    with Registry.open(settings) as registry:
        assert list((registry.store.root / "tmp").iterdir()) == []
        used = {info.artifact for info in open_collection(registry).documents(None)}
        registry.gc(grace_seconds=-1)
        assert {artifact.digest for artifact in registry.artifacts("document")} == used
