"""The line of files and their lists, in both kinds of database."""

import time
from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.registry import Registry
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.server.files.attaching import attach, leave_line, new_file_id, remove_left_over, send, use_of
from cairn.server.files.ingestion import next_in_line
from cairn.server.files.listing import page_of_files, store_file, totals
from cairn.server.files.objects import NewStoreFile
from cairn.server.files.paging import Walk
from cairn.server.tables import FileRow, VectorStoreFileRow
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Settings(home=tmp_path / "home", database_url=url)


def file_of(registry: Registry, collection_id: str | None = None) -> FileRow:
    """A file that is not kept yet, with bytes of its own."""
    file_id = new_file_id()
    with registry.create("file") as writer:
        (writer.folder / "content").write_text(file_id)
    return FileRow(
        file_id=file_id,
        owner="ann",
        filename=f"{file_id}.md",
        purpose="assistants",
        size=writer.artifact.size,
        artifact=writer.artifact.digest,
        collection_id=collection_id,
        created_at=time.time(),
    )


def test_files_are_listed_in_pages_and_leave_the_line(registry: Registry) -> None:
    collection_id = create_collection(registry, "notes", owner="ann").collection_id
    uploads = [file_of(registry) for _ in range(3)]
    sent = [file_of(registry, collection_id) for _ in range(2)]
    with registry.database.writing() as session:
        for file in uploads:
            session.add(file)
            session.add(ArtifactUseRow(digest=file.artifact, user=use_of(file.file_id)))
            session.flush()
            attach(session, collection_id, "ann", [NewStoreFile(file_id=file.file_id)])
        for file in sent:
            send(session, collection_id, file, "same.md", ["everyone"])
    first = next_in_line(registry)
    assert first is not None
    assert (first.file_id, first.is_sent) == (uploads[0].file_id, False)
    following = next_in_line(registry, {first.document_id})
    assert following is not None
    assert following.file_id == uploads[1].file_id
    with Collection.open(registry, collection_id, encoders(), ExactIndexes()) as collection:
        other = collection.put(document("other.md", "It came otherwise."))

    with registry.database.session(read_only=True) as session:
        # Those that were sent are no files of the API.
        listed = [*(file.file_id for file in uploads), other.document_id]
        found, has_more = page_of_files(session, collection_id, Walk(limit=3, order="asc"))
        assert ([each.file_id for each in found], has_more) == (listed[:3], True)
        rest, has_more = page_of_files(session, collection_id, Walk(order="asc", after=listed[2]))
        assert ([each.file_id for each in rest], has_more) == (listed[3:], False)
        done, _ = page_of_files(session, collection_id, Walk(), status="completed")
        assert [each.file_id for each in done] == [other.document_id]
        together = totals(session, collection_id)
        assert (together.counts.total, together.counts.in_progress) == (4, 3)
        assert together.num_bytes == other.size
        assert store_file(session, collection_id, listed[1]).status == "in_progress"
        assert totals(session, collection_id, batch_id="none").counts.total == 0

    with registry.database.writing() as session:
        leave_line(session, collection_id, sent[0].file_id)
        session.flush()
        assert session.get(FileRow, sent[0].file_id) is None
        assert session.get(FileRow, sent[1].file_id) is not None  # it waits still
        assert remove_left_over(session) == []
        session.delete(session.get_one(VectorStoreFileRow, (collection_id, sent[1].file_id)))
        session.flush()
        assert remove_left_over(session) == [sent[1].artifact]
