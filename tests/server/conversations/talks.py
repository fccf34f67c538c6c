"""Conversations that tests hold, and documents that they cite."""

import time
from collections.abc import Sequence
from typing import Any

import httpx2

from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.tables import DocumentRow


def begin(client: httpx2.Client, title: str, *said: str) -> tuple[str, list[str]]:
    """A conversation, and the ids of its turns, question and answer by turns."""
    made = client.post("/api/conversations", json={"title": title, "model": "scripted"}).json()["id"]
    ids: list[str] = []
    for at, content in enumerate(said):
        role = "assistant" if at % 2 else "user"
        ids.append(say(client, made, role, content, ids[-1] if ids else None)["id"])
    return made, ids


def say(
    client: httpx2.Client, conversation: str, role: str, content: str, parent: str | None = None, **more: Any
) -> Any:
    body = {"role": role, "content": content, "parent_id": parent, **more}
    response = client.post(f"/api/conversations/{conversation}/messages", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def citation(document_id: str, quote: str, number: int = 1) -> dict[str, Any]:
    return {
        "number": number,
        "index": 0,
        "file_id": "file-1",
        "filename": f"{quote}.md",
        "collection": f"of-{quote}",
        "document_id": document_id,
        "chunk_id": 7,
        "page": 3,
        "heading": [f"about {quote}"],
        "start": 10,
        "end": 20,
        "quote": quote,
    }


def keep_document(registry: Registry, name: str, labels: Sequence[str]) -> str:
    """A document with these labels; its id."""
    collection = create_collection(registry, f"of-{name}", owner="admin")
    with registry.create("document") as writer:
        (writer.folder / "text.txt").write_text(name)
    row = DocumentRow(
        document_id=f"doc-{name}",
        collection_id=collection.collection_id,
        source=f"{name}.md",
        digest="0" * 64,
        artifact=writer.artifact.digest,
        title=name,
        media_type="text/markdown",
        size=1,
        modified_at=0.0,
        labels=list(labels),
        status="ready",
        problems=[],
        num_pages=1,
        skipped_pages=[],
        chunk_tokens=None,
        overlap_tokens=None,
        updated_at=time.time(),
    )
    with registry.database.session() as session, session.begin():
        session.add(row)
    return row.document_id
