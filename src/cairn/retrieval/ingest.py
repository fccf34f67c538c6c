"""Files into a collection: while some are embedded, others are parsed in child processes or written.

Few files are in memory at a time, however many there are. Each is copied before it is parsed, so that its
digest, its text and its kept bytes are of one moment; each becomes visible in one transaction, so an
interruption leaves every document old or new.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cairn.core.progress import Progress, Silent
from cairn.data.parsing import ParsedDocument, ParserPool
from cairn.retrieval.collection import Collection
from cairn.retrieval.documents import DocumentInfo
from cairn.retrieval.incoming import NewDocument, PreparedDocument

Parse = Callable[[Path, str], ParsedDocument]
_BATCH_BYTES = 1 << 18
"""Text that is embedded together."""


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

        def write(files: list[IncomingFile], documents: list[PreparedDocument]) -> None:
            for file, prepared in zip(files, documents, strict=True):
                report.put.append(collection.write(prepared))
                assert isinstance(prepared.document.original, Path)
                prepared.document.original.unlink()
                task.note(file.source)
                task.advance(file.size)

        writing: Future[None] | None = None
        for batch in _batches(_parsed(files, parsers, scratch, report)):
            prepared = collection.prepare([document for _, document in batch])
            if writing is not None:
                writing.result()  # no more than two batches are in memory
            writing = writer.submit(write, [file for file, _ in batch], prepared)
        if writing is not None:
            writing.result()
    if collection.info.config.graph:
        collection.graph.update(progress=progress)
    return report


_Parsed = tuple[IncomingFile, NewDocument]


def _parsed(
    files: Iterable[IncomingFile], parsers: ParserPool, scratch: Path, report: IngestReport
) -> Iterator[_Parsed]:
    """Documents in the order of the files; parsing is at most a few files ahead."""
    with ThreadPoolExecutor(parsers.num_workers) as threads:
        try:
            numbered = enumerate(files)
            ahead: deque[tuple[IncomingFile, Future[NewDocument]]] = deque()
            while True:
                for number, file in islice(numbered, 2 * parsers.num_workers - len(ahead)):
                    ahead.append((file, threads.submit(_read, file, scratch / str(number), parsers)))
                if not ahead:
                    return
                file, future = ahead.popleft()
                try:
                    yield file, future.result()
                except OSError as error:
                    report.failed[file.source] = error.strerror or str(error)
        finally:
            threads.shutdown(cancel_futures=True)


def _read(file: IncomingFile, copy: Path, parsers: ParserPool) -> NewDocument:
    shutil.copyfile(file.path, copy, follow_symlinks=False)
    return NewDocument(
        source=file.source,
        original=copy,
        parsed=parsers.parse(copy, file.path.name),
        labels=file.labels,
        modified_at=file.modified_at,
    )


def _batches(documents: Iterator[_Parsed]) -> Iterator[list[_Parsed]]:
    batch: list[_Parsed] = []
    size = 0
    for file, document in documents:
        batch.append((file, document))
        size += document.parsed.pages[-1].span[1]
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
