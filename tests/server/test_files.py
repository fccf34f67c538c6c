"""`/v1/files` and `/v1/vector_stores` with the official client: uploads, indexing, search, owners."""

import errno
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import select

from cairn.providers.importing import import_checkpoint
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.tables import DocumentRow
from cairn.server.files.attaching import attach
from cairn.server.files.housekeeping import tidy
from cairn.server.files.ingestion import Ingestor
from cairn.server.files.objects import NewStoreFile
from cairn.server.filters import ComparisonFilter, CompoundFilter, fits
from cairn.server.tables import VectorStoreFileRow, VectorStoreRow
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder
from tests.retrieval.conftest import parsed
from tests.server.conftest import PATIENCE, Running, Script, Serve

pytestmark = needs_native
CATS = b"# Cats\n\nThe cat sat on the mat.\n"
HOUSE = b"# House\n\nWho ran to the blue house?\n"


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedder_folder(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture
def server(
    serve: Serve, script: Script, registry: Registry, embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> Running:
    """A server whose collections are embedded by a tiny encoder, which no head was trained on."""
    monkeypatch.setattr("cairn.providers.knowledge.has_head", lambda *_: False)
    import_checkpoint(registry, embedder, name="all-minilm-l6-v2")
    return serve(script("The cat sat on the mat [1]."), max_upload_bytes=200_000, weights="float32")


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with as_user(server, "ann") as found:
        yield found


def as_user(server: Running, user: str) -> openai.OpenAI:
    found = server.client().with_options(api_key=server.state.identity.create_key(user))
    server.clients.append(found)
    return found


def upload(client: openai.OpenAI, data: bytes = CATS, name: str = "cats.md") -> Any:
    return client.files.create(file=(name, data), purpose="assistants")


def indexed(
    client: openai.OpenAI, store_id: str, data: bytes = CATS, name: str = "cats.md", **more: Any
) -> Any:
    file = upload(client, data, name)
    return client.vector_stores.files.create_and_poll(file.id, vector_store_id=store_id, **more)


def test_files_are_kept_as_they_came(client: openai.OpenAI, server: Running) -> None:
    file = upload(client, name="../a folder\\cäts.md")
    assert (file.filename, file.bytes, file.purpose, file.object) == (
        "cäts.md",
        len(CATS),
        "assistants",
        "file",
    )
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == CATS
    assert client.files.wait_for_processing(file.id).status == "processed"
    others = [upload(client, bytes([each]), f"{each}.bin") for each in range(3)]
    assert client.files.content(others[2].id).read() == b"\x02"
    newest = [each.id for each in reversed([file, *others])]
    assert [each.id for each in client.files.list()] == newest
    assert [each.id for each in client.files.list(limit=2)] == newest  # the client asks for the next page
    first = client.files.list(limit=2)
    assert [each.id for each in first.data] == newest[:2]
    assert first.has_more
    assert [each.id for each in client.files.list(order="asc", after=others[0].id)] == newest[1::-1]
    assert list(client.files.list(purpose="batch")) == []
    with pytest.raises(openai.BadRequestError, match="not in this list"):
        client.files.list(after="file-none")

    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    assert all(CATS not in path.read_bytes() for path in server.state.registry.store.root.rglob("content"))


def test_an_upload_that_is_none_or_too_large_is_refused(client: openai.OpenAI, server: Running) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        upload(client, b"x" * 300_000)
    assert refused.value.status_code == 413
    http = server.http(client.api_key)
    form: dict[str, Any] = {"file": ("a.txt", b"a"), "purpose": (None, "assistants")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"purpose": (None, "assistants")}, "file is missing"),
        ({"file": ("a.txt", b"a")}, "purpose is None"),
        (form | {"purpose": (None, "mischief")}, "purpose is 'mischief'"),
        (form | {"expires_after[seconds]": (None, "3600")}, "expires_after"),
        (form | {"file": (" ", b"a")}, "the file's name"),
    ]
    for wrong, said in cases:
        answer = http.post("/v1/files", files=wrong)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]["message"]
    broken = http.post(
        "/v1/files", content=b"nothing", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert broken.status_code == 400
    assert list(client.files.list()) == []


def test_a_full_disk_is_said(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cairn.server.files.uploaded.shutil.copyfileobj", full)
    with pytest.raises(openai.APIStatusError, match="free space") as refused:
        upload(client)
    assert refused.value.status_code == 507
    monkeypatch.undo()
    assert list(client.files.list()) == []
    assert upload(client).bytes == len(CATS)


def test_a_file_is_indexed_found_and_cited(client: openai.OpenAI, server: Running) -> None:
    store = client.vector_stores.create(name="pets", metadata={"team": "x"})
    assert (store.name, store.status, store.metadata) == ("pets", "completed", {"team": "x"})
    chunking: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    file = indexed(client, store.id, attributes={"kind": "pet", "year": 2020}, chunking_strategy=chunking)
    assert (file.status, file.last_error, file.usage_bytes) == ("completed", None, len(CATS))
    assert file.chunking_strategy.to_dict() == chunking
    house = indexed(client, store.id, HOUSE, "house.md", attributes={"kind": "house", "year": 2024})
    same_name = indexed(client, store.id, b"Another text of cats.", "cats.md")
    store = client.vector_stores.retrieve(store.id)
    assert store.file_counts.to_dict() == {
        "in_progress": 0, "completed": 3, "failed": 0, "cancelled": 0, "total": 3,
    }  # fmt: skip

    found = client.vector_stores.search(store.id, query="the cat on the mat").data
    assert {each.file_id for each in found} == {file.id, house.id, same_name.id}
    best = next(each for each in found if each.file_id == file.id)
    assert (best.filename, best.content[0].text) == ("cats.md", CATS.decode().strip())
    assert best.attributes == {"kind": "pet", "year": 2020}
    assert 0 <= best.score <= 1
    newer: Any = {"type": "gte", "key": "year", "value": 2021}
    assert [each.file_id for each in client.vector_stores.search(store.id, query="cat", filters=newer)] == [
        house.id
    ]
    assert len(client.vector_stores.search(store.id, query=["cat", "house"], max_num_results=2).data) == 2
    none: Any = {"score_threshold": 1.0}
    assert client.vector_stores.search(store.id, query="cat", ranking_options=none).data == []

    search: Any = {"type": "file_search", "vector_store_ids": [store.id], "filters": newer | {"type": "lt"}}
    asked: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "cat?"}]}
    answer: Any = client.chat.completions.create(**asked, tools=[search])
    cited = answer.choices[0].message.annotations[0].to_dict()
    assert (cited["file_id"], cited["filename"]) == (file.id, "cats.md")

    client.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"year": 2030})
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=store.id).attributes == {"year": 2030}
    texts = client.vector_stores.files.content(file.id, vector_store_id=store.id).data
    assert [each.text for each in texts] == [CATS.decode()]
    client.files.delete(file.id)  # from the store too
    assert {each.id for each in client.vector_stores.files.list(store.id)} == {house.id, same_name.id}
    client.vector_stores.files.delete(house.id, vector_store_id=store.id)
    assert client.files.retrieve(house.id).id == house.id
    left = client.vector_stores.search(store.id, query="cat house").data
    assert {each.file_id for each in left} == {same_name.id}
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)


def test_a_store_is_made_with_files_and_their_chunks(client: openai.OpenAI) -> None:
    chunking: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 20}}
    file = client.files.create(file=("cats.md", CATS), purpose="assistants")
    store = client.vector_stores.create(name="cats", file_ids=[file.id], chunking_strategy=chunking)
    listed = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
    assert listed.chunking_strategy is not None
    assert listed.chunking_strategy.to_dict() == chunking


def test_a_file_that_cannot_be_read_says_why(client: openai.OpenAI) -> None:
    store = client.vector_stores.create()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"<a>" * 5_000_000)
    for data, name in ((b"%PDF-1.7\nnothing of it\n", "a.pdf"), (bomb.getvalue(), "b.docx"), (b"", "c.txt")):
        failed = indexed(client, store.id, data, name)
        assert failed.status == "failed", name
        assert failed.last_error is not None
        assert failed.last_error.code in ("invalid_file", "unsupported_file")
        assert " pages are not indexed. page 1: " in failed.last_error.message
    assert indexed(client, store.id).status == "completed"
    counts = client.vector_stores.retrieve(store.id).file_counts
    assert (counts.failed, counts.completed) == (3, 1)
    statuses = [each.status for each in client.vector_stores.files.list(store.id, filter="failed")]
    assert statuses == ["failed"] * 3


def test_what_is_anothers_is_not_there(client: openai.OpenAI, server: Running) -> None:
    store = client.vector_stores.create(name="pets")
    file = indexed(client, store.id)
    bob = as_user(server, "bob")
    own = bob.vector_stores.create(name="pets")
    assert own.name == "pets"
    assert list(bob.files.list()) == []
    assert [each.id for each in bob.vector_stores.list()] == [own.id]
    stores, files = bob.vector_stores, bob.vector_stores.files
    for call in (
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: stores.retrieve(store.id),
        lambda: stores.update(store.id, name="mine"),
        lambda: stores.delete(store.id),
        lambda: stores.search(store.id, query="cat"),
        lambda: files.list(store.id),
        lambda: files.retrieve(file.id, vector_store_id=store.id),
        lambda: files.content(file.id, vector_store_id=store.id),
        lambda: files.delete(file.id, vector_store_id=store.id),
        lambda: files.create(store.id, file_id=file.id),
        lambda: files.create(own.id, file_id=file.id),
        lambda: stores.create(file_ids=[file.id]),
        lambda: stores.file_batches.create(own.id, file_ids=[file.id]),
        lambda: stores.retrieve("vs_none"),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    assert [each.id for each in bob.vector_stores.list()] == [own.id]
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1
    # A collection that is open to all may be searched by all, and changed by its owner alone.
    server.state.library.collection(store.id).relabel(
        [each.document_id for each in documents(server, store.id)], ["everyone"]
    )
    assert len(stores.search(store.id, query="cat").data) == 1
    with pytest.raises(openai.PermissionDeniedError):
        stores.delete(store.id)


def documents(server: Running, store_id: str) -> list[Any]:
    return list(server.state.library.collection(store_id).documents(None))


def test_lists_of_stores_and_files_in_pages(client: openai.OpenAI) -> None:
    stores = [client.vector_stores.create(name=f"s{each}").id for each in range(4)]
    assert [each.id for each in client.vector_stores.list(limit=3)] == stores[::-1]
    assert [each.id for each in client.vector_stores.list(order="asc", after=stores[1])] == stores[2:]
    assert [
        each.id for each in client.vector_stores.list(order="asc", before=stores[3], limit=2).data
    ] == stores[1:3]
    changed: Any = {"anchor": "last_active_at", "days": 3}
    store = client.vector_stores.update(stores[0], name="", metadata={"a": "b"}, expires_after=changed)
    assert (store.name, store.metadata) == ("", {"a": "b"})
    assert store.expires_after is not None
    assert store.expires_at is not None
    assert store.last_active_at is not None
    assert store.expires_at == store.last_active_at + 3 * 86400


def test_a_store_that_was_not_used_expires(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    indexed(client, store.id)
    assert client.vector_stores.search(store.id, query="cat").data
    monkeypatch.setattr("cairn.server.files.housekeeping._DAY", -1.0)
    assert client.vector_stores.retrieve(store.id).status == "expired"
    with pytest.raises(openai.NotFoundError, match="expired 1 days after its last use"):
        client.vector_stores.search(store.id, query="cat")


def test_what_has_expired_goes_with_its_index_and_what_is_used_again_stays(
    client: openai.OpenAI, server: Running, serve: Serve, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    day: Any = {"anchor": "last_active_at", "days": 1}
    kept = [client.vector_stores.create(), client.vector_stores.create(expires_after=day)]
    gone, late = (client.vector_stores.create(expires_after=day) for _ in range(2))
    file = indexed(client, gone.id)
    registry = server.state.registry
    indexes = registry.settings.home / "indexes"
    assert list(indexes.glob(f"{gone.id}-*"))
    _last_used(registry, gone.id, 0.0)
    # Between the look and the deletion somebody says that it is to stay.
    whole = server.state.library.delete

    def delete(collection_id: str, **more: Any) -> None:
        client.vector_stores.update(gone.id, expires_after=None)
        whole(collection_id, **more)

    with monkeypatch.context() as patch:
        patch.setattr(server.state.library, "delete", delete)
        assert tidy(registry, lambda: server.state.library) == []
    client.vector_stores.update(gone.id, expires_after=day)
    _last_used(registry, gone.id, 0.0)
    assert tidy(registry, lambda: server.state.library) == [gone.id]
    assert not list(indexes.glob(f"{gone.id}-*"))
    left = [late.id, *(each.id for each in kept[::-1])]
    assert [each.id for each in client.vector_stores.list()] == left
    assert client.files.retrieve(file.id).filename == "cats.md"
    with registry.database.session(read_only=True) as session:
        assert session.scalars(select(DocumentRow)).all() == []
    # Another server looks at its start.
    _last_used(registry, late.id, 0.0)
    server.stop()
    again = as_user(serve(script("It is.")), "ann")
    server.wait_until(lambda: [each.id for each in again.vector_stores.list()] == left[1:])


def _last_used(registry: Registry, store_id: str, at: float) -> None:
    with registry.database.writing() as session:
        session.get_one(VectorStoreRow, store_id).last_active_at = at


def test_files_of_a_store_are_paged_like_a_sorted_list(client: openai.OpenAI, server: Running) -> None:
    store, registry = client.vector_stores.create().id, server.state.registry
    others = [indexed(client, client.vector_stores.create().id, name=f"{n}.md").id for n in range(5)]
    with registry.database.writing() as session:
        for place, file_id in enumerate(others):  # of some the time is the same
            attach(session, store, "ann", [NewStoreFile(file_id=file_id)])
            row = session.get_one(VectorStoreFileRow, (store, file_id))
            row.created_at, row.status = 100.0 + place // 2, "cancelled" if place % 2 else "failed"
    opened = server.state.library.collection(store)
    plain = opened.put(NewDocument(source="a.md", original=CATS, parsed=parsed("A cat.")))
    other = opened.put(NewDocument(source="b.md", original=CATS, parsed=parsed("A dog.")))
    times = {file_id: 100.0 + place // 2 for place, file_id in enumerate(others)}
    times |= {each.document_id: time.time() for each in (plain, other)}
    for order in ("asc", "desc"):
        ids = sorted(others, key=lambda each: (times[each], each), reverse=order == "desc")
        documents = sorted([plain.document_id, other.document_id], reverse=order == "desc")
        if plain.updated_at == other.updated_at:
            ids = [*ids, *documents] if order == "asc" else [*documents, *ids]
        files = client.vector_stores.files
        whole = [each.id for each in files.list(store, order=order).data]
        assert whole[:5] == ids[:5] if order == "asc" else whole[2:] == ids[-5:]
        for limit in (1, 2, 3):
            assert [each.id for each in files.list(store, order=order, limit=limit)] == whole
            for place in range(7):
                before = files.list(store, order=order, before=whole[place], limit=limit)
                assert [each.id for each in before.data] == whole[max(0, place - limit) : place]
                assert before.has_more == (place > limit)
    failed = [each.id for each in files.list(store, filter="failed", limit=1)]
    assert sorted(failed) == sorted(others[::2])
    with pytest.raises(openai.BadRequestError, match="not in this list"):
        files.list(store, filter="failed", after=others[1])
    assert client.vector_stores.retrieve(store).file_counts.model_dump() == {
        "cancelled": 2,
        "completed": 2,
        "failed": 3,
        "in_progress": 0,
        "total": 7,
    }


def test_batches_are_indexed_and_cancelled(
    client: openai.OpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create()
    with ThreadPoolExecutor(2) as threads:  # two uploads at once
        files = list(threads.map(lambda each: upload(client, CATS + each, "a.md"), (b"one", b"two")))
    batches = client.vector_stores.file_batches
    done = batches.create_and_poll(store.id, file_ids=[each.id for each in files])
    assert (done.status, done.file_counts.completed, done.file_counts.total) == ("completed", 2, 2)
    in_batch = batches.list_files(done.id, vector_store_id=store.id)
    assert {each.id for each in in_batch} == {each.id for each in files}
    monkeypatch.setattr(Ingestor, "wake", lambda _: None)
    other = upload(client)
    begun = batches.create(store.id, files=[{"file_id": other.id, "attributes": {"a": 1}}])
    assert begun.status == "in_progress"
    assert client.vector_stores.retrieve(store.id).status == "in_progress"
    assert batches.cancel(begun.id, vector_store_id=store.id).status == "cancelled"
    assert batches.retrieve(begun.id, vector_store_id=store.id).file_counts.cancelled == 1
    with pytest.raises(openai.NotFoundError):
        batches.retrieve("vsfb_none", vector_store_id=store.id)
    with pytest.raises(openai.BadRequestError, match="one of them"):
        batches.create(store.id)
    assert len(documents(server, store.id)) == 2


def test_what_is_taken_back_while_it_is_read_is_not_there(
    client: openai.OpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create()
    whole = Collection.prepare
    is_taken_back = threading.Event()  # files are read two at a time

    def prepare(self: Collection, batch: Any) -> Any:
        found = whole(self, batch)
        if batch[0].source == "cats.md":
            client.files.delete(file.id)
            is_taken_back.set()
        return found

    monkeypatch.setattr(Collection, "prepare", prepare)
    file = upload(client)
    client.vector_stores.files.create(store.id, file_id=file.id)
    assert indexed(client, store.id, HOUSE, "house.md").status == "completed"
    assert is_taken_back.wait(60)
    assert [each.source for each in documents(server, store.id)] == ["house.md"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_next_server_goes_on_with_what_is_in_line(
    client: openai.OpenAI, server: Running, serve: Serve, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = client.vector_stores.create()
    indexed(client, store.id)

    def dies(*_: object, **__: object) -> None:
        raise SystemExit  # ends the thread, as the end of its process would

    with monkeypatch.context() as dying:
        dying.setattr(Collection, "write", dies)
        house = upload(client, HOUSE, "house.md")
        client.vector_stores.files.create(store.id, file_id=house.id)
        ingestor = server.state.ingestor
        assert ingestor._threads
        for thread in ingestor._threads:
            thread.join(PATIENCE)
    assert client.vector_stores.files.retrieve(house.id, vector_store_id=store.id).status == "in_progress"
    server.stop()

    again = as_user(serve(script("It is.")), "ann")
    done = again.vector_stores.files.poll(house.id, vector_store_id=store.id)
    assert done.status == "completed"
    assert len(again.vector_stores.search(store.id, query="house", max_num_results=50).data) == 2


@pytest.mark.parametrize(
    ("kind", "key", "value", "holds"),
    [
        ("eq", "year", 2020, True),
        ("eq", "year", True, False),
        ("ne", "none", 1, True),
        ("eq", "none", 1, False),
        ("gt", "year", 2019, True),
        ("lt", "year", 2019, False),
        ("gte", "year", "2019", False),
        ("lte", "name", "b", True),
        ("lte", "none", 3, False),
        ("in", "name", ["a", "b"], True),
        ("nin", "name", ["a", "b"], False),
        ("nin", "none", ["a"], True),
        ("gt", "flag", 0, False),
    ],
)
def test_attributes_are_compared(kind: Any, key: str, value: Any, holds: bool) -> None:
    attributes: dict[str, Any] = {"year": 2020.0, "name": "a", "flag": True}
    wanted = ComparisonFilter(type=kind, key=key, value=value)
    assert fits(wanted, attributes) is holds
    for join, others in (("and", True), ("or", False)):
        other = ComparisonFilter(type="eq", key="name", value="a" if others else "z")
        both = CompoundFilter.model_validate({"type": join, "filters": [wanted, other]})
        assert fits(both, attributes) is holds
