"""Files into a collection: while some are embedded, others are parsed in child processes or written.

Little is in memory at a time, however many files there are and however long they are. Each is copied before
it is parsed, so that its digest, its text and its kept bytes are of one moment; each becomes visible in one
transaction, so an interruption leaves every document old or new.
"""

import shutil
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cairn.core.progress import Progress, Silent, Task
from cairn.data.parsing import ParsedFile, ParserPool
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.documents import DocumentInfo
from cairn.retrieval.encoders import RecentVectors
from cairn.retrieval.incoming import BATCH_BYTES, CutDocument, NewDocument, PreparedDocument

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingFile:
    """A file on its way into a collection."""

    path: Path
    source: str
    labels: tuple[str, ...] | None = None
    modified_at: float = 0.0
    size: int = 0


@dataclass(slots=True)
class IngestReport:
    """What became of the files."""

    put: list[DocumentInfo] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Files that could not be opened, and why."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A file that was read, with a folder of its own for what was made of it."""

    file: IncomingFile
    folder: Path
    document: NewDocument


def ingest(
    collection: Collection,
    files: Iterable[IncomingFile],
    *,
    parsers: ParserPool,
    progress: Progress | None = None,
    total_bytes: int | None = None,
) -> IngestReport:
    """Put files; `total_bytes` of all of them makes an ETA possible."""
    report = IngestReport()
    with (
        collection.registry.store.stage() as scratch,
        (progress or Silent()).task("indexing", total_bytes) as task,
        ThreadPoolExecutor(1) as writer,
    ):

        def write(arrived: list[_Arrived], documents: list[PreparedDocument], left: list[float]) -> None:
            for each, prepared, size in zip(arrived, documents, left, strict=True):
                report.put.append(collection.write(prepared))
                shutil.rmtree(each.folder)
                task.advance(size)

        writing: Future[None] | None = None
        recent: RecentVectors = {}
        with closing(_ahead(_cut(collection, _read_all(files, parsers, scratch, report)))) as batches:
            for arrived, cut in batches:
                left = [float(each.file.size) for each in arrived]
                prepared = collection.embed(cut, recent, report=partial(_count, task, arrived, left))
                if writing is not None:
                    writing.result()  # no more than two batches are on their way
                writing = writer.submit(write, arrived, prepared, left)
        if writing is not None:
            writing.result()
    if collection.info.config.graph:
        collection.graph.update(progress=progress)
    return report


def _count(task: Task, arrived: list[_Arrived], left: list[float], place: int, size: int) -> None:
    """Advance by what is embedded of a file; what of its bytes is no text counts when it is written."""
    each = arrived[place]
    part = min(left[place], each.file.size * size / max(each.document.parsed.pages[-1].span[1], 1))
    left[place] -= part
    task.note(each.file.source)
    task.advance(part)


@contextmanager
def read(registry: Registry, parsers: ParserPool, path: Path, name: str) -> Iterator[ParsedFile]:
    """A file parsed to disk, as long as the block lasts."""
    with registry.store.stage() as scratch:
        yield parsers.parse_to(scratch / "parsed", path, name)


def _read_all(
    files: Iterable[IncomingFile], parsers: ParserPool, scratch: Path, report: IngestReport
) -> Iterator[_Arrived]:
    """Documents in the order of the files; parsing is at most a few files ahead."""
    with ThreadPoolExecutor(parsers.num_workers) as threads:
        try:
            numbered = enumerate(files)
            ahead: deque[tuple[IncomingFile, Future[_Arrived]]] = deque()
            while True:
                for number, file in islice(numbered, 2 * parsers.num_workers - len(ahead)):
                    ahead.append((file, threads.submit(_read, file, scratch / str(number), parsers)))
                if not ahead:
                    return
                file, future = ahead.popleft()
                try:
                    yield future.result()
                except OSError as error:
                    report.failed[file.source] = error.strerror or str(error)
        finally:
            threads.shutdown(cancel_futures=True)


def _read(file: IncomingFile, folder: Path, parsers: ParserPool) -> _Arrived:
    folder.mkdir()
    copy = folder / "original"
    shutil.copyfile(file.path, copy, follow_symlinks=False)
    document = NewDocument(
        source=file.source,
        original=copy,
        parsed=parsers.parse_to(folder / "parsed", copy, file.path.name),
        labels=file.labels,
        modified_at=file.modified_at,
    )
    return _Arrived(file, folder, document)


def _cut(
    collection: Collection, arrived: Iterable[_Arrived]
) -> Generator[tuple[list[_Arrived], list[CutDocument]], None, None]:
    """Documents that are embedded together."""
    batch, cut, size = list[_Arrived](), list[CutDocument](), 0
    for each in arrived:
        batch.append(each)
        cut.append(collection.cut(each.document))
        size += each.document.parsed.pages[-1].span[1]
        if size >= BATCH_BYTES:
            yield batch, cut
            batch, cut, size = [], [], 0
    if batch:
        yield batch, cut


def _ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same, the next one being made while one is used."""
    with closing(items), ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
