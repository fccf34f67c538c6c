"""A home in which the tutorial was built, and a server over it: what the documented commands assume."""

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CAIRN = str(Path(sys.executable).parent / "cairn")


@dataclass(frozen=True, slots=True)
class LiveServer:
    url: str
    key: str


@pytest.fixture(scope="session")
def docs_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAIRN_HOME with the tutorial recipe built in it, whole, as the README's second step does."""
    home = tmp_path_factory.mktemp("docs-home")
    subprocess.run(
        [CAIRN, "build", "recipes/tutorial.toml"],
        cwd=ROOT,
        env=os.environ | {"CAIRN_HOME": str(home)},
        check=True,
        timeout=1500,
    )
    return home


@pytest.fixture(scope="session")
def docs_server(docs_home: Path) -> Iterator[LiveServer]:
    """`cairn up` on a free port over the same home."""
    with subprocess.Popen(
        [CAIRN, "up", "--port", "0", "--new-key"],
        env=os.environ | {"CAIRN_HOME": str(docs_home), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            said = _read_until_ready(process)
            url = re.search(r"http://127\.0\.0\.1:\d+", said)
            key = re.search(r"\bcairn_[A-Za-z0-9_-]{20,}\b", said)
            assert url, said
            assert key, said
            yield LiveServer(url[0], key[0])
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            finally:
                process.kill()  # leaving the block waits for it without end


def _read_until_ready(process: "subprocess.Popen[bytes]") -> str:
    """What the server prints until it says where its page and data are."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    said = b""
    deadline = time.monotonic() + 120
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and process.poll() is None:
            if selector.select(timeout=1):
                said += process.stdout.read() or b""
            if b"sign-in" in said and said.count(b"\n") >= 4:
                return said.decode()
    raise AssertionError(f"the server did not start: {said.decode()}")
