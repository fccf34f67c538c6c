"""What one tenant makes is not there for another, over every route that takes the id of something."""

import json
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cairn.server.identity.permissions import Permission
from tests.engine.native_tiny import needs_native
from tests.server.conftest import Running
from tests.server.identity.test_permissions import permission_of, routes
from tests.server.test_files import embedder, server

__all__ = ["embedder", "server"]
pytestmark = needs_native

SHARED = {"name", "digest", "run_id", "user_id", "token"}
"""Parameters that name what all see, what is an administrator's to see, or a secret that was handed on."""
OF_ADMINISTRATORS = {
    Permission.MANAGE_KEYS,
    Permission.MANAGE_PEOPLE,
    Permission.MANAGE_LIMITS,
    Permission.READ_AUDIT,
}
TENANTS = ("ann", "bob", "admin")
"""An administrator manages accounts, and reads nobody's conversations and files."""
FOR_ADMINISTRATORS = ("/api/traces/{trace_id}",)
"""They see how everybody's requests went, and not what was said."""

KINDS = ("conversation", "response", "file", "store", "batch", "key", "prompt")

BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/vector_stores/{store_id}": {"name": "mine now"},
    "POST /v1/vector_stores/{store_id}/search": {"query": "cat"},
    "POST /v1/vector_stores/{store_id}/files": {"file_id": "file-1"},
    "POST /v1/vector_stores/{store_id}/files/{file_id}": {"attributes": {"a": "b"}},
    "POST /v1/vector_stores/{store_id}/file_batches": {"file_ids": ["file-1"]},
    "PATCH /api/conversations/{conversation_id}": {"title": "mine now"},
    "POST /api/conversations/{conversation_id}/messages": {"role": "user", "content": "me too"},
    "PATCH /api/folders/{folder_id}": {"name": "mine now"},
    "PATCH /api/prompts/{prompt_id}": {"name": "mine now"},
    "PATCH /api/collections/{ref}": {"name": "mine-now"},
    "POST /api/collections/{ref}/embedding": {"action": "rebuild"},
    "PATCH /api/collections/{ref}/documents/{document_id}": {"labels": ["everyone"]},
    "POST /api/collections/{ref}/search": {"query": "cat"},
}


@dataclass
class Thing:
    """Something made: the ids by which routes know it, below a path."""

    owner: str
    below: tuple[str, ...]
    ids: dict[str, str]
    marker: str
    """A word that stands in it and nowhere else."""
    said: dict[str, str] = field(default_factory=dict)
    """What its owner is told of it, by path."""


class Tenants:
    """Clients of a server, and what they make with them."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.clients = {
            name: server.http(server.state.identity.create_key(name) if name != "admin" else None)
            for name in TENANTS
        }
        self.makers: dict[str, Callable[[httpx2.Client, str], Thing]] = {
            "conversation": self._conversation,
            "response": self._response,
            "file": self._file,
            "store": self._store,
            "batch": self._batch,
            "key": self._key,
            "prompt": self._prompt,
        }

    def make(self, owner: str, kind: str) -> Thing:
        found = self.makers[kind](self.clients[owner], f"only{uuid.uuid4().hex[:12]}")
        found.owner = owner
        return found

    def _chat(self, client: httpx2.Client, text: str) -> str:
        ask = {"model": "scripted", "messages": [{"role": "user", "content": text}]}
        return str(posted(client, "/v1/chat/completions", ask)["cairn"]["receipt"])

    def _conversation(self, client: httpx2.Client, marker: str) -> Thing:
        made = posted(client, "/api/conversations", {"title": marker})
        receipt = self._chat(client, marker)
        sent = {"params": {"name": f"{marker}.md", "model": "scripted"}, "content": f"# {marker}".encode()}
        attached = client.post("/api/attachments", **sent).json()["id"]  # type: ignore[arg-type]
        said = {"role": "assistant", "content": marker, "receipt_id": receipt, "attachments": [attached]}
        message = posted(client, f"/api/conversations/{made['id']}/messages", said)
        posted(client, "/api/feedback", {"message_id": message["id"], "rating": 1, "comment": marker})
        pair = [receipt, self._chat(client, f"{marker} again")]
        posted(client, "/api/preferences", {"receipts": pair, "better": receipt})
        trace = client.get(f"/api/receipts/{receipt}").json()["trace_id"]
        self.server.wait_until(lambda: client.get(f"/api/traces/{trace}").status_code == 200)
        folder = posted(client, "/api/folders", {"name": marker, "conversation_ids": [made["id"]]})
        share = posted(client, f"/api/conversations/{made['id']}/shares", {})
        ids = {"conversation_id": made["id"], "receipt_id": receipt, "message_id": message["id"]}
        ids |= {"folder_id": folder["folder_id"], "share_id": share["share_id"], "trace_id": trace}
        ids["attachment_id"] = attached
        kinds = ("conversations", "receipts", "folders", "shares", "traces", "attachments")
        return Thing("", tuple(f"/api/{kind}" for kind in kinds), ids, marker)

    def _prompt(self, client: httpx2.Client, marker: str) -> Thing:
        made = posted(client, "/api/prompts", {"name": marker, "content": f"{marker} {{{{what}}}}"})
        return Thing("", ("/api/prompts",), {"prompt_id": made["prompt_id"]}, marker)

    def _response(self, client: httpx2.Client, marker: str) -> Thing:
        made = posted(client, "/v1/responses", {"model": "scripted", "input": marker})
        return Thing("", ("/v1/responses",), {"response_id": made["id"]}, marker)

    def _file(
        self, client: httpx2.Client, marker: str, *, text: str = "", purpose: str = "assistants"
    ) -> Thing:
        sent = {
            "file": (
                f"{marker}.jsonl" if text else f"{marker}.md",
                (text or f"# {marker}\n\nA cat.\n").encode(),
            )
        }
        answer = client.post("/v1/files", files=sent, data={"purpose": purpose})
        assert answer.status_code == 200, answer.text
        return Thing("", ("/v1/files",), {"file_id": answer.json()["id"]}, marker)

    def _store(self, client: httpx2.Client, marker: str) -> Thing:
        file_id = self._file(client, marker).ids["file_id"]
        store = posted(client, "/v1/vector_stores", {"name": marker})["id"]
        batch = posted(client, f"/v1/vector_stores/{store}/file_batches", {"file_ids": [file_id]})["id"]
        path = f"/v1/vector_stores/{store}/file_batches/{batch}"
        self.server.wait_until(lambda: client.get(path).json()["status"] == "completed")
        documents = client.get(f"/api/collections/{store}/documents").json()["documents"]
        ids = {"store_id": store, "ref": store, "file_id": file_id, "batch_id": batch}
        below = ("/v1/vector_stores", "/v1/files", "/api/collections")
        return Thing("", below, {**ids, "document_id": documents[0]["id"]}, marker)

    def _batch(self, client: httpx2.Client, marker: str) -> Thing:
        ask = {"model": "scripted", "messages": [{"role": "user", "content": marker}]}
        line = {"custom_id": marker, "method": "POST", "url": "/v1/chat/completions", "body": ask}
        file_id = self._file(client, marker, text=json.dumps(line), purpose="batch").ids["file_id"]
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = posted(client, "/v1/batches", body)
        path = f"/v1/batches/{made['id']}"
        self.server.wait_until(lambda: client.get(path).json()["status"] == "completed")
        return Thing("", ("/v1/batches", "/v1/files"), {"batch_id": made["id"], "file_id": file_id}, marker)

    def _key(self, client: httpx2.Client, marker: str) -> Thing:
        made = posted(client, "/api/keys", {"name": marker})
        browser = self.server.http("")
        browser.headers["user-agent"] = marker
        posted(browser, "/api/sign-in", {"key": made["key"]})
        sessions = client.get("/api/account/sessions").json()
        (session_id,) = (each["session_id"] for each in sessions if each["agent"] == marker)
        ids = {"key_id": made["key_id"], "session_id": session_id}
        return Thing("", ("/api/keys", "/api/account/sessions"), ids, marker)


def posted(client: httpx2.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 201), (path, answer.text)
    return answer.json()


def paths_to(thing: Thing) -> Iterator[tuple[str, str, str]]:
    """Method, template and path of every route that takes ids of a thing alone."""
    for (method, template), context in routes():
        params = set(context.param_convertors)
        if params and params <= thing.ids.keys() and template.startswith(thing.below):
            yield method, template, template.format_map(thing.ids)


def test_every_route_that_takes_an_id_is_walked(server: Running) -> None:
    """A new kind of thing has to be made here, or said to be everybody's."""
    tenants = Tenants(server)
    walked = {
        f"{method} {template}"
        for kind in tenants.makers
        for method, template, _ in paths_to(tenants.make("ann", kind))
    }
    for (method, template), context in routes():
        params = set(context.param_convertors)
        if params and permission_of(context) not in OF_ADMINISTRATORS and not params <= SHARED:
            assert f"{method} {template}" in walked, f"{method} {template} is walked by nobody"


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(TENANTS),
            st.sampled_from(KINDS),
        ),
        min_size=2,
        max_size=4,
    )
)
@example([("ann", each) for each in KINDS])
def test_what_one_makes_is_not_there_for_another(server: Running, makings: list[tuple[str, str]]) -> None:
    tenants = Tenants(server)
    things = [tenants.make(owner, kind) for owner, kind in makings]
    for thing in things:
        for method, _, path in paths_to(thing):
            if method == "GET":
                answer = tenants.clients[thing.owner].get(path)
                assert answer.status_code == 200, (path, answer.text)
                thing.said[path] = answer.text
    for thing in things:
        for name, client in tenants.clients.items():
            if name != thing.owner:
                check_is_hidden(thing, client, FOR_ADMINISTRATORS if name == "admin" else ())
    for thing in things:
        for path, said in thing.said.items():
            if "/embedding" not in path:  # says how long ago it looked
                assert tenants.clients[thing.owner].get(path).text == said, path


def check_is_hidden(thing: Thing, client: httpx2.Client, for_all_to_see: Collection[str] = ()) -> None:
    """Not found by its ids, not in any list, not through what one has oneself.

    Of `for_all_to_see`, routes that are open to who asks, the traces: none of the other ids, and no words.
    """
    for method, template, path in paths_to(thing):
        body = BODIES.get(f"{method} {template}", {})
        sent: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": body}
        answer = client.request(method, path, params={"name": "x.md"} if "uploads" in path else {}, **sent)
        if template in for_all_to_see:
            told = (thing.marker, *(each for name, each in thing.ids.items() if name != "trace_id"))
            assert answer.status_code == 200
            assert not [each for each in told if each in answer.text], "nothing that was said"
            continue
        assert answer.status_code == 404, (method, path, answer.status_code, answer.text)
        assert thing.marker not in answer.text
    for (method, template), context in routes():
        if method == "GET" and not context.param_convertors:
            permission = permission_of(context)
            if permission is not None and permission not in OF_ADMINISTRATORS:
                text = client.get(template).text
                ids = [each for name, each in thing.ids.items() if name != "trace_id" or not for_all_to_see]
                known = [each for each in (thing.marker, *ids) if each in text]
                assert not known, f"{template} tells of {known}: {text[:2000]}"
    check_is_not_reached(thing, client)


def check_is_not_reached(thing: Thing, client: httpx2.Client) -> None:
    """Ids of somebody else's in bodies of one's own requests."""
    ids = thing.ids
    ask = {"model": "scripted", "messages": [{"role": "user", "content": "a cat?"}]}
    orders: list[tuple[str, dict[str, Any]]] = []
    if "message_id" in ids:
        mine = posted(client, "/api/conversations", {})["id"]
        said = {"role": "assistant", "content": "x"}
        orders.append(("/api/feedback", {"message_id": ids["message_id"], "rating": -1}))
        orders.append((f"/api/conversations/{mine}/messages", {**said, "receipt_id": ids["receipt_id"]}))
        orders.append((f"/api/conversations/{mine}/messages", said | {"attachments": [ids["attachment_id"]]}))
        pair = [ids["receipt_id"], posted(client, "/v1/chat/completions", ask)["cairn"]["receipt"]]
        orders.append(("/api/preferences", {"receipts": pair, "better": pair[0]}))
        orders.append((f"/api/conversations/{mine}/shares", {"message_id": ids["message_id"]}))
        orders.append(("/api/folders", {"name": "x", "conversation_ids": [ids["conversation_id"]]}))
        moved = client.patch(f"/api/conversations/{mine}", json={"folder_id": ids["folder_id"]})
        assert (moved.status_code, thing.marker in moved.text) == (404, False)
        found = client.get("/api/conversations/search", params={"q": thing.marker}).json()
        assert found["hits"] == []
    if "response_id" in ids:
        follow = {"model": "scripted", "input": "x", "previous_response_id": ids["response_id"]}
        orders.append(("/v1/responses", follow))
    if "file_id" in ids:
        mine = posted(client, "/v1/vector_stores", {"name": "own"})["id"]
        orders.append((f"/v1/vector_stores/{mine}/files", {"file_id": ids["file_id"]}))
        orders.append((f"/v1/vector_stores/{mine}/file_batches", {"file_ids": [ids["file_id"]]}))
        batch = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        orders.append(("/v1/batches", {**batch, "input_file_id": ids["file_id"]}))
    if "store_id" in ids:
        search = {"type": "file_search", "vector_store_ids": [ids["store_id"]]}
        orders.append(("/v1/chat/completions", {**ask, "tools": [search]}))
        orders.append(("/v1/responses", {"model": "scripted", "input": "a cat?", "tools": [search]}))
    for path, body in orders:
        answer = client.post(path, json=body)
        assert answer.status_code == 404, (path, body, answer.status_code, answer.text)
        assert thing.marker not in answer.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_key_without_knowledge_reads_none_through_a_chat(server: Running, path: str) -> None:
    tenants = Tenants(server)
    store = tenants.make("ann", "store").ids["store_id"]
    key = posted(tenants.clients["ann"], "/api/keys", {"scopes": ["chat"]})["key"]
    search = {"type": "file_search", "vector_store_ids": [store]}
    said = {"messages": [{"role": "user", "content": "a cat?"}]} if "chat" in path else {"input": "a cat?"}
    answer = server.http(key).post(path, json={"model": "scripted", "tools": [search], **said})
    assert (answer.status_code, "leave out read_knowledge" in answer.text) == (403, True)


def test_files_and_documents_are_not_among_the_artifacts(server: Running) -> None:
    Tenants(server).make("ann", "store")
    admin = server.http()
    owned = [each for each in server.state.registry.artifacts() if each.kind in ("document", "file")]
    assert {each.kind for each in owned} == {"document", "file"}
    for each in owned:
        for path in (f"/api/artifacts/{each.digest}", f"/api/artifacts/{each.digest}/lineage"):
            assert admin.get(path).status_code == 404
