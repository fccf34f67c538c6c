"""Traces through the real server: what they tell, who sees them, what reaches other servers and receivers."""

import json
import re
from typing import Any

import httpx2
import pytest

from cairn.registry import Registry
from cairn.telemetry import TelemetryConfig
from tests.providers.remote.upstream import FakeUpstream, hang, raw, whole
from tests.server.conftest import REPLY, Running, Script, Serve
from tests.server.routing.test_server import KEY, Upstreams, providers, upstreams, write
from tests.telemetry.receiver import attributes, receiving

__all__ = ["upstreams"]

SECRET = "the marmot sleeps at dawn, write to ann@cairn.example"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STONE_KEY", KEY)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


def ask(http: httpx2.Client, model: str = "scripted", **values: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": SECRET}], **values}
    return http.post("/v1/chat/completions", json=body)


def told(server: Running, answer: httpx2.Response) -> dict[str, Any]:
    """The trace that an answer names; it is complete a moment after the answer."""
    http, path = server.http(), f"/api/traces/{answer.headers['x-cairn-trace']}"
    server.wait_until(lambda: http.get(path).status_code == 200)
    trace: dict[str, Any] = http.get(path).json()
    return trace


def listed(server: Running, num: int, http: httpx2.Client | None = None, **params: Any) -> list[Any]:
    """The list, once it has so many."""
    client = http or server.http()

    def page() -> list[Any]:
        found: list[Any] = client.get("/api/traces", params=params).json()["data"]
        return found

    server.wait_until(lambda: len(page()) >= num)
    return page()


def tree(trace: dict[str, Any]) -> list[str]:
    """Names of spans, each below its parent's, by the time they began."""
    paths: dict[str, str] = {}
    for span in trace["spans"]:
        above = paths.get(span["parent_id"], "")
        paths[span["span_id"]] = f"{above} > {span['name']}" if above else span["name"]
    return list(paths.values())


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_its_receipt_and_its_trace_lead_to_each_other(server: Running, is_streamed: bool) -> None:
    http = server.http()
    answer = ask(http, stream=is_streamed, seed=7)
    receipt_id = answer.headers["x-cairn-receipt"]
    trace = told(server, answer)
    top, chat = "POST /v1/chat/completions", "POST /v1/chat/completions > chat scripted"
    assert tree(trace) == [
        top,
        f"{top} > identity",
        f"{top} > limits",
        chat,
        f"{chat} > encode prompt",
        f"{chat} > queue",
        f"{chat} > prefill",
        f"{chat} > decode",
        f"{chat} > store receipt",
    ]
    (request,) = trace["requests"]
    assert (request["receipt_id"], request["outcome"], request["user_id"]) == (receipt_id, "ok", "admin")
    receipt = http.get(f"/api/receipts/{receipt_id}").json()
    assert receipt["trace_id"] == answer.headers["x-cairn-trace"] == trace["trace_id"]
    by_name = {span["name"]: span for span in trace["spans"]}
    said = by_name["chat scripted"]["attributes"]
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.usage.output_tokens"] == len(receipt["outputs"][0])
    assert said["gen_ai.usage.input_tokens"] == len(receipt["prompt_token_ids"])
    assert (said["gen_ai.request.seed"], said["gen_ai.response.finish_reasons"]) == (7, ["stop"])
    assert 0 < said["gen_ai.response.time_to_first_chunk"] <= by_name["chat scripted"]["seconds"]
    ends = [by_name[name]["start"] + by_name[name]["seconds"] for name in ("queue", "prefill")]
    starts = [by_name[name]["start"] for name in ("prefill", "decode")]
    assert starts == pytest.approx(ends), "one part of the engine's time after the other"
    assert SECRET not in json.dumps(trace)
    assert REPLY not in json.dumps(trace)


def test_the_trace_of_a_conversations_answer_names_it(server: Running) -> None:
    http = server.http()
    answer = ask(http)
    assert told(server, answer)["conversation_id"] is None
    made = http.post("/api/conversations", json={"title": "stones"}).json()["id"]
    said = {"role": "assistant", "content": REPLY, "receipt_id": answer.headers["x-cairn-receipt"]}
    http.post(f"/api/conversations/{made}/messages", json=said).raise_for_status()
    assert told(server, answer)["conversation_id"] == made


def test_each_sees_their_own_and_administrators_all(server: Running) -> None:
    ann, bob = (server.http(server.state.identity.create_key(name)) for name in ("ann", "bob"))
    trace = ask(ann).headers["x-cairn-trace"]
    ask(bob)
    assert [each["user_id"] for each in listed(server, 2)] == ["bob", "ann"]
    assert [each["user_id"] for each in listed(server, 1, ann)] == ["ann"]
    assert bob.get(f"/api/traces/{trace}").status_code == 404
    assert ann.get("/api/traces", params={"user": "bob"}).status_code == 403
    (only,) = listed(server, 1, user="ann")
    assert only["receipt_id"] == "", "it opens for its owner alone"
    assert server.http().get(f"/api/traces/{trace}").status_code == 200


def test_somebody_elses_trace_id_shows_nothing_of_theirs(server: Running) -> None:
    ann, bob = (server.http(server.state.identity.create_key(name)) for name in ("ann", "bob"))
    trace = ask(ann).headers["x-cairn-trace"]
    bob.headers["traceparent"] = f"00-{trace}-{SPAN}-01"
    assert ask(bob).headers["x-cairn-trace"] == trace
    assert len(listed(server, 2)) == 2
    for client, name in ((ann, "ann"), (bob, "bob")):
        found = client.get(f"/api/traces/{trace}").json()
        assert [each["user_id"] for each in found["requests"]] == [name]
        assert len([span for span in found["spans"] if span["kind"] == "server"]) == 1


def test_the_list_is_filtered_and_comes_in_pages(serve: Serve, script: Script) -> None:
    server = serve(script(), script("pebbles", name="pebble"))
    http = server.http()
    for _ in range(3):
        ask(http)
    ask(http, "pebble")
    ask(http, "nobody")
    assert len(listed(server, 5)) == 5

    def names(**params: Any) -> list[str]:
        return [each["model"] for each in http.get("/api/traces", params=params).json()["data"]]

    assert names() == ["nobody", "pebble", "scripted", "scripted", "scripted"]
    assert names(model="pebble") == ["pebble"]
    assert names(outcome="refused") == ["nobody"]
    assert names(min_seconds=1000) == []
    assert names(until=1.0) == []
    seen: list[str] = []
    place: dict[str, Any] = {}
    while place.get("before", "") is not None:
        page = http.get("/api/traces", params={"limit": 2, **place}).json()
        seen += [each["root_id"] for each in page["data"]]
        place = {"before": page["next"]}
    assert len(seen) == len(set(seen)) == 5
    assert http.get("/api/traces", params={"before": "stone"}).status_code == 400


def test_failures_say_their_code_and_not_what_was_said(serve: Serve, script: Script) -> None:
    server = serve(script(), telemetry=TelemetryConfig(rate=0))
    http = server.http()
    ask(http)
    server.state.models.models.by_name["scripted"].provider.engine.stop()  # type: ignore[attr-defined]
    answer = ask(http)
    assert answer.status_code == 503
    trace = told(server, answer)
    assert len(listed(server, 1)) == 1, "the other was not kept by rate"
    (request,) = trace["requests"]
    assert (request["outcome"], request["error"], request["status"]) == ("failed", "unavailable", 503)
    assert {span["name"]: span["error"] for span in trace["spans"]}["chat scripted"] == "unavailable"


def test_contents_are_recorded_when_a_setting_says_so(serve: Serve, script: Script) -> None:
    server = serve(script(), telemetry=TelemetryConfig(content=True, redactions=("marmot",)))
    trace = told(server, ask(server.http()))
    (chat,) = (span for span in trace["spans"] if span["name"] == "chat scripted")
    (asked,) = json.loads(chat["attributes"]["gen_ai.input.messages"])
    assert asked["role"] == "user"
    assert asked["parts"] == [{"type": "text", "content": "the [redacted] sleeps at dawn, write to [email]"}]
    (said,) = json.loads(chat["attributes"]["gen_ai.output.messages"])
    assert (said["parts"][0]["content"], said["finish_reason"]) == (REPLY, "stop")


def test_nothing_is_traced_where_it_is_turned_off(serve: Serve, script: Script, registry: Registry) -> None:
    server = serve(script(), telemetry=TelemetryConfig(stored_bytes=0))
    http = server.http()
    answer = ask(http)
    assert "x-cairn-trace" not in answer.headers
    assert http.get("/api/traces").json() == {"data": [], "next": None}
    assert http.get(f"/api/receipts/{answer.headers['x-cairn-receipt']}").json()["trace_id"] == ""
    assert not (registry.settings.home / "traces.db").exists()


def test_many_prompts_have_a_span_each(server: Running) -> None:
    body = {"model": "scripted", "prompt": ["a", "b"], "n": 2}
    trace = told(server, server.http().post("/v1/completions", json=body))
    assert tree(trace).count("POST /v1/completions > text_completion scripted") == 2
    assert tree(trace).count("POST /v1/completions > text_completion scripted > decode") == 2


def test_a_client_that_leaves(serve: Serve, script: Script) -> None:
    scripted = script()
    runner = scripted.provider.engine.engine.runner
    server = serve(scripted)
    http = server.http()
    runner.is_gated = True  # type: ignore[attr-defined]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    server.wait_until(lambda: scripted.provider.engine.is_healthy)
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        runner.gate.release(3)  # type: ignore[attr-defined]
        assert answer.status_code == 200
        next(line for line in answer.iter_lines() if line.startswith("data:"))  # a token was computed
    runner.is_gated = False  # type: ignore[attr-defined]
    runner.gate.release(1000)  # type: ignore[attr-defined]
    trace = told(server, answer)
    chat = {span["name"]: span for span in trace["spans"]}["chat scripted"]
    assert chat["attributes"]["cairn.aborted"] is True
    assert "decode" in {span["name"] for span in trace["spans"]}


@pytest.fixture
def two(registry: Registry, upstreams: Upstreams) -> tuple[FakeUpstream, FakeUpstream]:
    """A route over two upstreams, the second one in reserve."""
    first, second = upstreams(), upstreams()
    targets = '{ provider = "first", model = "s" }, { provider = "second", model = "t" }'
    write(
        registry,
        providers(first=first, second=second) + f"\n[routes.way]\nattempts = 2\ntargets = [{targets}]\n",
    )
    return first, second


def test_each_attempt_is_a_span_and_goes_on_upstream(
    serve: Serve, two: tuple[FakeUpstream, FakeUpstream]
) -> None:
    first, second = two
    first.behave = whole({"error": {"message": SECRET}}, 500)
    server = serve()
    http = server.http()
    http.headers.update({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rock=1"})
    answer = ask(http, "way")
    assert (answer.status_code, answer.headers["x-cairn-trace"]) == (200, TRACE)
    trace = told(server, answer)
    assert trace["requests"][0]["outcome"] == "recovered"
    by_target = {
        span["attributes"]["cairn.target"]: span for span in trace["spans"] if span["kind"] == "client"
    }
    failed, good = by_target["first/s"], by_target["second/t"]
    assert (failed["error"], good["error"]) == ("upstream.unavailable", "")
    assert (failed["attributes"]["cairn.attempt"], good["attributes"]["cairn.attempt"]) == (1, 2)
    assert good["attributes"]["server.address"] == "127.0.0.1"
    assert good["attributes"]["gen_ai.usage.input_tokens"] == 7
    root = next(span for span in trace["spans"] if span["kind"] == "server")
    assert root["parent_id"] == SPAN
    for upstream, span in ((first, failed), (second, good)):
        headers = upstream.asked[-1].headers
        assert headers["traceparent"] == f"00-{TRACE}-{span['span_id']}-01"
        assert headers["tracestate"] == "rock=1"
    assert SECRET not in json.dumps(trace)


def test_without_traces_nothing_is_told_to_upstreams(
    serve: Serve, two: tuple[FakeUpstream, FakeUpstream]
) -> None:
    http = serve(telemetry=TelemetryConfig(stored_bytes=0)).http()
    assert ask(http, "way").status_code == 200
    assert "traceparent" not in two[0].asked[-1].headers


def numbers(server: Running, name: str) -> dict[str, float]:
    lines = server.http().get("/metrics").text.splitlines()
    found = (re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line) for line in lines)
    return {each[1]: float(each[2]) for each in found if each is not None}


def test_routes_are_counted_by_target(serve: Serve, two: tuple[FakeUpstream, FakeUpstream]) -> None:
    first, second = two
    server = serve()
    http = server.http()
    ask(http, "way")
    first.behave = whole({"error": {"message": "x"}}, 500)
    for _ in range(6):
        ask(http, "way", stream=True)
    second.behave = raw(b"stones\r\n\r\n")
    assert ask(http, "way").status_code == 502
    way = 'route="way",target='
    assert numbers(server, "cairn_route_attempts_total") == {
        f'outcome="ok",{way}"first/s"': 1.0,
        f'outcome="failed",{way}"first/s"': 5.0,
        f'outcome="ok",{way}"second/t"': 6.0,
        f'outcome="failed",{way}"second/t"': 2.0,
    }
    assert numbers(server, "cairn_route_errors_total") == {
        f'kind="upstream.unavailable",{way}"first/s"': 5.0,
        f'kind="upstream.garbage",{way}"second/t"': 2.0,
    }
    assert numbers(server, "cairn_route_retries_total")[f'{way}"second/t"'] == 6.0
    assert numbers(server, "cairn_route_fallbacks_total")[f'{way}"second/t"'] == 6.0
    assert numbers(server, "cairn_route_seconds_count")[f'{way}"second/t"'] == 6.0
    breaker = numbers(server, "cairn_route_breaker")
    assert breaker['state="open",target="first/s"'] == 1.0
    assert breaker['state="closed",target="second/t"'] == 1.0
    server.wait_until(lambda: numbers(server, "cairn_traces")['fate="kept"'] == 8.0)


def test_a_receiver_gets_what_is_kept(serve: Serve, script: Script) -> None:
    with receiving() as receiver:
        server = serve(script(), telemetry=TelemetryConfig(endpoint=receiver.url, slow_seconds=1000))
        http = server.http()
        answer = ask(http)
        trace = told(server, answer)
        assert server.state.recorder is not None
        server.state.recorder.flush()
        spans = {span.name: span for span in receiver.spans}
        assert {span.trace_id.hex() for span in receiver.spans} == {answer.headers["x-cairn-trace"]}
        assert spans["decode"].parent_span_id == spans["chat scripted"].span_id
        assert attributes(spans["chat scripted"])["gen_ai.request.model"] == "scripted"
        assert len(receiver.spans) == len(trace["spans"])


def test_a_receiver_that_hangs_holds_nothing_up(serve: Serve, script: Script, upstreams: Upstreams) -> None:
    silent = upstreams()
    silent.behave = hang
    server = serve(script(), telemetry=TelemetryConfig(endpoint=silent.url.removesuffix("/v1")))
    http = server.http()
    for _ in range(3):
        assert ask(http).status_code == 200
    assert len(listed(server, 3)) == 3
