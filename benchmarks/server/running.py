"""A `cairn up` of our own in its own process, for what is measured from outside."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CAIRN = str(Path(sys.executable).parent / "cairn")
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has said where its page is."""

    pid: int
    url: str


@contextmanager
def running(command: Sequence[str], *, home: Path, cwd: Path | None = None) -> Iterator[Running]:
    """Start a command that ends in `cairn up`, and end it with SIGTERM."""
    env = {**os.environ, "CAIRN_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its modules compiled
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=cwd)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"https?://[^/\s]+(?=/sign-in)", line):
                yield Running(process.pid, found[0])
                return
        raise SystemExit(f"{' '.join(command)} ended with {process.wait()} before it had a page")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def wait_for(url: str) -> None:
    """Return when an address answers 200."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError):
            pass
        time.sleep(0.02)
    raise SystemExit(f"{url} did not answer within {PATIENCE_SECONDS:.0f} s")
