"""`cairn up` over a seeded home, in a process of its own."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cairn.core import Settings
from cairn.registry import Registry
from tests.e2e.chromium import ROOT
from tests.e2e.seed import Seeded, seed

_UP = [str(Path(sys.executable).parent / "cairn"), "up", "lighthouse", "--port", "0"]
_LINK = re.compile(r"(http://[^/\s]+)(/sign-in\?token=\S+)")


@dataclass(frozen=True, slots=True)
class Up:
    """A running server: where it is, its one-time link, its home and what is in it."""

    url: str
    link: str
    settings: Settings
    seeded: Seeded


@contextmanager
def serving(home: Path, *options: str) -> Iterator[Up]:
    """`cairn up` on a free port over a home that is seeded first."""
    settings = Settings(home=home)
    with Registry.open(settings) as registry:
        seeded = seed(registry)
    env = {**os.environ, "CAIRN_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [*_UP, *options]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        url, path = _read_link(iter(process.stdout))
        # Nobody reads its log from here on, but a full pipe would stop it.
        drain = threading.Thread(target=deque, args=(process.stdout, 0), daemon=True)
        drain.start()
        try:
            yield Up(url, url + path, settings, seeded)
        finally:
            process.terminate()
            process.wait(30)
            drain.join(5)


def _read_link(lines: Iterator[str]) -> tuple[str, str]:
    said = []
    for line in lines:
        said.append(line)
        if match := _LINK.search(line):
            return match[1], match[2]
    raise RuntimeError("cairn up ended without a sign-in link:\n" + "".join(said))
