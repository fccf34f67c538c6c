"""Tricks with requests as bytes: what a proxy before the server might read otherwise must be read in one way."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.server.conftest import PATIENCE
from tests.server.faults.conftest import Start, Up

BODY = b'{"model":"starter","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Up]":
    home = tmp_path_factory.mktemp("wire") / "home"
    home.mkdir()
    made = Up(home).start()
    yield made
    made.stop()


def head(server: Up, *lines: bytes, target: bytes = b"/v1/chat/completions", method: bytes = b"POST") -> bytes:
    given = [line.split(b":")[0].lower() for line in lines]
    usual = [] if b"host" in given else [b"Host: 127.0.0.1:%d" % server.port]
    if b"authorization" not in given:
        usual.append(b"Authorization: Bearer " + server.key.encode())
    if b"connection" not in given:
        usual.append(b"Connection: close")
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *usual, *lines, b"", b""])


def exchange(server: Up, data: bytes) -> list[tuple[int, bytes]]:
    """All answers to some bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 8) as sock:
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
    parts = got.split(b"HTTP/1.1 ")[1:]
    return [(int(part[:3]), part) for part in parts]


if __name__ == "__main__":
    pass
