"""A server on this machine that answers as a vendor's documentation says, and refuses what it does not say.

A vendor's tests subclass `Vendor`: a route is a method and a pattern, its function gets the match, the query
and the body. An `AssertionError` in it is a request that the vendor would not take, and fails the test.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
Query = dict[str, list[str]]
Route = Callable[[re.Match[str], Query, Any], Answer]


class Vendor:
    """What a store's server keeps and answers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.refused: list[str] = []

    def routes(self) -> list[tuple[str, str, Route]]:
        """Method, pattern of the whole path, function."""
        raise NotImplementedError

    def check_headers(self, headers: dict[str, str]) -> None:
        """What every request must carry; names in lower case."""

    def answer(self, method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        parts = urlsplit(target)
        path = unquote(parts.path)
        try:
            self.check_headers(headers)
            for wanted, pattern, function in self.routes():
                match = re.fullmatch(pattern, path)
                if match and wanted == method:
                    with self.lock:
                        return function(match, parse_qs(parts.query), json.loads(data) if data else None)
            raise AssertionError("no such route")
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            self.refused.append(f"{method} {target}: {error!r} {data[:300]!r}")
            return 400, {"error": [{"message": repr(error)}]}


@contextmanager
def serving(vendor: Vendor) -> Iterator[str]:
    """The URL of a server for as long as the block runs; fails if a request was refused."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, value = vendor.answer(self.command, self.path, headers, data)
            body = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names http.server calls

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not vendor.refused
