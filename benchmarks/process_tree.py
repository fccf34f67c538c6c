"""A command with all processes it starts: what it prints last, and the most memory all hold at one time.

Memory is the proportional set size (what several processes share counts once), looked at 20 times a second.
"""

import json
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Watched:
    """What a command said in its last line, and its peak in bytes."""

    said: dict[str, Any]
    peak_bytes: int


def run_watched(command: Sequence[str], cwd: Path) -> Watched:
    """Run a command whose last line is JSON."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    ) as process:
        over, peaks = threading.Event(), [0]

        def look() -> None:
            while not over.wait(_SECONDS):
                peaks.append(_held_bytes(process.pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        out, errors = process.communicate()
        over.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{errors[-3000:]}")
    return Watched(json.loads(out.strip().splitlines()[-1]), max(peaks))


def _held_bytes(pid: int) -> int:
    """Proportional set sizes of a process and all below it."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += each.memory_full_info().pss
    return total
