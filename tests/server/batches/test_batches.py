"""Batches with the official client: every endpoint, what is wrong with a file, cancelling, whose turn."""

import json
from typing import Any

import openai
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from cairn.engine import EngineConfig
from cairn.jobs import JobRow
from cairn.providers.importing import import_checkpoint
from cairn.registry import Receipt, Registry
from cairn.server.identity import people
from cairn.server.models import ModelPool
from cairn.server.tables import FileRow
from tests.engine.native_tiny import needs_native
from tests.providers.scripted import Scripted
from tests.providers.tiny_encoder import embedder_folder
from tests.server.conftest import PATIENCE, REPLY, Running, Script, Serve, small_queue

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {
    "model": "scripted",
    "messages": [{"role": "user", "content": "where to?"}],
    "temperature": 0,
}
ENDED = ("completed", "failed", "cancelled", "expired")


def line(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def upload(client: openai.OpenAI, *lines: dict[str, Any] | str) -> str:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch").id


def begin(client: openai.OpenAI, file_id: str, url: Any = CHAT, **options: Any) -> openai.types.Batch:
    return client.batches.create(input_file_id=file_id, endpoint=url, completion_window="24h", **options)


def ended(server: Running, client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    server.wait_until(lambda: client.batches.retrieve(batch_id).status in ENDED)
    return client.batches.retrieve(batch_id)


def told(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def test_a_batch_of_chats(server: Running) -> None:
    client = server.client()
    file_id = upload(client, *(line(f"ask-{number}", BODY) for number in range(5)), "")
    batch = begin(client, file_id, metadata={"for": "a test"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    client.files.delete(file_id)  # the batch has what it needs
    batch = ended(server, client, batch.id)
    assert batch.status == "completed"
    assert batch.metadata == {"for": "a test"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
    assert batch.error_file_id is None
    answers = told(client, batch.output_file_id)
    assert [each["custom_id"] for each in answers] == [f"ask-{number}" for number in range(5)]
    for each in answers:
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        assert each["response"]["body"]["choices"][0]["message"]["content"] == REPLY
    assert len({each["id"] for each in answers}) == 5
    assert batch.usage is not None
    usages = [each["response"]["body"]["usage"] for each in answers]
    assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages)
    assert batch.output_file_id is not None
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.completed_at or 0)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/completions", {"model": "scripted", "prompt": "up", "temperature": 0, "max_tokens": 100}),
        ("/v1/responses", {"model": "scripted", "input": "where to?", "temperature": 0}),
    ],
)
def test_batches_of_other_endpoints(server: Running, url: str, body: dict[str, Any]) -> None:
    client = server.client()
    batch = ended(server, client, begin(client, upload(client, line("only", body, url)), url).id)
    [answer] = told(client, batch.output_file_id)
    assert REPLY in json.dumps(answer["response"]["body"], ensure_ascii=False)
    assert batch.usage is not None
    assert batch.usage.output_tokens > 0


@needs_native
def test_a_batch_of_embeddings(serve: Serve, pool: ModelPool, registry: Registry, tmp_path: Any) -> None:
    import_checkpoint(registry, embedder_folder(tmp_path / "embedder"))
    server = serve(models=pool)
    client = server.client()
    url = "/v1/embeddings"
    lines = [line(text, {"model": "embedder", "input": text}, url) for text in ("stones", "way")]
    batch = ended(server, client, begin(client, upload(client, *lines), url).id)
    answers = told(client, batch.output_file_id)
    for text, answer in zip(("stones", "way"), answers, strict=True):
        direct = client.embeddings.create(model="embedder", input=text, encoding_format="float")
        assert answer["response"]["body"]["data"][0]["embedding"] == pytest.approx(direct.data[0].embedding)


def test_requests_that_fail_are_told_apart(server: Running) -> None:
    client = server.client()
    lines = [
        line("good", BODY),
        line("bad", BODY | {"temperature": 101}),
        line("none", BODY | {"model": "x"}),
    ]
    batch = ended(server, client, begin(client, upload(client, *lines)).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 1, "failed": 2}
    assert [each["custom_id"] for each in told(client, batch.output_file_id)] == ["good"]
    failed = {each["custom_id"]: each["response"] for each in told(client, batch.error_file_id)}
    assert {name: response["status_code"] for name, response in failed.items()} == {"bad": 400, "none": 404}
    assert failed["bad"]["body"]["error"]["param"] == "temperature"


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([], "empty_file", None),
        (["nonsense"], "invalid_json_line", 1),
        ([line("a", BODY), line("a", BODY)], "duplicate_custom_id", 2),
        ([line("a", BODY), "", line("b", BODY, "/v1/embeddings")], "invalid_url", 3),
        ([{"custom_id": "a", "method": "GET", "url": CHAT, "body": {}}], "invalid_request", 1),
        ([{"custom_id": "a", "method": "POST", "url": CHAT}], "invalid_request", 1),
        ([line("a", BODY | {"stream": True})], "invalid_request", 1),
    ],
)
def test_a_file_that_is_wrong_is_not_begun(
    server: Running, lines: list[Any], code: str, number: int | None
) -> None:
    client = server.client()
    batch = ended(server, client, begin(client, upload(client, *lines)).id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(each.code, each.line) for each in batch.errors.data] == [(code, number)]
    assert batch.output_file_id is None


def test_a_file_that_is_lost_holds_up_no_other_batch(server: Running, registry: Registry) -> None:
    client = server.client()
    lost_id, good_id = upload(client, line("lost", BODY)), upload(client, line("good", BODY))
    with registry.database.session(read_only=True) as session:
        digest = session.get_one(FileRow, lost_id).artifact
    folder = registry.get(digest).folder
    folder.rename(folder.with_name("elsewhere"))
    lost, good = begin(client, lost_id), begin(client, good_id)
    assert ended(server, client, good.id).status == "completed"
    lost = ended(server, client, lost.id)
    assert lost.status == "failed"
    assert lost.errors is not None
    assert lost.errors.data is not None
    assert [each.code for each in lost.errors.data] == ["no_input"]


def test_what_is_wrong_is_said(server: Running) -> None:
    client = server.client()
    other = client.files.create(file=("a.txt", b"hello"), purpose="assistants").id
    with pytest.raises(openai.BadRequestError, match="purpose 'assistants', allowed: 'batch'"):
        begin(client, other)
    with pytest.raises(openai.NotFoundError):
        begin(client, "file-none")
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
        begin(client, other, "/v1/images/generations")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_batches_are_their_makers_alone(server: Running) -> None:
    mine = server.client()
    key = server.state.identity.create_key("stranger")
    theirs = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)
    file_id = upload(mine, line("a", BODY))
    ids = [begin(mine, file_id).id for _ in range(3)]
    assert {batch.id for batch in mine.batches.list(limit=2)} == set(ids)
    assert list(theirs.batches.list()) == []
    with pytest.raises(openai.NotFoundError):
        begin(theirs, file_id)
    for ask in (theirs.batches.retrieve, theirs.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(ids[0])
    for batch_id in ids:
        assert ended(server, mine, batch_id).status == "completed"


def open_gate(scripted: Scripted) -> None:
    scripted.runner.is_gated = False
    scripted.runner.gate.release(1000)


def test_a_batch_that_is_cancelled_keeps_what_it_has(serve: Serve, script: Script) -> None:
    scripted = script()
    server = serve(scripted, batch_requests=1)
    client = server.client()
    file_id = upload(client, *(line(f"ask-{number}", BODY) for number in range(4)))
    scripted.runner.is_gated = True
    batch = begin(client, file_id)
    server.wait_until(lambda: bool(scripted.provider.load().running))
    while not (counts := client.batches.retrieve(batch.id).request_counts) or counts.completed < 2:
        scripted.runner.gate.release()
        server.wait_until(lambda: not scripted.runner.gate._value)  # no step ahead of what is looked at
    batch = client.batches.cancel(batch.id)
    assert batch.status in ("cancelling", "cancelled")
    batch = ended(server, client, batch.id)
    open_gate(scripted)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    names = [each["custom_id"] for each in told(client, batch.output_file_id)]
    assert names == [f"ask-{number}" for number in range(len(names))]
    assert 2 <= len(names) < 4
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_whose_time_is_over(serve: Serve, script: Script, registry: Registry) -> None:
    scripted = script()
    server = serve(scripted, batch_requests=1, batch_hold_seconds=0.1)
    client = server.client()
    scripted.runner.is_gated = True
    batch = begin(client, upload(client, line("a", BODY), line("b", BODY)))
    server.wait_until(lambda: bool(scripted.provider.load().running))
    with registry.database.writing() as session:
        session.execute(update(JobRow).values(expires_at=1.0))
    batch = ended(server, client, batch.id)
    assert batch.status == "expired"
    assert [each["error"]["code"] for each in told(client, batch.error_file_id)] == ["batch_expired"] * 2
    open_gate(scripted)


def step_until_waiting(server: Running, scripted: Scripted, number: int) -> None:
    """New requests come in between two steps."""

    def holds() -> bool:
        scripted.runner.gate.release()
        return scripted.provider.load().waiting == number

    server.wait_until(holds)


def test_somebodys_chat_goes_before_a_batch(serve: Serve, script: Script) -> None:
    scripted = script(REPLY * 2, config=EngineConfig(max_num_seqs=1))
    server = serve(scripted, batch_requests=4)
    served: list[Receipt] = []
    scripted.save = served.append
    client = server.client()
    scripted.runner.is_gated = True
    batch = begin(client, upload(client, *(line(f"ask-{number}", BODY) for number in range(4))))
    step_until_waiting(server, scripted, 3)
    with client.chat.completions.create(**BODY, seed=17, stream=True) as stream:
        step_until_waiting(server, scripted, 4)
        open_gate(scripted)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == REPLY * 2
    assert ended(server, client, batch.id).status == "completed"
    assert [receipt.sampling["seed"] == 17 for receipt in served] == [False, True, False, False, False]


def test_a_busy_engine_is_no_failure(serve: Serve, script: Script) -> None:
    server = serve(script(config=small_queue()), batch_requests=3)
    client = server.client()
    batch = begin(client, upload(client, *(line(f"ask-{number}", BODY) for number in range(3))))
    batch = ended(server, client, batch.id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 3


def test_a_batch_may_do_what_its_maker_may(serve: Serve, script: Script) -> None:
    scripted = script()
    server = serve(scripted, script(name="other"), batch_requests=1, batch_hold_seconds=0.2)
    identity = server.state.identity
    key = identity.create_key("bob", models=["scripted"])
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)
    batch = begin(client, upload(client, line("mine", BODY), line("not", BODY | {"model": "other"})))
    batch = ended(server, client, batch.id)
    assert [each["custom_id"] for each in told(client, batch.output_file_id)] == ["mine"]
    [refused] = told(client, batch.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("not", 403)

    scripted.runner.is_gated = True
    batch = begin(client, upload(client, line("late", BODY)))
    server.wait_until(lambda: bool(scripted.provider.load().running))
    with identity.changing() as change:
        people.disable(change, people.find(change.session, "bob"))
    with server.state.registry.database.session(read_only=True) as session:
        server.wait_until(lambda: _job(session, batch.id).ended_at is not None)
        row = _job(session, batch.id)
        assert row.state == "failed"
        assert (row.outcome or {})["errors"][0]["code"] == "no_owner"
    open_gate(scripted)


def _job(session: Session, job_id: str) -> JobRow:
    session.rollback()  # what it read before is not what is
    return session.get_one(JobRow, job_id)
