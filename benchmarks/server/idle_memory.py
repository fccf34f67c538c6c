"""Memory of an idle server with the starter model loaded: id `server.idle_memory`.

Proportional set size (memory shared with other processes counts in parts), summed over the process and its
children, after one completion, so that everything lazy is there. The resident set size is printed too.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from benchmarks.record import record
from benchmarks.server.running import CAIRN, running, wait_for

BAR_MB = 250.0


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="an existing CAIRN_HOME; otherwise a new one")
    parser.add_argument("--smoke", action="store_true", help="print only, record nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pss, rss = measure(options.home or Path(folder))
    print(f"idle server: PSS {pss:.0f} MB, RSS {rss:.0f} MB")
    if not options.smoke:
        record(
            "server",
            "server.idle_memory",
            what="memory (PSS) of an idle server with the starter model loaded, after one completion",
            unit="MB",
            cairn=pss,
            higher_is_better=False,
            bar=BAR_MB,
            command="python -m benchmarks.server.idle_memory",
            packages=("fastapi", "uvicorn", "numpy"),
        )


def measure(home: Path) -> tuple[float, float]:
    """PSS and RSS in MB (10^6 bytes)."""
    with running([CAIRN, "up", "--port", "0"], home=home) as server:
        wait_for(f"{server.url}/readyz")
        ask(home, server.url)
        pids = [server.pid, *children(server.pid)]
        return sum(field(pid, "Pss") for pid in pids), sum(field(pid, "Rss") for pid in pids)


def ask(home: Path, url: str) -> None:
    """One short completion with a key of its own."""
    env = {**os.environ, "CAIRN_HOME": str(home)}
    made = subprocess.run([CAIRN, "key", "create"], env=env, capture_output=True, text=True, check=True)
    headers = {"authorization": f"Bearer {made.stdout.strip()}", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/models", headers=headers)) as response:
        model = json.load(response)["data"][0]["id"]
    body = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        print(json.load(response)["choices"][0]["message"]["content"])


def children(pid: int) -> list[int]:
    """Every process below."""
    direct = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [below for each in direct for below in children(each)]


def field(pid: int, name: str) -> float:
    """A sum of `smaps_rollup` in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
