"""Lighthouse over the page of a server of our own: `page.lighthouse.{performance,accessibility}`.

`make lighthouse` installs Lighthouse outside the checkout's own packages (it takes 180 MB) and says where
it is. Each page is loaded as a desktop and as a phone: a phone's processor and network are simulated
by Lighthouse from one load. The worst of all pages counts. Less than the bar ends with 1, but for a phone's
performance: simulated from a busy machine it says more of that than of the page.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from benchmarks.record import record
from tests.e2e.serving import serving

BAR = 95.0
CATEGORIES = ("performance", "accessibility", "best-practices")
FORMS = ("desktop", "phone")
PAGES = (
    "/welcome",
    "/chat",
    "/knowledge",
    "/models",
    "/runs",
    "/usage",
    "/routes",
    "/keys",
    "/people",
    "/audit",
    "/settings",
)
_TRIES = 3
"""On a busy machine a trace may lack its beginning."""
_CHROME = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"


def main() -> int:
    """Measure, print, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lighthouse", type=Path, help="the installed package's folder")
    parser.add_argument("--pages", nargs="*", default=PAGES, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many loads counts")
    parser.add_argument("--smoke", action="store_true", help="record nothing")
    options = parser.parse_args()
    scores: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as up:
        cookie = _signed_in(up.link)
        for path in options.pages:
            for form in FORMS:
                reports = [
                    _report(options.lighthouse, up.url + path, form, cookie) for _ in range(options.rounds)
                ]
                found = {name: _median(reports, name) for name in CATEGORIES}
                for name, score in found.items():
                    scores.setdefault((form, name), []).append(score)
                told = ", ".join(f"{name} {score:.0f}" for name, score in found.items())
                print(f"{path} ({form}): {told}", flush=True)
                _print_failures(reports[-1])
    if not options.smoke:
        _record(scores, _version(options.lighthouse))
    counted = (("desktop", "performance"), *((form, "accessibility") for form in FORMS))
    return 0 if min(min(scores[each]) for each in counted) >= BAR else 1


def _signed_in(link: str) -> str:
    """The cookie of a session."""
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(link).close()
    return "; ".join(f"{each.name}={each.value}" for each in jar)


def _report(package: Path, url: str, form: str, cookie: str) -> dict[str, Any]:
    command = [
        "node",
        str(package / "cli" / "index.js"),
        url,
        "--output=json",
        "--quiet",
        f"--only-categories={','.join(CATEGORIES)}",
        f"--chrome-flags={_CHROME}",
        f"--extra-headers={json.dumps({'Cookie': cookie})}",
        *(["--preset=desktop"] if form == "desktop" else []),
    ]
    chromium = shutil.which("chromium")
    env = {**os.environ, **({"CHROME_PATH": chromium} if chromium else {})}
    for _ in range(_TRIES):
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
        report: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        if report and not report.get("runtimeError"):
            return report
    raise SystemExit(f"Lighthouse could not load {url} in {_TRIES} tries")


def _median(reports: Sequence[dict[str, Any]], category: str) -> float:
    scores: list[float] = [100 * report["categories"][category]["score"] for report in reports]
    return statistics.median(scores)


def _print_failures(report: dict[str, Any]) -> None:
    """What takes points away."""
    for name in CATEGORIES:
        for part in report["categories"][name]["auditRefs"]:
            audit = report["audits"][part["id"]]
            if part["weight"] > 0 and audit["score"] is not None and audit["score"] < 0.9:
                print(f"    {part['id']}: {audit.get('displayValue') or audit['title']}")


def _record(scores: dict[tuple[str, str], list[float]], version: str) -> None:
    for name in ("performance", "accessibility"):
        for form in FORMS:
            record(
                "page",
                f"page.lighthouse.{name}" + ("" if form == "desktop" else ".phone"),
                what=f"Lighthouse's {name} of the worst of {len(PAGES)} pages, {form}",
                unit="of 100",
                cairn=min(scores[form, name]),
                bar=BAR,
                command="make lighthouse",
                depends_on_machine=name == "performance",
                versions={"lighthouse": version},
            )


def _version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text())["version"])


if __name__ == "__main__":
    sys.exit(main())
