"""The services with a real client: what they answer is what HTTP answers, and is counted as such."""

from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cairn.providers.importing import import_checkpoint
from cairn.registry import Registry
from cairn.server.grpc import api_pb2 as api
from cairn.server.grpc import generate
from cairn.server.models import ModelPool
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import classifier_folder, embedder_folder
from tests.server.conftest import REPLY, Running, Script, Serve
from tests.server.grpc.conftest import Connect, asking, refusal


def test_generated_modules_are_of_the_proto_file(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    kept = Path(generate.__file__).parent
    for name in generate.NAMES:
        made = (tmp_path / "cairn" / "server" / "grpc" / name).read_bytes()
        assert made == (kept / name).read_bytes(), "python -m cairn.server.grpc.generate"


def test_a_chat_is_what_it_is_over_http(server: Running, connect: Connect, registry: Registry) -> None:
    client = connect(server)
    reply, call = client.chat.Complete.with_call(asking(temperature=0, seed=5), metadata=client.metadata)
    told = server.client().chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hi"}], temperature=0, seed=5
    )
    assert reply.choices[0].message.content == told.choices[0].message.content == REPLY
    assert reply.choices[0].finish_reason == told.choices[0].finish_reason == "stop"
    assert reply.system_fingerprint == told.system_fingerprint
    assert told.usage is not None
    assert reply.usage.total_tokens == told.usage.total_tokens
    headers = dict(call.initial_metadata())
    assert headers["x-cairn-receipt"] == reply.cairn.receipt
    assert headers["x-request-id"].startswith("req_")
    receipts = {each.receipt_id: each for each in registry.receipts()}
    other = receipts[told.model_dump()["cairn"]["receipt"]]
    assert receipts[reply.cairn.receipt].outputs == other.outputs
    total = server.http().get("/api/usage", params={"by": "endpoint"}).json()
    assert total["total"]["requests"] == 2
    assert [line["endpoint"] for line in total["lines"]] == ["/v1/chat/completions"]


def test_a_stream_comes_in_pieces_and_ends_with_its_receipt(server: Running, connect: Connect) -> None:
    client = connect(server)
    chunks = list(client.ask(client.chat.Stream, asking(n=2, logprobs=True)))
    for index in range(2):
        said = [each for chunk in chunks for each in chunk.choices if each.index == index]
        assert "".join(each.delta.content for each in said) == REPLY
        assert said[0].delta.role == "assistant"
        assert said[-1].finish_reason == "stop"
        assert sum(len(each.logprobs.content) for each in said) > 1
    assert len(chunks) > 5
    assert chunks[-1].usage.completion_tokens > 5
    assert chunks[-1].cairn.receipt
    assert not any(chunk.cairn.receipt for chunk in chunks[:-1])


def test_tools_parts_and_schemas(serve: Serve, script: Script, connect: Connect) -> None:
    calling = '<tool_call>\n{"name": "weather", "arguments": {"days": 2}}\n</tool_call>'
    server = serve(script(calling), script('{"days": 3}', name="writer"), grpc_port=0)
    client = connect(server)
    request = asking(tool_choice="auto")
    request.messages[0].ClearField("content")
    request.messages[0].parts.add(type="text", text="what weather?")
    tool = request.tools.add(type="function")
    tool.function.name = "weather"
    tool.function.parameters.update({"type": "object", "properties": {"days": {"type": "integer"}}})
    (choice,) = client.ask(client.chat.Complete, request).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"days": 2}')
    (streamed,) = [
        each
        for chunk in client.ask(client.chat.Stream, request)
        for c in chunk.choices
        for each in c.delta.tool_calls
    ]
    assert streamed.function == call.function
    wanted = asking()
    wanted.model = "writer"
    wanted.response_format.type = "json_schema"
    wanted.response_format.json_schema.name = "days"
    schema = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1}},
        "required": ["days"],
    }
    wanted.response_format.json_schema.schema.update(schema)
    said = client.ask(client.chat.Complete, wanted).choices[0].message.content
    assert said.replace(" ", "") == '{"days":3}'


def test_completions_whole_and_streamed(server: Running, connect: Connect) -> None:
    client = connect(server)
    request = api.CompletionRequest(
        model="scripted", prompt=["on", "off"], max_tokens=40, echo=True, logprobs=1
    )
    whole = client.ask(client.completions.Complete, request)
    told = server.client().completions.create(
        model="scripted", prompt=["on", "off"], max_tokens=40, echo=True, logprobs=1
    )
    assert [each.text for each in whole.choices] == [each.text for each in told.choices]
    for mine, theirs in zip(whole.choices, told.choices, strict=True):
        assert theirs.logprobs is not None
        assert [each.token for each in mine.tokens] == theirs.logprobs.tokens
        assert [each.text_offset for each in mine.tokens] == theirs.logprobs.text_offset
        assert not mine.tokens[0].HasField("logprob")
        assert mine.tokens[-1].logprob == theirs.logprobs.token_logprobs[-1]  # type: ignore[index]
    pieces = [c for each in client.ask(client.completions.Stream, request) for c in each.choices]
    assert "".join(each.text for each in pieces if each.index == 1) == whole.choices[1].text
    by_ids = api.CompletionRequest(model="scripted", max_tokens=4)
    by_ids.prompt_tokens.add(ids=[1, 2, 3])
    assert client.ask(client.completions.Complete, by_ids).usage.prompt_tokens == 3


@needs_native
def test_vectors_scores_and_names(
    serve: Serve, pool: ModelPool, registry: Registry, tmp_path: Path, connect: Connect
) -> None:
    import_checkpoint(registry, embedder_folder(tmp_path / "embedder"))
    import_checkpoint(registry, classifier_folder(tmp_path / "cross", "fits"))
    server = serve(models=pool, grpc_port=0)
    client, texts = connect(server), ["the cat sat", "one two three"]
    found = client.ask(client.embeddings.Embed, api.EmbeddingsRequest(model="embedder", input=texts))
    plain = server.client().embeddings.create(model="embedder", input=texts)
    assert [list(each.embedding) for each in found.data] == [each.embedding for each in plain.data]
    assert found.usage.prompt_tokens == plain.usage.prompt_tokens
    request = api.RerankRequest(model="cross", query="who?", documents=texts, top_n=1, return_documents=True)
    ranked = client.ask(client.reranking.Rerank, request)
    body = MessageToDict(request, preserving_proto_field_name=True)
    told = server.http().post("/v1/rerank", json=body).json()["results"]
    assert [(each.index, each.relevance_score) for each in ranked.results] == [
        (each["index"], each["relevance_score"]) for each in told
    ]
    assert ranked.results[0].document.text == texts[ranked.results[0].index]
    names = {each.id for each in client.ask(client.models.List, api.ListModelsRequest()).data}
    assert names == {"embedder", "cross"}
    one = client.ask(client.models.Get, api.GetModelRequest(name="embedder"))
    assert (one.id, one.cairn.task) == ("embedder", "embedding")
    assert one.digest.startswith("sha256:")
    for name in ("none", ""):
        unknown = api.GetModelRequest(name=name)
        error = refusal(partial(client.ask, client.models.Get, unknown))
        assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def test_the_documented_example(
    server: Running, connect: Connect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "grpc.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert "127.0.0.1:8643" in code
    connect(server)
    monkeypatch.setenv("CAIRN_API_KEY", server.key)
    here = code.replace("127.0.0.1:8643", f"127.0.0.1:{server.server.grpc_port}")
    names: dict[str, Any] = {}
    exec(here.replace('"tutorial"', '"scripted"'), names)
    names["channel"].close()
    said = capsys.readouterr().out
    assert said.startswith(REPLY)
    assert "receipt: " in said


def test_reflection_describes_all_to_who_has_a_key(server: Running, connect: Connect) -> None:
    nobody = connect(server, "")
    database = ProtoReflectionDescriptorDatabase(nobody.channel)
    error = refusal(database.get_services)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    key = server.state.identity.create_key("admin")

    class WithKey(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, proceed, details, requests):  # type: ignore[no-untyped-def]
            metadata = [("authorization", f"Bearer {key}")]
            return proceed(details._replace(metadata=metadata), requests)

    database = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(nobody.channel, WithKey()))
    names = set(database.get_services())
    assert names == {
        f"cairn.v1.{each}" for each in ("Chat", "Completions", "Embeddings", "Reranking", "Models")
    } | {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    described = database.FindFileContainingSymbol("cairn.v1.Chat")
    assert [each.name for each in described.service] == list(api.DESCRIPTOR.services_by_name)


def test_health_is_readiness(serve: Serve, script: Script, connect: Connect) -> None:
    server = serve(script(), grpc_port=0)
    stub = health_pb2_grpc.HealthStub(connect(server, "").channel)
    serving, not_serving = 1, 2
    watched = stub.Watch(health_pb2.HealthCheckRequest(service="cairn.v1.Chat"))
    assert next(watched).status == serving
    assert stub.Check(health_pb2.HealthCheckRequest()).status == serving
    inner = server.state.models.models  # type: ignore[attr-defined]
    inner.reason = "loading"
    assert next(watched).status == not_serving
    inner.reason = ""
    assert next(watched).status == serving
    watched.cancel()
    error = refusal(lambda: stub.Check(health_pb2.HealthCheckRequest(service="none")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_two_servers_do_not_share_a_port(serve: Serve, script: Script) -> None:
    from cairn.core.errors import ConflictError
    from cairn.server.config import ServerConfig
    from cairn.server.startup import check_grpc

    server = serve(script(), grpc_port=0)
    server.wait_until(lambda: server.server.grpc_port > 0)
    with pytest.raises(ConflictError, match="cairn up --grpc"):
        check_grpc(ServerConfig(grpc_port=server.server.grpc_port))
