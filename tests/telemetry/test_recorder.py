"""Which traces are kept, and that what takes them cannot hold anything up."""

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cairn.core.errors import ConfigError
from cairn.telemetry import (
    Recorder,
    Span,
    TelemetryConfig,
    TraceFilter,
    TraceStore,
    current,
    make_recorder,
)
from cairn.telemetry.batching import Batches


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    return TraceStore(tmp_path / "traces.db", max_bytes=10**8, max_seconds=86400)


def end(recorder: Recorder, root: Span, *, status: int = 200, model: str = "stone", error: str = "") -> None:
    root.note(model=model, error=error)
    root.trace.status = status
    recorder.end(root)


def kept(recorder: Recorder) -> list[str]:
    recorder.flush()
    assert recorder.store is not None
    return sorted(each.outcome for each in recorder.store.listed(TraceFilter(), 1000))


def test_failures_and_the_slow_are_kept_whatever_the_rate(store: TraceStore) -> None:
    recorder = Recorder(TelemetryConfig(rate=0.0, slow_seconds=5.0), store)
    for _ in range(20):
        end(recorder, recorder.begin("POST"))
    end(recorder, recorder.begin("POST"), status=503)
    end(recorder, recorder.begin("POST"), error="upstream.unavailable")
    recovered = recorder.begin("POST")
    recovered.child("chat").end(ValueError())
    end(recorder, recovered)
    slow = recorder.begin("POST")
    slow.started -= 6 * 10**9
    end(recorder, slow)
    end(recorder, recorder.begin("POST"), status=429)
    assert kept(recorder) == ["failed", "failed", "ok", "recovered"]
    assert recorder.fates() == {"kept": 4, "passed_over": 21, "dropped": 0}
    recorder.close()


def test_the_pages_own_questions_are_kept_only_when_they_fail(store: TraceStore) -> None:
    recorder = Recorder(TelemetryConfig(), store)
    end(recorder, recorder.begin("GET"), model="")
    end(recorder, recorder.begin("GET"), model="", status=404)
    end(recorder, recorder.begin("GET"), model="", status=500)
    assert kept(recorder) == ["failed"]
    recorder.close()


def test_servers_of_one_rate_agree_by_the_trace(store: TraceStore, tmp_path: Path) -> None:
    other_store = TraceStore(tmp_path / "other.db", max_bytes=10**8, max_seconds=86400)
    config = TelemetryConfig(rate=0.25, per_second=10_000)
    here, there = Recorder(config, store), Recorder(config, other_store)
    for number in range(1, 1001):
        parent = f"00-{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}-00f067aa0ba902b7-01"
        for recorder in (here, there):
            end(recorder, recorder.begin("POST", parent))
    here.flush()
    there.flush()
    found = [{each.trace_id for each in one.listed(TraceFilter(), 2000)} for one in (store, other_store)]
    assert found[0] == found[1]
    assert 200 < len(found[0]) < 300
    here.close()
    there.close()


def test_a_flood_keeps_no_more_than_so_many_a_second(store: TraceStore) -> None:
    now = [100.0]
    recorder = Recorder(TelemetryConfig(per_second=10), store, now=lambda: now[0])
    for _ in range(200):
        end(recorder, recorder.begin("POST"))
    assert recorder.num_kept == 10
    now[0] += 0.5
    for _ in range(200):
        end(recorder, recorder.begin("POST"))
    assert recorder.num_kept == 15
    now[0] += 100
    for _ in range(200):
        end(recorder, recorder.begin("POST"))
    assert recorder.num_kept == 25
    recorder.close()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_trace_is_left_to_the_collector(store: TraceStore, rate: float) -> None:
    recorder = Recorder(TelemetryConfig(rate=rate, per_second=1000), store)

    def one() -> None:
        root = recorder.begin("POST")
        with root.active(), current().child("a"), current().child("b") as inner:
            inner.add("c", 1, 2)
        end(recorder, root)
        recorder.flush()

    one()
    gc.collect()
    gc.disable()
    try:
        one()
        assert gc.collect() == 0
    finally:
        gc.enable()
    recorder.close()


def test_contents_are_not_recorded_unless_told_to(store: TraceStore) -> None:
    assert not Recorder(TelemetryConfig(), store).begin("POST").records_content
    assert Recorder(TelemetryConfig(content=True), store).begin("POST").records_content


def test_a_disk_that_refuses_costs_traces_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(TelemetryConfig(), TraceStore(tmp_path / "file" / "t.db", max_bytes=1, max_seconds=1))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            end(recorder, recorder.begin("POST"))
            recorder.flush()
    assert recorder.fates()["dropped"] == 2
    assert caplog.text.count("ERROR") == 1
    recorder.close()


def test_what_is_too_much_is_dropped_and_nobody_waits() -> None:
    gate, worked = threading.Event(), []

    def work(items: list[int]) -> None:
        gate.wait(60)
        worked.extend(items)

    batches = Batches[int]("test", work, most_waiting=10, size=5, seconds=0.0)
    for number in range(100):
        batches.put(number)
    assert batches.num_dropped >= 80
    gate.set()
    assert batches.flush(60)
    assert len(worked) + batches.num_dropped == 100
    batches.close()
    batches.put(1)
    assert len(worked) + batches.num_dropped == 101


def test_work_that_fails_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    worked: list[int] = []

    def work(items: list[int]) -> None:
        if 0 in items:
            raise ValueError
        worked.extend(items)

    batches = Batches[int]("test", work)
    for number in (0, 1):
        batches.put(number)
        assert batches.flush(60)
    assert (worked, batches.num_dropped) == ([1], 1)
    batches.close()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder | None]:
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)

    def make(**values: Any) -> Recorder | None:
        return make_recorder(TelemetryConfig(**values), tmp_path, "1")

    return make


def test_what_a_config_makes(made: Callable[..., Recorder | None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(stored_bytes=0) is None
    usual = made()
    assert usual is not None
    assert usual.store is not None
    assert usual.exporter is None, "nothing leaves this machine"
    sent = made(stored_bytes=0, endpoint="http://localhost:4318")
    assert sent is not None
    assert (sent.store, sent.exporter is not None) == (None, True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    by_variable = made()
    assert by_variable is not None
    assert by_variable.exporter is not None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    off = made()
    assert off is not None
    assert off.exporter is None


def test_mistakes_in_a_config_are_said(
    made: Callable[..., Recorder | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="localhost:4318"):
        made(endpoint="localhost")
    with pytest.raises(ValueError, match="no regular expression"):
        made(redactions=("(",))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert made() is not None, "a protocol without an address says nothing"
    with pytest.raises(ConfigError, match="http/protobuf"):
        made(endpoint="http://localhost:4318")
