"""Tricks with bytes of requests: what a proxy before the server might read otherwise has one reading."""

import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.server.conftest import PATIENCE
from tests.server.faults.conftest import Up

BODY = b'{"model":"starter","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
LENGTH = b"Content-Length: %d" % len(BODY)
JSON = b"Content-Type: application/json"
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
"""A request that only one of two readers would see."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("wire") / "home"
    home.mkdir()
    made = Up(home).start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _answers_afterwards(server: Up) -> Iterator[None]:
    yield
    assert server.is_alive()
    assert exchange(server, head(server, JSON, LENGTH) + BODY)[0][0] == 200


def head(
    server: Up, *lines: bytes, target: bytes = b"/v1/chat/completions", method: bytes = b"POST"
) -> bytes:
    given = [line.split(b":")[0].lower() for line in lines]
    usual = [] if b"host" in given else [b"Host: 127.0.0.1:%d" % server.port]
    if b"authorization" not in given:
        usual.append(b"Authorization: Bearer " + server.key.encode())
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", *usual, b"Connection: close", *lines, b"", b""]
    )


def exchange(server: Up, data: bytes) -> list[tuple[int, bytes]]:
    """All answers to some bytes, until the server closes the connection."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        try:
            sock.sendall(data)
            while piece := sock.recv(65536):
                got += piece
        except ConnectionError:
            pass  # it closed before all was sent
    parts = got.split(b"HTTP/1.1 ")[1:]
    return [(int(part[:3]), part) for part in parts]


@pytest.mark.parametrize(
    "lines",
    [
        [LENGTH, LENGTH],
        [LENGTH, b"Content-Length: 0"],
        [LENGTH + b", %d" % len(BODY)],
        [b"Content-Length: +%d" % len(BODY)],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x4e"],
        [b"Content-Length: 99999999999999999999999"],
        [LENGTH, b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
        [b"Transfer-Encoding: xchunked", LENGTH],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"X-Fold: a\r\n b", LENGTH],
        [b"X-Nul: a\0b", LENGTH],
        [b"Authorization: Bearer \0", LENGTH],
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(server: Up, lines: list[bytes]) -> None:
    for body in (BODY, b"0\r\n\r\n"):
        answers = exchange(server, head(server, JSON, *lines) + body + HIDDEN)
        assert [status for status, _ in answers] == [400], answers


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"fffffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"2;a\n{}\r\n0\r\n\r\n"]
)
def test_chunks_that_are_none(server: Up, chunks: bytes) -> None:
    answers = exchange(server, head(server, JSON, b"Transfer-Encoding: chunked") + chunks + HIDDEN)
    assert [status for status, _ in answers] == [400], answers


def test_lines_end_as_they_should(server: Up) -> None:
    data = head(server, JSON, LENGTH).replace(b"\r\n", b"\n") + BODY
    assert [status for status, _ in exchange(server, data)] == [400]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"X-Many: a\r\n" * 100_000,
    ],
)
def test_a_head_without_end_is_cut_off(server: Up, data: bytes) -> None:
    assert server.process is not None
    before = psutil.Process(server.process.pid).memory_info().rss
    for _ in range(20):
        answers = exchange(server, data)
        assert [status for status, _ in answers] in ([431], [400], []), answers
    grown = psutil.Process(server.process.pid).memory_info().rss - before
    assert grown < 10_000_000, "nothing of it is kept"


@pytest.mark.parametrize(
    "target",
    [
        b"/assets/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        b"/assets/%252e%252e/%252e%252e/etc/passwd",
        b"/assets/..\\..\\..\\etc\\passwd",
        b"/assets/%00",
        b"/assets/" + b"a" * 5000,
        b"/v1/files/..%2f..%2fcairn.db/content",
        b"/v1/models/%00",
        b"/v1/models/%ff%fe",
        b"/api/artifacts/..%2f..%2fcairn.db",
    ],
)
def test_paths_lead_nowhere_else(server: Up, target: bytes) -> None:
    ((status, answer),) = exchange(server, head(server, target=target, method=b"GET"))
    assert status == 404, answer
    assert b"root:" not in answer
    assert b"SQLite" not in answer


@pytest.mark.parametrize(
    "target", [b"/../../../../etc/passwd", b"/a%00b", b"/" + b"a" * 5000, b"//etc/passwd"]
)
def test_what_is_no_file_is_the_page(server: Up, target: bytes) -> None:
    ((status, answer),) = exchange(server, head(server, target=target, method=b"GET"))
    assert (status, b"<!doctype html" in answer.lower(), b"root:" in answer) == (200, True, False), answer


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ([b"127.0.0.1", b"evil.example"], 400),
        ([b"evil.example", b"127.0.0.1"], 400),
        ([b"127.0.0.1", b"127.0.0.1"], 400),
        ([b"evil.example@127.0.0.1"], 421),
        ([b"127.0.0.1@evil.example"], 421),
        ([b"127.0.0.1/evil.example"], 421),
        ([b"127.0.0.1?evil.example"], 421),
        ([b"127.0.0.1#evil.example"], 421),
        ([b"127.0.0.1:80:evil.example"], 421),
        ([b"127.0.0.1, evil.example"], 421),
        ([b"2130706433"], 421),
        ([b"[::1%25evil.example]"], 421),
        ([b"[::1]"], 200),
        ([b"LocalHost:1"], 200),
    ],
)
def test_a_host_is_one_name(server: Up, hosts: list[bytes], status: int) -> None:
    lines = [b"Host: " + host for host in hosts]
    ((found, answer),) = exchange(server, head(server, *lines, target=b"/api/session", method=b"GET"))
    assert found == status, answer


def test_a_target_s_host_and_forwarded_ones_are_not_believed(server: Up) -> None:
    for lines, target in (
        ([b"Host: evil.example"], b"http://127.0.0.1/api/session"),
        ([b"Host: evil.example", b"X-Forwarded-Host: 127.0.0.1"], b"/api/session"),
        ([b"Host: evil.example", b"Forwarded: host=127.0.0.1"], b"/api/session"),
    ):
        ((status, answer),) = exchange(server, head(server, *lines, target=target, method=b"GET"))
        assert status == 421, answer


def test_a_sign_in_link_is_spent_by_no_trick(server: Up) -> None:
    """Only a request that names this server, in one way, takes the link; what is refused leaves it whole."""
    target = server.link.removeprefix(server.url).encode()
    no_key = b"Authorization: "
    for lines in ([b"Host: evil.example"], [b"Host: 127.0.0.1", b"Host: evil.example"]):
        ((status, answer),) = exchange(server, head(server, *lines, no_key, target=target, method=b"GET"))
        assert status in (400, 421)
        assert b"set-cookie" not in answer.lower()
    injected = target + b"%0d%0aSet-Cookie:%20a=b"
    ((status, answer),) = exchange(server, head(server, no_key, target=injected, method=b"GET"))
    assert status == 401
    assert b"set-cookie" not in answer.lower()
    for expected in (303, 401):
        ((status, answer),) = exchange(server, head(server, no_key, target=target, method=b"GET"))
        assert status == expected, answer
    # The cookie that it gave writes only from the server's own page.
    assert b"set-cookie" not in answer.lower()


@pytest.mark.parametrize(
    ("opening", "inner", "closing", "depth"),
    [
        (b"[", b"", b"]", 101),
        (b"[", b"", b"]", 200_000),
        (b"[", b"", b"", 4_000_000),
        (b'{"a":', b"1", b"}", 101),
        (b'{"a":', b"1", b"}", 200_000),
    ],
)
@pytest.mark.parametrize(
    "path", [b"/v1/chat/completions", b"/v1/messages", b"/v1/responses", b"/v1/embeddings"]
)
def test_a_body_that_nests_without_end(
    server: Up, path: bytes, opening: bytes, inner: bytes, closing: bytes, depth: int
) -> None:
    body = b'{"model":"starter","messages":' + opening * depth + inner + closing * depth + b"}"
    data = head(server, JSON, b"Content-Length: %d" % len(body), target=path) + body
    ((status, answer),) = exchange(server, data)
    assert status == 400, answer[:1000]
    assert b"deep" in answer, answer[:1000]
