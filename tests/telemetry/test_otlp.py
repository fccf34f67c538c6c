"""OTLP: our encoding against the official classes, and sending to a receiver that runs, and misbehaves."""

import logging
from dataclasses import replace

import pytest

from cairn.telemetry.otlp import OtlpConfig, OtlpExporter, otlp_config
from tests.telemetry.made import span, trace
from tests.telemetry.receiver import attributes, receiving

CONFIG = OtlpConfig("", resource={"service.name": "cairn", "service.version": "1.2"})


def test_all_of_a_span_arrives() -> None:
    given = {
        "text": "Stein ü🙂",
        "empty": "",
        "number": 12345678901,
        "minus": -3,
        "zero": 0,
        "half": 0.5,
        "yes": True,
        "no": False,
        "list": ["stop", "length"],
    }
    one = trace(parent_id="00f067aa0ba902b7", state="a=1", is_sampled=True)
    inner = span("decode", one.root_id, attributes=given, error="engine.failed", kind=3)
    one = replace(one, spans=(replace(one.spans[0], parent_id=one.parent_id), inner))
    with receiving() as receiver:
        OtlpExporter(replace(CONFIG, url=f"{receiver.url}/v1/traces")).export([one, trace()])
    (request,) = receiver.requests
    assert attributes(request.resource_spans[0].resource) == dict(CONFIG.resource)
    assert request.resource_spans[0].scope_spans[0].scope.name == "cairn"
    root, found, _ = receiver.spans
    assert found.trace_id.hex() == one.trace_id
    assert (found.span_id.hex(), found.parent_span_id.hex()) == (inner.span_id, one.root_id)
    assert (root.span_id.hex(), root.parent_span_id.hex()) == (one.root_id, "00f067aa0ba902b7")
    assert (root.flags, found.flags) == (0x301, 0x101)
    assert (root.trace_state, root.kind, found.kind) == ("a=1", 2, 3)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (inner.started_ns, inner.ended_ns)
    assert attributes(found) == given | {"error.type": "engine.failed"}
    assert (found.status.code, root.status.code) == (2, 0)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_is_refused_for_the_moment_is_sent_again(status: int) -> None:
    waits: list[float] = []
    with receiving() as receiver:
        receiver.statuses = [status, status]
        exporter = OtlpExporter(replace(CONFIG, url=f"{receiver.url}/v1/traces"), sleep=waits.append)
        exporter.export([trace()])
    assert (exporter.num_sent, exporter.num_failed, len(receiver.spans)) == (1, 0, 1)
    assert waits == [1.0, 2.0]


def test_what_is_refused_for_good_is_not(caplog: pytest.LogCaptureFixture) -> None:
    waits: list[float] = []
    with receiving() as receiver, caplog.at_level(logging.WARNING):
        receiver.statuses = [400, 307, 401]
        exporter = OtlpExporter(replace(CONFIG, url=f"{receiver.url}/v1/traces"), sleep=waits.append)
        for _ in range(3):
            exporter.export([trace()])
        exporter.export([trace()])
    assert (exporter.num_sent, exporter.num_failed, waits) == (1, 3, [])
    assert [each.getMessage().split()[0:2] for each in caplog.records] == [
        ["traces", "do"],
        ["traces", "reach"],
    ]


def test_a_receiver_that_is_gone_costs_traces_alone(caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        url = receiver.url
    waits: list[float] = []
    exporter = OtlpExporter(replace(CONFIG, url=f"{url}/v1/traces", seconds=5), sleep=waits.append)
    exporter.export([trace()])
    assert (exporter.num_failed, waits) == (1, [1.0, 2.0, 4.0])


def test_headers_and_compression() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20c3RvbmU%3D,x-team=stones",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_SERVICE_NAME": "quarry",
    }
    with receiving() as receiver:
        config = otlp_config(receiver.url, "1.2", env)
        assert config is not None
        assert "c3RvbmU" not in repr(config), "it may be a key"
        OtlpExporter(config).export([trace()])
    assert receiver.headers[0]["authorization"] == "Basic c3RvbmU="
    assert receiver.headers[0]["content-encoding"] == "gzip"
    assert attributes(receiver.requests[0].resource_spans[0].resource) == {
        "service.name": "quarry",
        "service.version": "1.2",
        "deployment.environment.name": "test",
    }


@pytest.mark.parametrize(
    ("endpoint", "env", "url"),
    [
        ("", {}, None),
        ("http://a:1/", {}, "http://a:1/v1/traces"),
        ("", {"ENDPOINT": "http://b:1/x"}, "http://b:1/x/v1/traces"),
        ("", {"ENDPOINT": "http://b:1", "TRACES_ENDPOINT": "http://c:1/own"}, "http://c:1/own"),
        ("http://a:1", {"TRACES_ENDPOINT": "http://c:1/own"}, "http://a:1/v1/traces"),
    ],
)
def test_where_traces_go(endpoint: str, env: dict[str, str], url: str | None) -> None:
    found = otlp_config(endpoint, "1", {f"OTEL_EXPORTER_OTLP_{name}": text for name, text in env.items()})
    assert (found.url if found else None) == url
