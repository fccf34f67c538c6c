"""A command that asks a server: refusals, strangers at the address, and where its key goes."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from cairn.cli.server_client import RefusedError, ServerClient, server_client
from cairn.core import InvalidRequestError, NotFoundError, Settings
from cairn.core.errors import UnavailableError
from cairn.registry import Registry
from cairn.server.running import published, running_servers

ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/fine": (200, {}, b'{"a": 1}'),
    "/refused": (409, {}, json.dumps({"error": {"message": "it is busy; wait", "remedy": "wait"}}).encode()),
    "/bare": (403, {}, b'{"error": {"message": "no"}}'),
    "/page": (200, {}, b"<!doctype html>"),
    "/odd": (500, {}, b'{"error": "odd"}'),
    "/elsewhere": (302, {"Location": "/fine"}, b""),
}


@pytest.fixture
def asked() -> list[tuple[str, str | None]]:
    """Paths asked for, and with which key."""
    return []


@pytest.fixture
def address(asked: list[tuple[str, str | None]]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            status, headers, body = ANSWERS[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_answers_and_refusals(address: str, asked: list[tuple[str, str | None]]) -> None:
    client = ServerClient(f"{address}/", {"Authorization": "Bearer k"})
    assert client.ask("/fine") == {"a": 1}
    with pytest.raises(RefusedError) as refused:
        client.ask("/refused")
    assert (refused.value.message, refused.value.remedy) == ("it is busy", "wait")
    with pytest.raises(RefusedError, match=r"^no$"):
        client.ask("/bare")
    for path, said in (("/odd", "answered 500"), ("/elsewhere", "answered 302")):
        with pytest.raises(RefusedError, match=said):
            client.ask(path)
    with pytest.raises(UnavailableError, match="no Cairn answers at"):
        client.ask("/page")
    assert asked[-2:] == [("/elsewhere", "Bearer k"), ("/page", "Bearer k")]  # no redirect was followed


@pytest.mark.parametrize("where", ["http://127.0.0.1:1", "http://[", "http://127.0.0.1:port", "http://a b"])
def test_nobody_at_the_address(where: str) -> None:
    with pytest.raises(UnavailableError, match="no Cairn answers at") as nobody:
        ServerClient(where, {}).ask("/fine", patience=5)
    assert "cairn up" in nobody.value.remedy


def test_which_server_is_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAIRN_API_KEY", raising=False)
    with Registry.open(settings) as registry:
        for address, kind in (
            ("", NotFoundError),
            ("host:1", InvalidRequestError),
            ("http://a", InvalidRequestError),
        ):
            with pytest.raises(kind), server_client(registry, address):
                pass
        monkeypatch.setenv("CAIRN_API_KEY", "cairn_key")
        with server_client(registry, "http://a/") as client:
            assert client.address == "http://a"


def test_a_server_is_found_while_it_lives(settings: Settings) -> None:
    assert running_servers(settings.home) == []
    settings.home.mkdir(parents=True, exist_ok=True)
    with published(settings.home, "http://127.0.0.1:5"):
        (settings.home / "servers" / "2.lock").write_text("http://127.0.0.1:6")  # nobody holds it
        assert running_servers(settings.home) == ["http://127.0.0.1:5"]
    assert list((settings.home / "servers").iterdir()) == []
