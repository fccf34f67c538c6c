"""The built page: hashed assets for ever, `index.html` always fresh, every other path leads to it.

The build leaves `app.js.br` and `app.js.gz` beside `app.js`; whoever takes one of these gets it.
"""

import asyncio
import mimetypes
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Receive, Scope, Send

PAGE_FOLDER = Path(__file__).parent / "page"
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_API_PREFIXES = ("api", "v1", "healthz", "readyz", "metrics")

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Cairn</title>
<h1>Cairn is running, but its page is not built</h1>
<p>In a checkout, <code>make run</code> builds it (with Node, or without); then reload.</p>
<p>The API answers already: <code>/v1/models</code>, <code>/v1/chat/completions</code>.</p></html>"""


def page_is_built(folder: Path = PAGE_FOLDER) -> bool:
    """Whether there is a page to serve."""
    return (folder / "index.html").is_file()


class Page:
    """The ASGI application for every path that no route of the API has."""

    def __init__(self, folder: Path = PAGE_FOLDER) -> None:
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/")
        if path.split("/")[0] in _API_PREFIXES:
            raise HTTPException(404)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        accepted = Headers(scope=scope).get("accept-encoding", "")
        response = await asyncio.to_thread(self._respond, path, accepted)
        await response(scope, receive, send)

    def _respond(self, path: str, accepted: str) -> Response:
        if not page_is_built(self._folder):
            return HTMLResponse(_NOT_BUILT, 503, {"cache-control": "no-store"})
        if path and (file := self._found(path)) is not None:
            is_hashed = path.startswith("assets/")
            return _file(file, "public, max-age=31536000, immutable" if is_hashed else "no-cache", accepted)
        if path.startswith("assets/"):
            raise HTTPException(404)
        return _file(self._folder / "index.html", "no-cache", accepted)

    def _found(self, path: str) -> Path | None:
        """The page's file of a path, where there is one."""
        try:
            file = (self._folder / path).resolve()
            return file if file.is_relative_to(self._folder.resolve()) and file.is_file() else None
        except (OSError, ValueError):
            return None  # longer than names may be, or with a NUL in it


def _file(file: Path, cache: str, accepted: str) -> Response:
    headers = {"cache-control": cache, "vary": "accept-encoding"}
    media_type = mimetypes.guess_type(file)[0]
    taken = {part.split(";")[0].strip() for part in accepted.split(",") if not part.endswith("q=0")}
    for encoding, ending in _ENCODINGS:
        if encoding in taken and (packed := file.with_name(file.name + ending)).is_file():
            headers["content-encoding"] = encoding
            return FileResponse(packed, headers=headers, media_type=media_type)
    return FileResponse(file, headers=headers, media_type=media_type)
