"""Bad input and bad clients: too large, too slow, gone, too many, too late; the server stays up."""

import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from cairn.engine import EngineConfig
from cairn.registry import Registry
from tests.server.conftest import PATIENCE, REPLY, Running, Script, Serve, small_queue

ASK: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
HUNDRED_MB = 1600 * 65536


def raw_request(
    server: Running, body: bytes = b"", *, length: int | None = None, stream: bool = True
) -> bytes:
    """The bytes of a chat request."""
    body = body or json.dumps(ASK | {"stream": stream}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    ).encode() + body


def read_until(sock: socket.socket, mark: bytes, *, step: int = 4096) -> bytes:
    """What the server sends up to a mark, a piece at a time."""
    answer = b""
    while mark not in answer:
        piece = sock.recv(step)
        assert piece, f"it hung up after {answer!r}"
        answer += piece
    return answer


def assert_still_up(server: Running) -> None:
    assert server.client().chat.completions.create(**ASK).choices[0].message.content == REPLY


class CountingBody:
    """A body of 100 MB that counts how much of it was taken."""

    def __init__(self) -> None:
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        piece = b" " * 65536
        while self.sent < HUNDRED_MB:
            self.sent += len(piece)
            yield piece


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_hundred_megabytes_are_refused_without_being_read(serve: Serve, is_chunked: bool) -> None:
    server = serve(max_body_bytes=1_000_000)
    body = CountingBody()
    headers = {"content-type": "application/json"}
    if not is_chunked:
        headers["content-length"] = str(HUNDRED_MB)
    try:
        response = server.http().post("/v1/chat/completions", content=iter(body), headers=headers)
        assert response.status_code == 413
        assert "1000000 bytes" in response.json()["error"]["message"]
        assert response.headers["connection"] == "close"
    except httpx2.TransportError:
        pass  # the server hung up on a client that would not stop sending
    assert body.sent < HUNDRED_MB
    assert_still_up(server)


def test_the_refusal_comes_before_the_body(serve: Serve) -> None:
    server = serve(max_body_bytes=1_000_000)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server, b"{", length=HUNDRED_MB))
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert_still_up(server)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model": "\xff"}', "not valid UTF-8"),
        (b'{"model": ', "not valid JSON"),
        (b"[" * 100_000, "not valid"),
        (b"[]", "must be a JSON object"),
        (b"", "missing"),
    ],
)
def test_what_is_not_json_is_400(server: Running, body: bytes, message: str) -> None:
    headers = {"content-type": "application/json"}
    response = server.http().post("/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert_still_up(server)


def test_errors_have_one_shape(server: Running) -> None:
    client = server.http()
    cases = [
        (client.get("/v1/nothing"), 404),
        (client.get("/v1/chat/completions"), 405),
        (client.post("/v1/models"), 405),
        (client.get("/api/runs?limit=x"), 400),
        (server.http("wrong").get("/v1/models"), 401),
    ]
    for response, status in cases:
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code", "remedy"}


def test_a_bug_is_a_500_that_tells_nothing(
    serve: Serve, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(script())

    def broken() -> Any:
        raise ZeroDivisionError("secret")

    server.state.models.served = broken  # type: ignore[method-assign]
    response = server.http().get("/v1/models")
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "server.bug")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in error["message"]
    assert f"({response.headers['x-request-id']})" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text
    # The connection goes on: one socket, a failure and then an answer.
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        for path, status in (("/v1/models", b"500"), ("/healthz", b"200")):
            headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.key}"
            sock.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            assert read_until(sock, b"}").startswith(b"HTTP/1.1 " + status)
    assert_still_up(server)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_request(
    serve: Serve, script: Script, registry: Registry, stream: bool
) -> None:
    scripted = script("stones " * 60)
    scripted.runner.is_gated = True
    server = serve(scripted)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server, stream=stream))
        scripted.runner.gate.release(3)
        server.wait_until(lambda: scripted.runner.num_steps == 3)
        # Reset instead of a polite end: what a crashed client or a cut cable leaves.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.wait_until(lambda: server.state.in_flight.num == 0)
    scripted.runner.gate.release(2)
    server.wait_until(scripted.engine._idle.is_set)
    server.wait_until(lambda: len(registry.receipts(1)) == 1)
    assert scripted.runner.num_steps <= 5
    assert registry.receipts(1)[0].finish_reasons == ["abort"]


def test_a_client_that_does_not_read_is_dropped_and_holds_up_nobody(serve: Serve, script: Script) -> None:
    # Each token weighs thousands of bytes, so that one reply overflows every buffer on the way.
    heavy = script("s" * 400, name="heavy")
    server = serve(heavy, script(), write_seconds=0.5)
    body = json.dumps(
        ASK
        | {
            "model": "heavy",
            "stream": True,
            "n": 100,
            "logprobs": True,
            "top_logprobs": 20,
            "max_tokens": 400,
        }
    )
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    with sock:
        sock.sendall(raw_request(server, body.encode()))
        server.wait_until(lambda: heavy.runner.num_steps > 0)
        assert_still_up(server)
        server.wait_until(lambda: server.state.in_flight.num == 0)
        server.wait_until(heavy.engine._idle.is_set)
    assert_still_up(server)


def test_a_client_that_reads_slowly_gets_everything(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server))
        answer = read_until(sock, b"data: [DONE]", step=7)
    text = "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in answer.decode().splitlines()
        if line.startswith("data: {")
    )
    assert text == REPLY


def test_a_client_that_never_sends_its_body(serve: Serve) -> None:
    server = serve(body_seconds=0.2)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server, b'{"model"', length=500))
        assert sock.recv(4096).startswith(b"HTTP/1.1 408")
    assert_still_up(server)


def test_garbage_on_the_wire(server: Running) -> None:
    for junk in (b"\x00\xff\x16\x03\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(junk)
    assert_still_up(server)


def test_too_many_are_told_when_to_come_back(serve: Serve, script: Script) -> None:
    scripted = script(config=small_queue())
    scripted.runner.is_gated = True
    server = serve(scripted)
    for stream in (False, True):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(raw_request(server))
            server.wait_until(lambda: not scripted.engine._idle.is_set())
            with pytest.raises(openai.RateLimitError) as caught:
                server.client().chat.completions.create(**ASK, stream=stream)
            assert int(caught.value.response.headers["retry-after"]) >= 1
            assert caught.value.code == "overloaded"
        server.wait_until(lambda: server.state.in_flight.num == 0)
        scripted.runner.gate.release(2)
        server.wait_until(scripted.engine._idle.is_set)
    scripted.runner.is_gated = False
    scripted.runner.gate.release(2)
    assert_still_up(server)


def test_an_answer_that_takes_too_long(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted, request_seconds=0.3)
    with pytest.raises(openai.InternalServerError) as caught:
        server.client().chat.completions.create(**ASK)
    assert caught.value.status_code == 504
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.APIError, match="no complete answer within"):
        list(server.client().chat.completions.create(**ASK, stream=True))


def test_a_silent_stream_shows_that_it_lives(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted, keep_alive_seconds=0.1)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server))
        answer = read_until(sock, b": still working")
        assert b"x-cairn-receipt: rcpt_" in answer
        scripted.runner.is_gated = False
        scripted.runner.gate.release(10)
        read_until(sock, b"[DONE]")


def test_shutdown_finishes_what_runs_and_refuses_what_comes(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted)
    client = server.http()
    with client.stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as response:
        server.server.should_exit = True
        server.wait_until(lambda: server.state.in_flight.is_draining)
        refused = server.http().post("/v1/chat/completions", json=ASK)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == "unavailable"
        ready = server.http().get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "shutting down")
        assert server.http().get("/healthz").status_code == 200
        scripted.runner.is_gated = False
        scripted.runner.gate.release(10)
        assert "[DONE]" in response.read().decode()
    server.thread.join(PATIENCE)
    assert not server.thread.is_alive()


def test_shutdown_does_not_wait_for_ever(serve: Serve, script: Script) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted, drain_seconds=0.1)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(raw_request(server))
        server.wait_until(lambda: server.state.in_flight.num == 1)
        server.server.should_exit = True
        server.thread.join(PATIENCE)
    assert not server.thread.is_alive()


def test_sixteen_streams_at_once(serve: Serve, script: Script) -> None:
    server = serve(script(config=EngineConfig(max_num_seqs=16)))
    client = server.client()

    def read(number: int) -> str:
        messages = [{"role": "user", "content": f"number {number}"}]
        stream = client.chat.completions.create(**(ASK | {"messages": messages}), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    with ThreadPoolExecutor(16) as clients:
        assert list(clients.map(read, range(16))) == [REPLY] * 16
    text = server.http().get("/metrics").text
    assert 'cairn_completions_total{model="scripted",outcome="ok"} 16.0' in text
    assert 'cairn_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 16.0' in text
    assert "cairn_time_to_first_token_seconds_count" in text
    assert 'cairn_tenant_running{model="scripted",tenant="admin"} 0.0' in text
    assert 'cairn_tenant_waiting{model="scripted",tenant="admin"} 0.0' in text
    assert 'cairn_tenant_tokens{model="scripted",tenant="admin"}' in text
