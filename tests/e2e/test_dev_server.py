"""`npm run dev`: what someone who works on the page starts."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.browser


def test_the_development_server_serves_the_page_from_its_sources(built_page: Path) -> None:
    del built_page  # its fixture has installed what npm needs
    npm = shutil.which("npm") or str(Path(sys.executable).parent / "npm")
    with subprocess.Popen(
        [npm, "run", "dev", "--prefix", "web", "--", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            with urllib.request.urlopen(f"{url}src/main.tsx", timeout=60) as response:
                assert "createRoot" in response.read().decode()
        finally:
            os.killpg(process.pid, signal.SIGTERM)
