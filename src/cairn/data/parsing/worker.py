"""A process that parses files for another one, under a limit of memory and without its secrets.

Messages on stdin and stdout: a length of eight bytes, then so many bytes. A request is a line of JSON,
followed by the file's bytes where it names no path. A reply is the pieces of a document, each as soon as it
is read, so that only a page is in memory; and what comes back from a process that a hostile file may have
taken over is data and nothing that runs.
"""

import json
import math
import resource
import select
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from cairn.compute.device import anonymous_memory
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.limits import ParseLimits
from cairn.data.parsing.parse import parse_into
from cairn.data.parsing.parsed import Piece, dump_piece

LENGTH_BYTES = 8
_IDLE_SECONDS = 60.0
_SPARE_CPU_SECONDS = 10
_MOST_HELD = 1 << 29
"""A worker that still holds more after a file ends, and gives its memory back."""


def request_bytes(source: Path | bytes, name: str, limits: ParseLimits) -> bytes:
    """What `serve` reads: with the path or with the bytes themselves."""
    path = None if isinstance(source, bytes) else str(source.absolute())
    head = json.dumps({"path": path, "name": name, "limits": asdict(limits)}).encode() + b"\n"
    return head + (source if isinstance(source, bytes) else b"")


def write_message(stream: BinaryIO, data: bytes) -> None:
    """One message, at once."""
    stream.write(len(data).to_bytes(LENGTH_BYTES, "big"))
    stream.write(data)
    stream.flush()


def serve() -> None:
    """Answer requests until there are none for a while, or stdin ends."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    while select.select([requests], [], [], _IDLE_SECONDS)[0]:
        length = requests.read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return
        _answer(requests.read(int.from_bytes(length, "big")), replies)
        # Not the peak that the system has counted: it begins with that of the process which started this one.
        if anonymous_memory() > _MOST_HELD:
            return


def _answer(message: bytes, replies: BinaryIO) -> None:
    head, _, data = message.partition(b"\n")
    request: dict[str, Any] = json.loads(head)
    limits = ParseLimits(**request["limits"])
    with suppress(OSError, ValueError):  # a system without this limit
        _limit(resource.RLIMIT_AS, limits.memory_bytes)
        # Nobody would end a worker that runs on after its parent was killed.
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + limits.seconds) + _SPARE_CPU_SECONDS)

    def send(piece: Piece) -> None:
        write_message(replies, dump_piece(piece))

    composer = Composer(limits, send)
    try:
        parse_into(data if request["path"] is None else Path(request["path"]), request["name"], composer)
        return
    except OSError as error:
        composer.stop("failed", f"it cannot be read: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever befalls a parser is told
        composer.stop("failed", f"its parser failed with {type(error).__name__}: {str(error)[:200]}")
    composer.finish()


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))
