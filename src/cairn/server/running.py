"""Where the servers of a home are: a file for each with its address, locked for as long as its server lives.

So a command on the same machine finds them, and never takes the file of a killed one for a living one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cairn.registry.locks import hold, take_over

_FOLDER = "servers"


@contextmanager
def published(home: Path, address: str) -> Iterator[None]:
    """Tell the commands on this machine where this process serves `home`."""
    folder = home / _FOLDER
    folder.mkdir(exist_ok=True)
    held = hold(folder / f"{os.getpid()}.lock")
    try:
        held.path.write_text(address, encoding="utf-8")
        yield
    finally:
        held.release()


def running_servers(home: Path) -> list[str]:
    """Addresses of the servers that live now, the latest first."""
    found: list[tuple[float, str]] = []
    for path in (home / _FOLDER).glob("*.lock"):
        if (left := take_over(path)) is not None:
            left.release()  # its server was killed
        elif path.is_file() and (address := path.read_text(encoding="utf-8")):
            found.append((path.stat().st_mtime, address))
    return [address for _, address in sorted(found, reverse=True)]
