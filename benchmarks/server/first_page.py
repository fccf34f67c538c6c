"""`make run` from a fresh clone to an answering page, then again: `setup.first_page`, `setup.second_start`.

The clone, its virtual environment and its CAIRN_HOME are new; the caches of pip and npm are the machine's,
and its network counts. The page answers when `/` gives 200; a second start counts until then too, with the
model loaded (`/readyz`) beside it.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import ROOT, record
from benchmarks.server.running import running, wait_for

FIRST_BAR_SECONDS = 240.0
SECOND_BAR_SECONDS = 5.0


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="record nothing, use this checkout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = ROOT
        if not options.smoke:
            clone = Path(folder) / "cairn"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        home = Path(folder) / "home"
        first, first_ready = start(["make", "run"], clone, home)
        second, second_ready = start(["make", "run"], clone, home)
    print(
        f"first page {first:.1f} s (ready {first_ready:.1f} s), second {second:.1f} s ({second_ready:.1f} s)"
    )
    if options.smoke:
        return
    for record_id, what, seconds, bar in (
        ("setup.first_page", "`make run` in a fresh clone to an answering page", first, FIRST_BAR_SECONDS),
        ("setup.second_start", "`make run` again to an answering page", second, SECOND_BAR_SECONDS),
    ):
        record(
            "setup",
            record_id,
            what=what,
            unit="s",
            cairn=seconds,
            higher_is_better=False,
            bar=bar,
            command="python -m benchmarks.server.first_page",
            packages=("torch",),
        )


def start(command: Sequence[str], checkout: Path, home: Path) -> tuple[float, float]:
    """Seconds until the page answers, and until a completion would be taken."""
    started = time.perf_counter()
    with running(command, home=home, cwd=checkout) as server:
        wait_for(f"{server.url}/")
        page = time.perf_counter() - started
        wait_for(f"{server.url}/readyz")
        return page, time.perf_counter() - started


if __name__ == "__main__":
    main()
