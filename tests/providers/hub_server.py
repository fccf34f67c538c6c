"""A server with the endpoints of the Hugging Face Hub that a pull uses, which can break off, lie and refuse.

A repository's files, what the Hub says of them, and the bytes behind redirects: large ones on another host,
as the Hub's storage is one, small ones at another path of this one, as its cache is.
"""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "cafe"
_LARGE = (".gguf", ".safetensors")


@dataclass
class HubServer:
    """One repository, `someone/stones`; `url` is what HF_ENDPOINT would be."""

    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    """Other bytes than those listed."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """More entries of the list."""
    break_after: int | None = None
    """Bytes of a body after which the connection ends."""
    can_resume: bool = True
    longer: int = 0
    """Added to Content-Length."""
    answers: dict[str, int] = field(default_factory=dict)
    """Statuses instead of content, by path."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Path, range and authorization of every request for content."""
    url: str = ""

    def respond(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        api = "/api/models/someone/stones"
        if path in (api, f"{api}/revision/v1"):
            return self._json(handler, {"id": "someone/stones", "sha": COMMIT, "siblings": []})
        if path == f"{api}/tree/{COMMIT}":
            return self._json(handler, [*map(self._entry, self.files), *self.listed])
        resolve = f"/someone/stones/resolve/{COMMIT}/"
        if path.startswith((resolve, "/storage/", "/cache/")):
            return self._content(handler, path.removeprefix(resolve), path.startswith(resolve))
        is_revision = path.startswith(f"{api}/revision/")
        handler.send_response(404)
        handler.send_header("X-Error-Code", "RevisionNotFound" if is_revision else "RepoNotFound")
        handler.end_headers()
        return None

    def _entry(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if path.endswith(_LARGE):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 135}
        return entry

    def _json(self, handler: http.server.BaseHTTPRequestHandler, value: object) -> None:
        body = json.dumps(value).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _content(self, handler: http.server.BaseHTTPRequestHandler, path: str, is_hub: bool) -> None:
        asked, token = handler.headers.get("Range", ""), handler.headers.get("Authorization", "")
        self.requests.append((path, asked, token))
        name = path.removeprefix("/storage/").removeprefix("/cache/")
        if name in self.answers or name not in self.files:
            handler.send_error(self.answers.get(name, 404))
            return
        if is_hub:
            storage = f"{self.url.replace('127.0.0.1', 'localhost')}/storage/{name}"
            handler.send_response(302)
            handler.send_header("Location", storage if name.endswith(_LARGE) else f"/cache/{name}")
            handler.end_headers()
            return
        body = self.served.get(name, self.files[name])
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.can_resume else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) - start + self.longer))
        handler.end_headers()
        end = None if self.break_after is None else start + self.break_after
        handler.wfile.write(body[start:end])


@contextmanager
def serving(hub: HubServer) -> Iterator[HubServer]:
    """The server at work, on a free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.respond(self)

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
