"""The built page: what is cached, what is not, and what a missing build says."""

import gzip
from pathlib import Path

import httpx2
import pytest

from cairn.registry import Registry
from cairn.server.app import create_app
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.state import ServerState
from tests.server.conftest import ScriptedModels


def client_of(registry: Registry, folder: Path) -> httpx2.AsyncClient:
    state = ServerState(
        registry=registry,
        config=ServerConfig(),
        models=ScriptedModels(),
        identity=Identity(registry.database),
    )
    transport = httpx2.ASGITransport(create_app(state, page_folder=folder))
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>Cairn</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "app-1a2b.js").write_text("1")
    (tmp_path / "secret.txt").write_text("hidden")
    return folder


async def test_the_page_and_its_own_routes(registry: Registry, built: Path) -> None:
    async with client_of(registry, built) as client:
        for path in ("/", "/runs/run_1", "/models/sha256:00"):
            response = await client.get(path)
            assert response.text == "<title>Cairn</title>"
            assert response.headers["cache-control"] == "no-cache"
        asset = await client.get("/assets/app-1a2b.js")
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert asset.headers["content-type"].startswith("text/javascript")
        assert (await client.get("/favicon.svg")).headers["cache-control"] == "no-cache"
        assert (await client.head("/")).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br;q=0.8", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("identity", None),
        ("", None),
    ],
)
async def test_what_is_packed_beside_it_is_taken(
    registry: Registry, built: Path, accepted: str, encoding: str | None
) -> None:
    script, text = built / "assets" / "app-1a2b.js", b"console.log(1)"
    (built / "assets" / "app-1a2b.js.gz").write_bytes(gzip.compress(text))
    (built / "assets" / "app-1a2b.js.br").write_bytes(b"packed")
    script.write_bytes(text)
    async with client_of(registry, built) as client:
        request = client.build_request("GET", "/assets/app-1a2b.js", headers={"accept-encoding": accepted})
        response = await client.send(request, stream=True)
        raw = b"".join([part async for part in response.aiter_raw()])
        assert response.headers.get("content-encoding") == encoding
        assert response.headers["content-type"].startswith("text/javascript")
        assert response.headers["vary"] == "accept-encoding"
        assert (gzip.decompress(raw) if encoding == "gzip" else raw) == (
            b"packed" if encoding == "br" else text
        )


async def test_what_is_not_the_pages(registry: Registry, built: Path) -> None:
    async with client_of(registry, built) as client:
        for path in ("/assets/gone.js", "/api/nothing", "/v1/nothing"):
            response = await client.get(path)
            assert response.status_code == 404
            assert response.json()["error"]["type"] == "not_found_error"
        assert (await client.post("/")).status_code == 405
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt"):
            assert "hidden" not in (await client.get(path)).text


async def test_a_page_that_is_not_built_says_how(registry: Registry, tmp_path: Path) -> None:
    async with client_of(registry, tmp_path) as client:
        response = await client.get("/")
        assert response.status_code == 503
        assert "make run" in response.text
        assert (await client.get("/healthz")).status_code == 200
