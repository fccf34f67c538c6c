"""Parsing in child processes: a file of a stranger can harm neither this process nor those that come after
it.

`ParserPool` keeps a few workers, each started when it is first needed and used for many files. One that takes
too long, or ends by itself, is replaced, and the last page of its file, after those that came, says why.
"""

import atexit
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import LifoQueue
from types import TracebackType

from cairn.data.parsing.limits import ParseLimits
from cairn.data.parsing.parsed import (
    Ending,
    Page,
    ParsedDocument,
    ParsedFile,
    ParsedPage,
    Piece,
    Problem,
    ProblemKind,
    dump_piece,
    gathered,
    load_piece,
)
from cairn.data.parsing.worker import LENGTH_BYTES, request_bytes

_GRACE_SECONDS = 2.0
"""A parser that looks at the clock stops by itself, with what it has; others are killed this much later."""
_START_SECONDS = 20.0
"""More for its first file: a new process on a busy machine."""
_START = "import sys; sys.path[:] = {path!r}; from cairn.data.parsing.worker import serve; serve()"
_REPLY_BYTES_PER_TEXT_BYTE = 16
"""JSON of a document of many tiny blocks against its text."""
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class ParserPool:
    """Worker processes for `parse`, which any number of threads may call; `close` ends them."""

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_workers or max(1, min(4, os.cpu_count() or 1))
        # Last in, first out: under little load one worker does all, and the others end by themselves.
        self._free: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(self.num_workers):
            self._free.put(None)
        self.num_started = 0

    def parse(
        self, source: Path | bytes, name: str = "", *, limits: ParseLimits | None = None
    ) -> ParsedDocument:
        """The document of a file, or of bytes with a file's name; never an error that the file caused."""
        pieces: list[Piece] = []
        self._read(source, name, limits or ParseLimits(), pieces.append)
        return gathered(pieces)

    def parse_to(
        self, target: Path, source: Path | bytes, name: str = "", *, limits: ParseLimits | None = None
    ) -> ParsedFile:
        """The same, written to a file page by page: however long it is, little of it is in memory."""
        with target.open("wb") as file:
            self._read(source, name, limits or ParseLimits(), lambda piece: file.write(dump_piece(piece)))
        return ParsedFile.open(target)

    def _read(
        self, source: Path | bytes, name: str, limits: ParseLimits, take: Callable[[Piece], object]
    ) -> None:
        request = request_bytes(source, name, limits)
        last = Page(0, (0, 0), 1.0)
        worker = self._free.get()
        try:
            while True:
                if worker is None:
                    worker = _Worker()
                    self.num_started += 1
                try:
                    for piece in worker.ask(request, limits):
                        last = piece.page if isinstance(piece, ParsedPage) else last
                        take(piece)
                    return
                except _WorkerRetiredError:
                    worker.kill()
                    worker = None
                except _WorkerLostError as lost:
                    worker.kill()
                    worker = None
                    end, number = last.span[1], last.number + 1
                    page = Page(number, (end, end), 0.0, (Problem(lost.kind, number, str(lost)),))
                    take(ParsedPage(page, (), ""))
                    take(Ending("application/octet-stream"))
                    return
        except BaseException:
            if worker is not None:
                worker.kill()
                worker = None
            raise
        finally:
            self._free.put(worker)

    def parse_many(
        self, paths: Iterable[Path], *, limits: ParseLimits | None = None
    ) -> Iterator[ParsedDocument]:
        """The documents of many files in their order, as many at a time as there are workers."""
        with ThreadPoolExecutor(self.num_workers) as threads:
            yield from threads.map(lambda path: self.parse(path, limits=limits), paths)

    def close(self) -> None:
        """End the workers; the pool can be used again."""
        for _ in range(self.num_workers):
            worker = self._free.get()
            if worker is not None:
                worker.kill()
        for _ in range(self.num_workers):
            self._free.put(None)

    def __enter__(self) -> "ParserPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _WorkerRetiredError(Exception):
    """It ended by itself between two files; another one is asked."""


class _WorkerLostError(Exception):
    """It ended, or had to be ended, over a file."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind


class _Worker:
    """One process, which is asked by one thread at a time."""

    def __init__(self) -> None:
        self._answered = 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,  # an interrupt at the terminal is for the parent to handle
        )

    def ask(self, request: bytes, limits: ParseLimits) -> Iterator[Piece]:
        """The reply to a request, piece by piece; _WorkerLostError when it does not come in time."""
        assert self._process.stdin is not None
        seconds = limits.seconds + _GRACE_SECONDS + (0 if self._answered else _START_SECONDS)
        deadline = time.monotonic() + seconds
        with suppress(BrokenPipeError):  # reading finds out how it ended
            for part in (len(request).to_bytes(LENGTH_BYTES, "big"), request):
                view = memoryview(part)
                while view:
                    view = view[self._process.stdin.write(view) :]
        most = left = _REPLY_BYTES_PER_TEXT_BYTE * limits.max_text_bytes + (1 << 20)
        is_over = False
        while not is_over:
            length = int.from_bytes(self._read(LENGTH_BYTES, deadline, limits), "big")
            left -= length
            if left < 0:
                raise _WorkerLostError("too_large", f"its document has more than the {most:,} bytes allowed")
            try:
                piece = load_piece(self._read(length, deadline, limits))
            except (ValueError, TypeError, KeyError) as error:
                raise _WorkerLostError("failed", "its parser said what is no document") from error
            is_over = isinstance(piece, Ending)
            yield piece
        self._answered += 1

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self, length: int, deadline: float, limits: ParseLimits) -> bytes:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        poller = select.poll()
        poller.register(file, select.POLLIN)
        data = bytearray()
        while len(data) < length:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _WorkerLostError("truncated", f"not parsed within {limits.seconds:g} s")
            piece = os.read(file, min(length - len(data), 1 << 20))
            if not piece:
                raise self._ended(limits)
            data += piece
        return bytes(data)

    def _ended(self, limits: ParseLimits) -> Exception:
        code = self._process.wait()
        if code == 0 and self._answered:
            return _WorkerRetiredError()
        if code == -signal.SIGXCPU:
            return _WorkerLostError("truncated", f"not parsed within {limits.seconds:g} s")
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        memory = f"{limits.memory_bytes >> 20:,} MiB of memory"
        return _WorkerLostError("failed", f"its parser ended with {how}; it had {memory}")


@cache
def _default_pool() -> ParserPool:
    pool = ParserPool()
    atexit.register(pool.close)
    return pool


def parse_in_child(
    source: Path | bytes, name: str = "", *, limits: ParseLimits | None = None
) -> ParsedDocument:
    """The document of a file, parsed by one of this process's own workers: see `ParserPool.parse`."""
    return _default_pool().parse(source, name, limits=limits)
