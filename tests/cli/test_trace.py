"""`cairn trace` as a person types it."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import NotFoundError, Settings
from cairn.telemetry import TelemetryConfig
from cairn.telemetry.recorder import open_store
from tests.telemetry.made import span, trace


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    settings.home.mkdir(parents=True, exist_ok=True)
    return settings.home


def cairn(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["trace", *arguments], catch_exceptions=False)


def test_traces_are_listed_and_drawn(home: Path) -> None:
    assert "cairn up" in cairn("ls").stderr
    one = trace(receipt_id="rcpt_1", outcome="recovered", at=time.time() - 5)
    root = one.spans[0]
    failed = span("chat s", root.span_id, error="upstream.failed", attributes={"cairn.target": "quarry/s"})
    inner = span("decode", failed.span_id, started_ns=root.started_ns + 125_000_000, ended_ns=root.ended_ns)
    one = replace(one, spans=(root, failed, inner))
    store = open_store(TelemetryConfig(), home)
    store.write([one, trace(model="pebble", user_id="bob", seconds=3.0)])
    store.close()
    lines = cairn("ls").stdout.splitlines()
    assert [line.split("\t")[3:] for line in lines] == [
        ["pebble", "bob", "ok", "3.00 s"],
        ["stone", "ann", "recovered", "250.0 ms"],
    ]
    assert len(cairn("ls", "--slower", "1").stdout.splitlines()) == 1
    assert json.loads(cairn("ls", "--user", "ann", "--json").stdout)[0]["trace_id"] == one.trace_id
    drawn = cairn("show", one.trace_id).stdout
    assert "receipt   rcpt_1" in drawn
    (below,) = (line for line in drawn.splitlines() if "decode" in line)
    assert below.startswith("    decode")
    assert below.count("━") == 15
    assert below.rstrip().endswith("125.0 ms")
    assert "quarry/s  upstream.failed" in drawn
    (found,) = json.loads(cairn("show", one.trace_id, "--json").stdout)
    assert len(found["spans"]) == 3
    with pytest.raises(NotFoundError, match="no trace"):
        cairn("show", "ab" * 16)
