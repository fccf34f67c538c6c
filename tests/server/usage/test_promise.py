"""What would begin too late is refused at once, as far as can be judged; all else is not."""

import openai
import pytest

from cairn.engine import EngineConfig
from cairn.providers.protocol import Load, TenantLoad
from cairn.registry import Registry
from cairn.server.usage.promise import expected_wait
from tests.server.conftest import Script, Serve
from tests.server.usage.conftest import rows

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "which way?"}]}


def load(waiting: dict[str, int], seconds: float = 2.0) -> Load:
    tenants = tuple(TenantLoad(name, num, 1, 0) for name, num in waiting.items())
    return Load(waiting=sum(waiting.values()), seconds_per_request=seconds, tenants=tenants)


def test_the_wait_is_what_the_turns_of_the_scheduler_make() -> None:
    assert expected_wait(load({}), "ada") == 0
    assert expected_wait(load({"ada": 3}), "ada") == 8
    assert expected_wait(load({"flood": 50}), "ada") == 4
    assert expected_wait(load({"ada": 2, "flood": 50, "bob": 1}), "ada") == 2 * (2 + 3 + 1 + 1)
    assert expected_wait(load({"ada": 3}, seconds=0.0), "ada") == 0  # nothing was measured yet


def test_what_would_begin_too_late_is_refused(
    serve: Serve, script: Script, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = script(config=EngineConfig(max_num_seqs=1, max_waiting=8))
    server = serve(scripted)
    client = server.client()
    client.chat.completions.create(**ASK, extra_headers={"x-cairn-deadline-ms": "0"})  # type: ignore[call-overload]
    monkeypatch.setattr(scripted.engine, "_seconds_per_request", 5.0)
    scripted.runner.is_gated = True
    streams = [client.chat.completions.create(**ASK, stream=True) for _ in range(2)]  # type: ignore[call-overload]
    server.wait_until(lambda: len(scripted.engine._streams) == 2)
    scripted.runner.gate.release(1)
    server.wait_until(lambda: scripted.provider.load().waiting == 1)
    with pytest.raises(openai.RateLimitError, match=r"in about 10\.0 s, promised: 4 s") as caught:
        client.chat.completions.create(**ASK, extra_headers={"x-cairn-deadline-ms": "4000"})  # type: ignore[call-overload]
    assert caught.value.code == "deadline_unreachable"
    assert caught.value.response.headers["retry-after"] == "6"
    late = client.chat.completions.create(  # type: ignore[call-overload]
        **ASK, stream=True, extra_headers={"x-cairn-deadline-ms": "11000"}
    )
    scripted.runner.is_gated = False
    scripted.runner.gate.release(5)
    for stream in (*streams, late):
        assert [chunk for chunk in stream if chunk.choices]
    server.wait_until(lambda: server.state.in_flight.num == 0)
    server.state.metering.ledger.flush()
    assert sorted(row.outcome for row in rows(registry)) == ["ok"] * 4 + ["refused"]


def test_a_promise_for_all(serve: Serve, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = script()
    server = serve(scripted, deadline_seconds=1.0)
    monkeypatch.setattr(scripted.provider, "load", lambda: load({"admin": 1}))
    http = server.http()
    refused = http.post("/v1/chat/completions", json=ASK)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "deadline_unreachable")
    patient = http.post("/v1/chat/completions", json=ASK, headers={"x-cairn-deadline-ms": "9000"})
    assert patient.status_code == 200


@pytest.mark.parametrize("given", ["soon", "-1", "1.5", "9" * 30, "²"])
def test_a_header_that_is_no_time(serve: Serve, given: str) -> None:
    server = serve()
    refused = server.http().post(
        "/v1/chat/completions", json=ASK, headers={b"x-cairn-deadline-ms": given.encode("latin-1")}
    )
    assert refused.status_code == 400
    assert "x-cairn-deadline-ms" in refused.json()["error"]["message"]
