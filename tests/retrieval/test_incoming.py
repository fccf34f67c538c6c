"""Long documents come in by parts: the same is kept whatever the parts, and only some is in memory."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cairn.core.progress import Silent
from cairn.data.parsing import ParsedFile, ParserPool, dump_document
from cairn.retrieval import encoders, incoming
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.ingest import IncomingFile, ingest
from cairn.retrieval.tables import ChunkRow, ChunkVectorRow
from tests.retrieval.conftest import document, parsed

TEXTS = {
    "empty.md": "",
    "long.md": "\n\n".join(f"# Boat {at}\n\nThe mast of boat {at} is made of ash." for at in range(40)),
    "short.md": "A canoe.",
}


def rows(collection: Collection) -> list[Any]:
    place = ChunkRow.document_id, ChunkRow.span_start
    query = (
        select(*place, ChunkRow.text, ChunkRow.context, ChunkVectorRow.vector)
        .join(ChunkVectorRow, ChunkVectorRow.chunk_id == ChunkRow.chunk_id)
        .order_by(*place)
    )
    with collection.database.session(read_only=True) as session:
        return [tuple(row) for row in session.execute(query)]


@pytest.mark.parametrize(("batch", "in_memory"), [(1, 1), (300, 200), (1 << 20, 1)])
def test_parts_change_nothing(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, batch: int, in_memory: int
) -> None:
    documents = [document(source, text) for source, text in TEXTS.items()]
    collection.put_all(documents)
    whole = rows(collection)
    assert len(whole) > 10
    collection.delete([info.document_id for info in collection.documents(None)])
    monkeypatch.setattr(incoming, "BATCH_BYTES", batch)
    monkeypatch.setattr(incoming, "_IN_MEMORY_BYTES", in_memory)
    collection.put_all(documents)
    assert rows(collection) == whole


def test_what_stands_twice_in_a_document_is_embedded_once(
    collection: Collection, models: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    embed: Callable[..., Any] = models.embedder.embed

    def spying(texts: list[str], **options: Any) -> Any:
        seen.extend(texts)
        return embed(texts, **options)

    monkeypatch.setattr(models.embedder, "embed", spying)
    monkeypatch.setattr(incoming, "BATCH_BYTES", 1)
    form = "Sign here, and keep a copy for your own files."
    collection.put(document("forms.md", "\f".join([form] * 5)))
    assert seen == [form]
    recent: dict[Any, Any] = {}
    for at in range(3):  # none of them is written
        collection.embed([collection.cut(document(f"{at}.md", "The same raft."))], recent)
    assert seen == [form, "The same raft."]


def test_memory_does_not_grow_with_a_document(
    collection: Collection, models: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed: Callable[..., Any] = models.embedder.embed

    def tidy(texts: list[str], **options: Any) -> Any:
        gc.collect()  # or the peak depends on when Python next thinks of it
        return embed(texts, **options)

    monkeypatch.setattr(models.embedder, "embed", tidy)
    monkeypatch.setattr(incoming, "BATCH_BYTES", 1 << 14)
    monkeypatch.setattr(incoming, "_IN_MEMORY_BYTES", 1 << 14)
    monkeypatch.setattr(encoders, "_MOST_RECENT", 16)

    def peak(num_pages: int) -> int:
        numbers = ("".join(f"Boat {digit}. " for digit in f"{at} {num_pages}") for at in range(num_pages))
        pages = (number + "It went by. " * 150 for number in numbers)
        path = tmp_path / f"{num_pages}.jsonl"
        path.write_bytes(b"".join(dump_document(parsed("\f".join(pages)))))
        long = ParsedFile.open(path)
        tracemalloc.start()
        collection.prepare([NewDocument(source=path.name, original=b"", parsed=long)])
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    peak(20)  # what is made once
    assert peak(400) < 3 * peak(40)  # of a document ten times as long


def test_progress_moves_within_a_file_and_ends_with_its_size(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[float] = []

    class Counting(Silent):
        def advance(self, amount: float = 1) -> None:
            moves.append(amount)

    monkeypatch.setattr(incoming, "BATCH_BYTES", 300)
    files = []
    for source, text in TEXTS.items():
        (tmp_path / source).write_text(text)
        files.append(IncomingFile(path=tmp_path / source, source=source, size=len(text.encode())))
    with ParserPool(1) as parsers:
        report = ingest(collection, files, parsers=parsers, progress=Counting())
    assert sorted(info.source for info in report.put) == sorted(TEXTS)
    assert sum(moves) == pytest.approx(sum(file.size for file in files))
    assert len(moves) > 2 * len(files)
    assert all(move >= 0 for move in moves)
