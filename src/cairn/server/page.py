"""The built page: hashed assets for ever, `index.html` always fresh, every other path leads to it."""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "page"
_API_PREFIXES = ("api", "v1", "healthz", "readyz", "metrics")

_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Cairn</title>
<h1>Cairn is running, but its page is not built</h1>
<p>Build it with <code>make page</code> in the checkout (needs Node), then reload.</p>
<p>The API answers already: <code>/v1/models</code>, <code>/v1/chat/completions</code>.</p></html>"""


def page_is_built(folder: Path = _FOLDER) -> bool:
    """Whether there is a page to serve."""
    return (folder / "index.html").is_file()


@router.api_route("/{path:path}", methods=["GET", "HEAD"])
def page(request: Request, path: str) -> Response:
    """A file of the page, or the page itself for its own routes."""
    if path.split("/")[0] in _API_PREFIXES:
        raise HTTPException(404)
    folder: Path = request.app.state.page_folder
    if not page_is_built(folder):
        return HTMLResponse(_NOT_BUILT, 503, {"cache-control": "no-store"})
    file = (folder / path).resolve()
    if path and file.is_relative_to(folder.resolve()) and file.is_file():
        is_hashed = path.startswith("assets/")
        cache = "public, max-age=31536000, immutable" if is_hashed else "no-cache"
        return FileResponse(file, headers={"cache-control": cache})
    if path.startswith("assets/"):
        raise HTTPException(404)
    return FileResponse(folder / "index.html", headers={"cache-control": "no-cache"})
