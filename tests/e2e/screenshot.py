"""`python -m tests.e2e.screenshot [FOLDER]`: pictures of every page, wide in light and dark, and on a phone.

A server of its own is furnished first. Written to `docs/images/pages`, small: WebP at the quality at which
text stays sharp. The pages are those of the page's router.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.e2e.addresses import found_addresses, settle
from tests.e2e.chromium import ROOT, launched
from tests.e2e.furnish import furnish
from tests.e2e.serving import Up, serving

_QUALITY = 62
SHOTS = (
    ("", {"width": 1280, "height": 800}, "light", 1.0),
    ("-dark", {"width": 1280, "height": 800}, "dark", 0.5),
    ("-phone", {"width": 390, "height": 780}, "light", 0.8),
)
"""What a picture's name ends with, the window, the scheme, and how much of its size is kept."""


def name_of(route: str) -> str:
    """`/runs/$runId` as `runs-run`."""
    parts = [part.removeprefix("$").removesuffix("Id") for part in route.strip("/").split("/")]
    return "-".join(part for part in parts if part) or "home"


def take(page: Page, path: Path, scale: float) -> int:
    """Write what is seen now, and return how large the file is."""
    page.mouse.move(0, 0)
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if scale != 1.0:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    picture.save(path, "WEBP", quality=_QUALITY, method=6)
    return path.stat().st_size


def take_all(browser: Browser, up: Up, folder: Path) -> None:
    """Furnish, and take every page in every shot."""
    first = browser.new_context(base_url=up.url)
    page = first.new_page()
    page.set_default_timeout(120_000)
    page.goto(up.link)
    expect(page.get_by_role("textbox", name="Message")).to_be_visible()
    furnish(page, up.settings)
    addresses, missing = found_addresses(page)
    print(f"nothing leads to: {', '.join(missing) or '-'}", flush=True)
    addresses |= {route: each for route, each in _telling(page, up).items() if route in addresses}
    state = first.storage_state()
    total = 0
    for ending, size, scheme, scale in SHOTS:
        signed_in = browser.new_context(
            base_url=up.url,
            storage_state=state,
            viewport=size,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            device_scale_factor=1,
        )
        page = signed_in.new_page()
        for route, address in addresses.items():
            page.goto(address)
            settle(page)
            total += take(page, folder / f"{name_of(route)}{ending}.webp", scale)
        signed_in.close()
    first.close()
    print(f"{len(addresses)} pages, {total / 1e6:.2f} MB", flush=True)


def _telling(page: Page, up: Up) -> dict[str, str]:
    """Of routes with parameters the addresses that show the most."""
    [collection] = [
        each
        for each in page.request.get("/api/collections").json()["collections"]
        if each["name"] == "handbook"
    ]
    documents = page.request.get(f"/api/collections/{collection['id']}/documents").json()["documents"]
    return {
        "/models/$digest": f"/models/{up.seeded.model.digest}",
        "/runs/$runId": f"/runs/{up.seeded.build_id}",
        "/knowledge/$collection": f"/knowledge/{collection['ref']}",
        "/knowledge/$collection/documents/$documentId": (
            f"/knowledge/{collection['ref']}/documents/{documents[0]['id']}"
        ),
    }


def main() -> None:
    """Take the pictures into the folder given, or `docs/images/pages`."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as up, launched() as browser:
        expect.set_options(timeout=60_000)
        take_all(browser, up, folder)


if __name__ == "__main__":
    main()
