"""A folder kept in a collection: what is new goes in, what changed is replaced, what is gone is removed.

A file is looked into only when its size or time changed, embedded only when its bytes did, and a file that
was only moved is renamed. What closes goes first, before anything new is read; what opens waits until the
text that it opens is there, so that no old text is seen under new labels. Hidden files and symbolic links are
passed over. Uploads of the same collection are never touched.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cairn.core import ConflictError, NotFoundError
from cairn.core.digests import digest_file
from cairn.core.progress import Progress
from cairn.data.parsing import ParserPool
from cairn.retrieval.collection import Collection
from cairn.retrieval.documents import DocumentInfo
from cairn.retrieval.folder_access import FolderAccess, is_access_file
from cairn.retrieval.ingest import IncomingFile, ingest


@dataclass(slots=True)
class SyncReport:
    """What a folder's documents went through; sources."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    num_unchanged: int = 0
    num_skipped_pages: int = 0
    """Of what was added or replaced: pages that could not be trusted."""
    failed: dict[str, str] = field(default_factory=dict)
    """Files that could not be opened, and why."""
    access_problems: dict[str, str] = field(default_factory=dict)
    """Access files that say nothing valid; what they stand for is closed to everybody."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.added or self.replaced or self.moved or self.removed or self.relabelled)


def sync(
    collection: Collection,
    folder: Path,
    *,
    parsers: ParserPool,
    prefix: str | None = None,
    progress: Progress | None = None,
    may_be_empty: bool = False,
) -> SyncReport:
    """Bring a collection up to a folder; sources are `prefix/path`, the prefix being the folder's name.

    A folder without a single file, whose documents are here, is refused unless `may_be_empty`: where a file
    system is not mounted it looks the same.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise NotFoundError(f"no such folder: {folder}", remedy="check the path, or mount it")
    prefix = folder.name if prefix is None else prefix
    report = SyncReport()
    access = FolderAccess(folder, collection.info.labels)
    files = {file.source: file for file in _files(folder, prefix, access, report)}
    known = {
        info.source: info
        for info in collection.documents(None)
        if info.modified_at and PurePosixPath(info.source).is_relative_to(prefix)
    }
    if known and not files and not report.failed and not may_be_empty:
        raise ConflictError(
            f"{folder} is empty, and {len(known)} documents would go",
            remedy="mount it, or say that it is so: cairn index sync --empty",
        )
    report.access_problems = access.problems
    _close(collection, files, known, report)
    incoming = _changed(collection, files, known, report)
    gone = [known[source] for source in known.keys() - files.keys() if source not in report.failed]
    collection.delete([info.document_id for info in gone])
    report.removed += sorted(info.source for info in gone)
    done = ingest(
        collection,
        incoming,
        parsers=parsers,
        progress=progress,
        total_bytes=sum(file.size for file in incoming),
    )
    report.failed |= done.failed
    report.num_skipped_pages = sum(len(info.skipped_pages) for info in done.put)
    for info in done.put:
        (report.replaced if info.source in known else report.added).append(info.source)
    return report


def _files(folder: Path, prefix: str, access: FolderAccess, report: SyncReport) -> Iterator[IncomingFile]:
    def refuse(error: OSError) -> None:
        # Gone is not the same as not to be seen: nothing below it may be removed.
        raise NotFoundError(f"cannot read {error.filename}: {error.strerror}", remedy="check its permissions")

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            source = (PurePosixPath(prefix) / path.relative_to(folder).as_posix()).as_posix()
            try:
                source.encode()
                found = path.lstat()
            except (OSError, UnicodeEncodeError) as error:
                report.failed[source.encode(errors="replace").decode()] = str(error)
                continue
            if name.startswith(".") or is_access_file(name) or not stat.S_ISREG(found.st_mode):
                continue
            yield IncomingFile(
                path=path,
                source=source,
                labels=access.labels(path),
                modified_at=found.st_mtime,
                size=found.st_size,
            )


def _close(
    collection: Collection, files: dict[str, IncomingFile], known: dict[str, DocumentInfo], report: SyncReport
) -> None:
    """Take away the labels that no longer hold."""
    for source in sorted(files.keys() & known.keys()):
        labels = files[source].labels
        assert labels is not None
        if set(known[source].labels) != set(labels):
            kept = tuple(label for label in known[source].labels if label in labels)
            collection.relabel([known[source].document_id], kept)
            report.relabelled.append(source)


def _changed(
    collection: Collection, files: dict[str, IncomingFile], known: dict[str, DocumentInfo], report: SyncReport
) -> list[IncomingFile]:
    """Files that must be read; what was only touched or moved is settled here."""
    vanished = {info.digest: info for source, info in known.items() if source not in files}
    incoming = []
    for source, file in files.items():
        before = known.get(source)
        assert file.labels is not None
        if before is not None and (before.size, before.modified_at) == (file.size, file.modified_at):
            if before.labels != file.labels:
                collection.relabel([before.document_id], file.labels)
            report.num_unchanged += 1
            continue
        try:
            digest = digest_file(file.path)
        except OSError as error:
            report.failed[source] = error.strerror or str(error)
            continue
        if before is not None and before.digest == digest:
            collection.relabel([before.document_id], file.labels)
            collection.touch(before.document_id, file.modified_at)
            report.num_unchanged += 1
        elif before is None and (moved := _moved(vanished, digest, file)) is not None:
            collection.relabel([moved.document_id], file.labels)
            collection.touch(collection.rename(moved.document_id, source), file.modified_at)
            del known[moved.source], vanished[digest]
            report.moved.append(source)
        else:
            incoming.append(file)
    return incoming


def _moved(vanished: dict[str, DocumentInfo], digest: str, file: IncomingFile) -> DocumentInfo | None:
    """The document of these bytes that is gone from where it was; by another ending it might be read anew."""
    info = vanished.get(digest)
    return info if info is not None and PurePosixPath(info.source).suffix == file.path.suffix else None
