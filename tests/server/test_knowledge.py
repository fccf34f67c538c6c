"""Collections over HTTP: made, filled, read and searched by who may, and not there for anybody else."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from cairn.core.embedding import Embeddings, TextInput
from cairn.core.errors import ConflictError
from cairn.providers import own_docs
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.encoders import Encoders
from cairn.server.files.housekeeping import tidy
from cairn.server.knowledge import own_docs as bringing
from cairn.server.knowledge import uploads
from cairn.server.state import ServedModel
from cairn.server.tables import FileRow, VectorStoreFileRow
from tests.retrieval.conftest import document
from tests.retrieval.exact import WordEmbedder, count_tokens, encoders
from tests.server.conftest import PATIENCE, Running, Serve

HOUSE = "# The house\n\nThe blue door leads to the cellar.\n\n## Below\n\nBicycles stand in the cellar 🙂.\n"


class PlainLibrary(Library):
    """Real in all but its embedder, which knows words alone."""

    def encoders(self, name: str, digest: str = "") -> Encoders:
        return encoders()


@pytest.fixture
def running(serve: Serve, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(bringing, "embedder_is_here", lambda registry: True)
    monkeypatch.setattr(own_docs, "own_docs_files", list)
    server = serve(max_upload_bytes=100_000)
    server.state._library = PlainLibrary(registry)
    return server


def user(server: Running, name: str) -> httpx2.Client:
    return server.http(server.state.identity.create_key(name))


def made(client: httpx2.Client, name: str = "house", **more: Any) -> str:
    response = client.post("/api/collections", json={"name": name, **more})
    assert response.status_code == 201, response.text
    return f"/api/collections/{response.json()['id']}"


def sent(server: Running, client: httpx2.Client, path: str, name: str, data: bytes, **more: Any) -> Any:
    """Upload a file and wait until something became of it."""
    response = client.post(f"{path}/uploads", params={"name": name, **more}, content=data)
    assert response.status_code == 202, response.text
    upload_id = response.json()["upload_id"]

    def now() -> Any:
        return next(each for each in client.get(f"{path}/uploads").json() if each["upload_id"] == upload_id)

    server.wait_until(lambda: now()["state"] in ("done", "failed"))
    return now()


def test_a_collection_is_made_changed_and_deleted(running: Running) -> None:
    client = running.http()
    path = made(client, "  notes ")
    found = client.get(path).json()
    assert (found["name"], found["owner"], found["is_own"], found["labels"]) == (
        "notes",
        "admin",
        True,
        ["user:admin"],
    )
    assert client.get("/api/collections/notes").json() == found
    (listed,) = client.get("/api/collections").json()["collections"]
    assert listed == found
    changed = client.patch(
        path, json={"name": "papers", "labels": ["everyone"], "settings": {"reranked": 7, "diversity": 0.5}}
    ).json()
    assert (changed["name"], changed["labels"]) == ("papers", ["everyone"])
    assert (changed["settings"]["reranked"], changed["settings"]["diversity"]) == (7, 0.5)
    assert changed["settings"]["candidates"] == found["settings"]["candidates"]
    for wrong in (
        {"name": "a/b"},
        {"labels": ["anybody"]},
        {"settings": {"diversity": 2}},
        {"settings": {"embedder": "other"}},
        {"nam": "x"},
    ):
        assert client.patch(path, json=wrong).status_code == 400, wrong
    assert client.get(path).json() == changed
    assert client.post("/api/collections", json={"name": "papers"}).status_code == 409
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get("/api/collections").json()["collections"] == []


def test_names_are_their_owners_own(running: Running) -> None:
    client, ada, eve = running.http(), user(running, "ada"), user(running, "eve")
    mine = made(client, "notes", labels=["everyone"])
    (seen,) = eve.get("/api/collections").json()["collections"]
    assert (seen["ref"], seen["owner"]) == ("notes", "admin")
    hers = made(ada, "notes", labels=["everyone"])
    assert client.get("/api/collections/notes").json()["id"] == mine.rsplit("/", 1)[1]
    assert ada.get("/api/collections/notes").json()["id"] == hers.rsplit("/", 1)[1]
    # Each reference leads back to what it stands for.
    for reader in (client, ada, eve):
        for each in reader.get("/api/collections").json()["collections"]:
            assert reader.get(f"/api/collections/{each['ref']}").json() == each
    twice = eve.get("/api/collections/notes")
    assert twice.status_code == 409
    assert "ada/notes, admin/notes" in twice.json()["error"]["message"]
    assert ada.post("/api/collections", json={"name": "notes"}).status_code == 409
    store = eve.get("/v1/vector_stores/notes")
    assert store.status_code == 409
    assert ada.delete("/api/collections/notes").status_code == 204
    assert eve.get("/api/collections/notes").json()["owner"] == "admin"


def test_a_file_is_uploaded_read_found_and_deleted(running: Running) -> None:
    client = running.http()
    path = made(client)
    done = sent(running, client, path, "plans/house.md", HOUSE.encode())
    assert (done["state"], done["status"], done["size"]) == ("done", "ready", len(HOUSE.encode()))
    (listed,) = client.get(f"{path}/documents").json()["documents"]
    document = f"{path}/documents/{done['document_id']}"
    assert client.get(document).json() == listed
    assert (listed["source"], listed["media_type"], listed["is_readable"]) == (
        "plans/house.md",
        "text/markdown",
        True,
    )
    chunks = client.get(f"{document}/chunks").json()
    assert chunks["total"] == len(chunks["chunks"]) == 2
    last = chunks["chunks"][-1]
    assert last["heading"] == ["The house", "Below"]
    assert HOUSE.encode()[last["start"] : last["end"]].decode() == last["text"]
    around = client.get(f"{document}/chunks", params={"around": last["chunk_id"], "limit": 1}).json()
    assert (around["offset"], around["chunks"]) == (1, [last])

    hits = client.post(f"{path}/search", json={"query": "where do the bicycles stand?"}).json()["hits"]
    assert hits[0]["chunk_id"] == last["chunk_id"]
    assert {"lexical", "dense", "fused"} <= hits[0]["stages"].keys()
    words = [hits[0]["text"].encode()[start:end].decode() for start, end in hits[0]["highlights"]]
    assert words == ["Bicycles", "stand"]
    nowhere = client.post(f"{path}/search", json={"query": "bicycles", "documents": []}).json()
    assert nowhere["hits"] == []

    whole = client.get(f"{document}/text").json()
    assert (whole["text"], whole["start"], whole["end"]) == (HOUSE, 0, len(HOUSE.encode()))
    assert client.get(f"{document}/text", params={"page": 1}).json()["text"] == HOUSE
    assert client.get(f"{document}/text", params={"page": 2}).status_code == 400
    smile = HOUSE.encode().index("🙂".encode())
    part = client.get(f"{document}/text", params={"start": smile + 1, "end": smile + 6}).json()
    assert (part["text"], part["start"]) == (".\n", smile + 4)
    original = client.get(f"{document}/original")
    assert original.content == HOUSE.encode()
    assert "attachment" in original.headers["content-disposition"]
    assert original.headers["content-type"] == "application/octet-stream"

    again = sent(running, client, path, "plans/house.md", b"# The house\n\nIt burned down.\n")
    assert again["document_id"] == done["document_id"]
    assert client.get(path).json()["num_chunks"] == 1
    assert client.delete(document).status_code == 204
    assert client.get(document).status_code == 404
    assert client.post(f"{path}/search", json={"query": "house"}).json()["hits"] == []
    actions = [entry.action for entry in running.state.registry.audit.entries()]
    assert "document.delete" in actions


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_was_sent_is_indexed_once_by_whichever_server_comes_next(
    running: Running, serve: Serve, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = running.http()
    path = made(client)
    entered = threading.Event()

    def stops(*_: object, **__: object) -> None:
        entered.set()
        raise SystemExit  # ends the thread, as the end of its process would

    with monkeypatch.context() as dying:
        dying.setattr(Collection, "write", stops)
        for text in (b"# House\n\nIt is red.\n", b"# House\n\nIt is blue.\n"):
            answer = client.post(
                f"{path}/uploads", params={"name": "house.md", "label": "user:ada"}, content=text
            )
            assert answer.status_code == 202
        assert entered.wait(PATIENCE)
        for thread in running.state.ingestor._threads:
            thread.join(PATIENCE)
    assert [each["state"] for each in client.get(f"{path}/uploads").json()] == ["waiting"] * 2
    assert client.get("/v1/files").json()["data"] == []  # they are no uploads of the API
    running.stop()

    monkeypatch.setattr(Library, "encoders", PlainLibrary.encoders)
    again = serve()
    client, ada = again.http(), user(again, "ada")
    again.wait_until(lambda: [each["state"] for each in client.get(f"{path}/uploads").json()] == ["done"] * 2)
    (document,) = client.get(f"{path}/documents").json()["documents"]
    assert document["labels"] == ["user:ada"]
    # The one that was sent last stays, and nothing is left of the way there.
    assert "blue" in ada.get(f"{path}/documents/{document['id']}/text").json()["text"]
    again.wait_until(lambda: registry.artifacts("file") == [])
    with registry.database.session(read_only=True) as session:
        assert session.scalars(select(FileRow)).all() == []
        assert session.scalars(select(VectorStoreFileRow)).all() == []


def test_a_file_that_fails_says_why_for_a_day_and_goes_with_its_collection(
    running: Running, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = running.http()
    path = made(client)

    def breaks(*_: object, **__: object) -> None:
        raise ConflictError("the cellar is flooded")

    with monkeypatch.context() as breaking:
        breaking.setattr(Collection, "write", breaks)
        failed = sent(running, client, path, "house.md", HOUSE.encode())
    assert (failed["state"], failed["message"]) == ("failed", "the cellar is flooded")
    library = running.state.library
    tidy(registry, lambda: library)
    assert [each["state"] for each in client.get(f"{path}/uploads").json()] == ["failed"]
    with monkeypatch.context() as later:
        later.setattr("cairn.server.files.attaching._FAILED_SECONDS", -1.0)
        tidy(registry, lambda: library)
    assert client.get(f"{path}/uploads").json() == []
    assert registry.artifacts("file") == []
    with monkeypatch.context() as breaking:
        breaking.setattr(Collection, "write", breaks)
        sent(running, client, path, "house.md", HOUSE.encode())
    client.delete(path)
    tidy(registry, lambda: library)
    assert registry.artifacts("file") == []


def test_documents_are_listed_by_words_status_and_page(running: Running) -> None:
    client = running.http()
    path = made(client)
    for number in range(4):
        sent(running, client, path, f"note {number}.txt", f"note number {number}".encode())
    empty = sent(running, client, path, "nothing.txt", b"")
    assert (empty["state"], empty["status"], empty["num_skipped_pages"]) == ("done", "unreadable", 1)

    def sources(**params: Any) -> tuple[list[str], int]:
        found = client.get(f"{path}/documents", params=params).json()
        return [each["source"] for each in found["documents"]], found["total"]

    assert sources(limit=2) == (["note 0.txt", "note 1.txt"], 5)
    assert sources(limit=2, offset=2) == (["note 2.txt", "note 3.txt"], 5)
    assert sources(q="3 NOTE") == (["note 3.txt"], 1)
    assert sources(status="unreadable") == (["nothing.txt"], 1)
    (bad,) = client.get(f"{path}/documents", params={"status": "unreadable"}).json()["documents"]
    assert (bad["problems"][0]["page"], bad["problems"][0]["is_indexed"], bad["skipped_pages"]) == (
        1,
        False,
        [1],
    )
    assert bad["problems"][0]["message"]
    found = client.get(path).json()
    assert (found["num_documents"], found["num_unreadable"], found["num_skipped_pages"]) == (5, 1, 1)


def test_what_cannot_be_taken_is_refused(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client = running.http()
    path = made(client)
    for name in ("", "..", "a/../b", "/etc/passwd", "a\nb", "x" * 1001):
        assert client.post(f"{path}/uploads", params={"name": name}, content=b"x").status_code == 400, name
    large = client.post(f"{path}/uploads", params={"name": "a.txt"}, content=b"x" * 100_001)
    assert large.status_code == 413

    def chunks() -> Iterator[bytes]:
        yield from (b"x" * 50_000 for _ in range(3))

    assert client.post(f"{path}/uploads", params={"name": "a.txt"}, content=chunks()).status_code == 413
    assert (
        client.post(f"{path}/uploads", params={"name": "a", "label": "you"}, content=b"x").status_code == 400
    )
    monkeypatch.setattr(uploads, "_MOST_WAITING", 0)
    full = client.post(f"{path}/uploads", params={"name": "a.txt"}, content=b"x")
    assert (full.status_code, full.headers["retry-after"]) == (429, "5")
    monkeypatch.setattr(bringing, "embedder_is_here", lambda registry: False)
    missing = client.post(f"{path}/uploads", params={"name": "a.txt"}, content=b"x")
    assert missing.status_code == 409
    assert "pip install" in missing.json()["error"]["remedy"]
    assert client.get("/api/collections").json()["missing"]["remedy"].startswith("pip install")
    assert client.get(f"{path}/uploads").json() == []
    assert list(running.state.registry.store.scratch.iterdir()) == []


def test_nobody_sees_what_is_not_open_to_them(running: Running) -> None:
    client, ada, eve = running.http(), user(running, "ada"), user(running, "eve")
    path = made(client, "secrets")
    secret = sent(running, client, path, "secret.txt", b"the treasure lies below the bridge")
    shared = sent(
        running, client, path, "shared.txt", b"the bridge is open today", label=["user:ada", "user:admin"]
    )
    hidden, open_one = (f"{path}/documents/{each['document_id']}" for each in (secret, shared))
    query = {"query": "treasure bridge"}
    upload: dict[str, Any] = {"params": {"name": "a.txt"}, "content": b"x"}
    for stranger in (eve, ada):
        for attempt in (
            stranger.get(hidden),
            stranger.get(f"{hidden}/chunks"),
            stranger.get(f"{hidden}/text"),
            stranger.get(f"{hidden}/original"),
        ):
            assert attempt.status_code == 404
            assert "treasure" not in attempt.text
    assert eve.get("/api/collections").json()["collections"] == []
    for attempt in (
        eve.get(path),
        eve.get("/api/collections/secrets"),
        eve.get(f"{path}/documents"),
        eve.get(open_one),
        eve.post(f"{path}/search", json=query),
        eve.patch(path, json={"labels": ["everyone"]}),
        eve.delete(path),
        eve.post(f"{path}/uploads", **upload),
        eve.get(f"{path}/uploads"),
        eve.patch(hidden, json={"labels": ["user:eve"]}),
        eve.delete(hidden),
    ):
        assert attempt.status_code == 404, attempt.url

    (seen,) = ada.get("/api/collections").json()["collections"]
    assert (seen["num_documents"], seen["num_chunks"], seen["is_own"], seen["labels"]) == (1, 1, False, [])
    (document,) = ada.get(f"{path}/documents").json()["documents"]
    assert (document["source"], document["labels"]) == ("shared.txt", ["user:ada"])
    assert [hit["source"] for hit in ada.post(f"{path}/search", json=query).json()["hits"]] == ["shared.txt"]
    assert ada.get(f"{open_one}/text").json()["text"] == "the bridge is open today"
    for attempt in (
        ada.patch(path, json={"labels": ["everyone"]}),
        ada.delete(path),
        ada.post(f"{path}/uploads", **upload),
        ada.patch(open_one, json={"labels": ["everyone"]}),
        ada.delete(open_one),
    ):
        assert attempt.status_code == 403, attempt.url
    assert len(client.get(f"{path}/documents").json()["documents"]) == 2
    assert running.http("").get("/api/collections").status_code == 401


def test_access_changes_hold_at_once_and_are_in_the_audit_log(running: Running) -> None:
    client, ada = running.http(), user(running, "ada")
    path = made(client)
    done = sent(running, client, path, "house.md", HOUSE.encode())
    document, query = f"{path}/documents/{done['document_id']}", {"query": "bicycles"}
    assert ada.get(document).status_code == 404
    assert client.patch(document, json={"labels": ["user:ada"]}).json()["labels"] == ["user:ada"]
    assert len(ada.post(f"{path}/search", json=query).json()["hits"]) == 2
    # Its owner looks after it still, and does not read it.
    assert client.get(document).json()["is_readable"] is False
    assert client.get(f"{document}/text").status_code == 403
    assert client.get(f"{document}/chunks").status_code == 403
    assert client.post(f"{path}/search", json=query).json()["hits"] == []
    assert client.patch(document, json={"labels": []}).status_code == 200
    assert ada.get("/api/collections").json()["collections"] == []
    assert client.patch(path, json={"labels": ["everyone"], "for_documents": True}).status_code == 200
    assert ada.get(f"{document}/text").status_code == 200
    entries = [entry for entry in running.state.registry.audit.entries() if entry.action == "document.access"]
    assert [(entry.actor, entry.subject, entry.details["labels"]) for entry in entries] == [
        ("admin", "house/house.md", ["user:ada"]),
        ("admin", "house/house.md", []),
        ("admin", "house", ["everyone"]),
    ]
    other = made(client, "other")
    assert client.get(f"{other}/documents/{done['document_id']}").status_code == 404


def test_own_documentation_comes_once_and_follows_its_pages(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for page in pages:
        page.write_text(f"# {page.stem}\n\nCairn has a page on {page.stem}.\n")
    monkeypatch.setattr(own_docs, "own_docs_files", lambda: [page for page in pages if page.exists()])
    library = running.state.library
    client, ada = running.http(), user(running, "ada")

    def sources() -> list[str]:
        listed = ada.get("/api/collections/cairn-docs/documents").json()
        return [each["source"] for each in listed.get("documents", [])]

    assert client.get("/api/collections").json()["collections"] == []  # asking begins it
    running.wait_until(lambda: sources() == ["one.md", "two.md"] and not running.state.own_docs.preparing)
    running.wait_until(lambda: client.get("/api/collections").json()["preparing"] is None)
    path = "/api/collections/cairn-docs"
    closed = next(
        each for each in client.get(f"{path}/documents").json()["documents"] if each["source"] == "one.md"
    )
    client.patch(f"{path}/documents/{closed['id']}", json={"labels": ["user:admin"]})
    sent(running, client, path, "mine.md", b"# Mine\n")
    pages[0].write_text("# One\n\nIt says something else now.\n")
    pages[1].unlink()
    own_docs.bring_own_docs(library, owner="admin")
    assert sources() == ["mine.md"]
    assert [each["source"] for each in client.get(f"{path}/documents").json()["documents"]] == [
        "mine.md",
        "one.md",
    ]
    hits = client.post(f"{path}/search", json={"query": "something else"}).json()["hits"]
    assert hits[0]["source"] == "one.md"
    client.delete(path)
    own_docs.bring_own_docs(library, owner="admin")
    assert client.get(path).status_code == 404


def test_a_server_that_ends_does_not_wait_for_the_rest_of_the_documentation(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry: Registry
) -> None:
    pages = [tmp_path / f"{number}.md" for number in range(20)]
    for page in pages:
        page.write_text(f"# {page.stem}\n\nCairn has a page on {page.stem}.\n")
    monkeypatch.setattr(own_docs, "own_docs_files", lambda: pages)
    put, entered, end = Collection.put, threading.Event(), threading.Event()

    def wait(self: Collection, document: Any) -> Any:
        entered.set()
        assert end.wait(PATIENCE)
        return put(self, document)

    library = running.state.library
    with monkeypatch.context() as slow:
        slow.setattr(Collection, "put", wait)
        running.http().get("/api/collections")
        assert entered.wait(PATIENCE)
        closing = threading.Thread(target=running.state.own_docs.close)
        closing.start()
        running.wait_until(running.state.own_docs._end.is_set)
        end.set()
        closing.join(PATIENCE)
    assert len(library.collection("cairn-docs").documents(None)) == 1
    own_docs.bring_own_docs(library, owner="admin")
    assert len(library.collection("cairn-docs").documents(None)) == 20


def test_the_pages_of_this_cairn_are_found() -> None:
    names = [path.name for path in own_docs.own_docs_files()]
    assert {"README.md", "knowledge.md", "serving.md", "settings.md"} <= set(names)
    assert "log.md" not in names


def test_a_stored_reply_keeps_what_it_cites_as_long_as_it_is_open(running: Running) -> None:
    client = running.http()
    path = made(client)
    done = sent(running, client, path, "house.md", HOUSE.encode())
    document = f"{path}/documents/{done['document_id']}"
    passage = client.get(f"{document}/chunks").json()["chunks"][-1]
    cited = {
        "type": "file_citation",
        "number": 1,
        "index": 11,
        "file_id": done["document_id"],
        "filename": "house.md",
        "collection": "house",
        "collection_id": path.rsplit("/", 1)[1],
        "document_id": done["document_id"],
        "chunk_id": passage["chunk_id"],
        "page": 1,
        "heading": passage["heading"],
        "start": passage["start"],
        "end": passage["end"],
        "quote": passage["text"],
    }
    sentence = {"start": 0, "end": 14, "sources": [1], "supported": True}
    conversation = client.post("/api/conversations", json={}).json()["id"]
    reply = {
        "role": "assistant",
        "content": "The cellar [1]",
        "annotations": [cited],
        "sentences": [sentence],
    }
    stored = client.post(f"/api/conversations/{conversation}/messages", json=reply).json()

    def told() -> Any:
        (message,) = client.get(f"/api/conversations/{conversation}").json()["messages"]
        return message

    assert told() == stored
    assert (stored["annotations"], stored["sentences"]) == ([cited | {"is_open": True}], [sentence])
    closed = [cited | {"is_open": False, "quote": "", "heading": []}]
    client.patch(document, json={"labels": ["user:ada"]})
    assert told()["annotations"] == closed
    client.patch(document, json={"labels": ["everyone"]})
    assert told()["annotations"] == stored["annotations"]
    client.delete(document)
    assert told()["annotations"] == closed
    assert told()["content"] == "The cellar [1]"
    wrong = reply | {"annotations": [{"number": 1}]}
    assert client.post(f"/api/conversations/{conversation}/messages", json=wrong).status_code == 400


class GatedEmbedder(WordEmbedder):
    """Another embedder, which waits to be let through."""

    def __init__(self) -> None:
        super().__init__(dimensions=48)
        self.gate, self.entered = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return super().embed(texts, truncate=truncate)


def test_another_embedder_is_filled_switched_to_rolled_back_and_dropped(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = GatedEmbedder()
    gated.gate.set()
    other = Encoders(embedder=gated, digest="sha256:other", count_tokens=count_tokens)
    both = {"other": other, "sha256:other": other}
    monkeypatch.setattr(PlainLibrary, "encoders", lambda self, name, digest="": both.get(name) or encoders())
    served = ServedModel("other", "sha256:other", 1.0, task="embedding")
    monkeypatch.setattr(running.state.models, "encoders", lambda: [served])
    client, ada = running.http(), user(running, "ada")
    path = made(client, labels=["everyone"])
    for number in range(70):  # more than one step of filling
        text = f"note {number} of the house"
        running.state.library.collection(path.rsplit("/", 1)[1]).put(document(f"{number}.md", text))

    def done() -> Any:
        running.wait_until(lambda: client.get(f"{path}/embedding").json()["work"]["is_over"])
        return client.get(f"{path}/embedding").json()

    def order(action: str, **more: Any) -> Any:
        return client.post(f"{path}/embedding", json={"action": action, **more})

    begun = client.get(f"{path}/embedding").json()
    assert [each["role"] for each in begun["spaces"]] == ["active"]
    assert (begun["embedders"], begun["work"], begun["recall"]) == (["other"], None, None)
    assert ada.get(f"{path}/embedding").status_code == 403
    assert ada.post(f"{path}/embedding", json={"action": "drop"}).status_code == 403
    assert "allowed: other" in order("embed", embedder="none").json()["error"]["message"]
    assert order("embed").status_code == 400
    assert order("switch").status_code == 202
    assert "has no next space" in done()["work"]["problem"]

    gated.gate.clear()
    assert order("embed", embedder="other").json()["work"]["is_over"] is False
    assert gated.entered.wait(PATIENCE)
    assert order("check").status_code == 409
    assert order("drop").status_code == 202  # ends what is under way
    gated.gate.set()
    assert [each["role"] for each in done()["spaces"]] == ["active"]
    order("embed", embedder="other")
    spaces = {each["role"]: each for each in done()["spaces"]}
    assert (spaces["next"]["embedder"], spaces["next"]["num_done"]) == ("other", 70)
    order("switch")
    assert {each["role"]: each["embedder"] for each in done()["spaces"]} == {
        "active": "other",
        "previous": "all-minilm-l6-v2",
    }
    assert client.get(path).json()["embedder"] == "other"
    hits = client.post(f"{path}/search", json={"query": "note 7"}).json()["hits"]
    assert hits[0]["source"] == "7.md"
    order("rollback")
    assert {each["role"]: each["embedder"] for each in done()["spaces"]} == {
        "active": "all-minilm-l6-v2",
        "next": "other",
    }
    order("drop")
    assert [each["embedder"] for each in done()["spaces"]] == ["all-minilm-l6-v2"]
    order("check")
    checked = done()
    assert checked["work"]["message"] == "the index holds exactly what the database does"
    assert (checked["recall"]["num_samples"], checked["recall"]["is_low"]) == (70, False)
    entries = running.state.registry.audit.entries()
    moves = [(each.action, each.actor) for each in entries if each.action.startswith("collection.")]
    assert moves == [("collection.switch", "admin"), ("collection.rollback", "admin")]


def test_what_is_set_from_the_page_is_what_the_command_line_sets(running: Running) -> None:
    client = running.http()
    path = made(client)
    settings = client.get(path).json()["settings"]
    set_elsewhere = {"embedder", "folders"}
    assert settings.keys() == CollectionConfig.model_fields.keys() - set_elsewhere
    wanted = {"graph": True, "recall_share": 0.5, "least_recall": 0.9, "keep_queries": 20, "chunk_tokens": 80}
    assert client.patch(path, json={"settings": wanted}).json()["settings"] == settings | wanted
    refused: tuple[dict[str, Any], ...] = ({"recall_share": 2}, {"graph": "perhaps"}, {"folders": {}})
    for wrong in refused:
        assert client.patch(path, json={"settings": wrong}).status_code == 400
