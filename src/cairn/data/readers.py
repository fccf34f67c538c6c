"""Readers: documents out of files and folders, streaming, with bounded memory.

txt and md (a file is a document, or is split at a separator), jsonl, csv, tsv and parquet (a row is
a document), each also compressed (gz, bz2, xz, zst, lz4) or inside tar and zip archives. Invalid
UTF-8 is replaced or its document dropped, and counted; it never ends a run. A damaged file does, with
an error that names it and says how much was read.
"""

import csv
import io
import json
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, Literal

from pydantic import Field

from cairn.core.config import Config
from cairn.core.errors import ConfigError, IntegrityError, MissingExtraError, NotFoundError, StorageError
from cairn.data.compressed import BROKEN_STREAM, decompress, split_compression
from cairn.data.documents import Document, Source

MARKDOWN_SUFFIXES = (".md", ".markdown")
TEXT_SUFFIXES = (".txt", *MARKDOWN_SUFFIXES)
ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
ARCHIVE_SUFFIXES = (".tar", ".tgz", ".zip")
READABLE = (*TEXT_SUFFIXES, *ROW_SUFFIXES, *ARCHIVE_SUFFIXES)
_BLOCK_BYTES = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPOOL_BYTES = 1 << 24


class ReadConfig(Config):
    """How files become documents."""

    text_field: str = Field(default="text", description="column or key that holds the text of a row")
    separator: str = Field(
        default="", description="text between documents in a txt or md file; empty: a file is one document"
    )
    invalid_utf8: Literal["replace", "drop"] = Field(
        default="replace", description="put U+FFFD for bytes that are no UTF-8, or drop the document"
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error", description="what to do with a row that cannot be parsed or lacks the text"
    )
    max_document_bytes: int = Field(
        default=1 << 26,
        ge=1024,
        description="longer texts are split at a blank line; longer rows of jsonl are bad rows",
    )


@dataclass(slots=True)
class ReadReport:
    """Counts of one run of `read_documents`; filled while its documents are consumed."""

    num_files: int = 0
    num_documents: int = 0
    num_bytes: int = 0
    num_invalid_utf8: int = 0
    num_dropped: int = 0
    num_bad_rows: int = 0
    num_ignored_files: int = 0


def read_documents(
    paths: Path | Iterable[Path], config: ReadConfig | None = None, report: ReadReport | None = None
) -> Iterator[Document]:
    """Documents of files and folders (in sorted order); files of other kinds in a folder are ignored."""
    reader = _Reader(config or ReadConfig(), report or ReadReport())
    for path in [paths] if isinstance(paths, Path) else paths:
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.is_file() and kind_of(inner.name):
                    yield from reader.read_file(inner)
                elif inner.is_file():
                    reader.report.num_ignored_files += 1
        elif not path.exists():
            raise NotFoundError(f"no such file or folder: {path}", remedy="check the path")
        else:
            yield from reader.read_file(path)


def kind_of(name: str) -> str:
    """The format of a file by its name, compression aside; empty when it is none we read."""
    suffix = PurePath(split_compression(name)[0]).suffix.lower()
    return suffix if suffix in READABLE else ""


class _Reader:
    def __init__(self, config: ReadConfig, report: ReadReport) -> None:
        self.config = config
        self.report = report

    def read_file(self, path: Path) -> Iterator[Document]:
        before = self.report.num_documents
        try:
            with path.open("rb") as file:
                yield from self.read_stream(file, str(path))
        except (*BROKEN_STREAM, tarfile.TarError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno:
                raise StorageError(f"cannot read {path}: {error.strerror}", remedy="check the file") from None
            raise IntegrityError(
                f"{path} is damaged or cut short: {error}; "
                f"{self.report.num_documents - before} documents were read before that",
                remedy="fetch the file again, or leave it out",
            ) from None

    def read_stream(self, file: IO[bytes], name: str) -> Iterator[Document]:
        """Documents of an open file; `name` says the format and becomes the source."""
        inner, compression = split_compression(name)
        suffix = PurePath(inner).suffix.lower()
        stream = decompress(file, compression)
        if suffix in ARCHIVE_SUFFIXES:
            yield from self._members(stream, suffix, name)
            return
        self.report.num_files += 1
        if suffix in TEXT_SUFFIXES:
            documents = self._texts(stream, name)
        elif suffix in (".jsonl", ".ndjson"):
            documents = self._rows(_json_rows(stream, self), name)
        elif suffix in (".csv", ".tsv"):
            documents = self._rows(_csv_rows(stream, "\t" if suffix == ".tsv" else ","), name)
        elif suffix == ".parquet":
            documents = self._rows(_parquet_rows(stream, name), name)
        else:
            raise ConfigError(
                f"{name} is of no kind that is read here, allowed: {', '.join(READABLE)}",
                remedy="convert it, or leave it out",
            )
        for document in documents:
            self.report.num_documents += 1
            self.report.num_bytes += len(document.text.encode())
            yield document

    def _members(self, stream: IO[bytes], suffix: str, name: str) -> Iterator[Document]:
        """Documents of the readable files in an archive."""
        if suffix == ".zip":
            with _seekable(stream) as file, zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    if kind_of(info.filename):
                        with archive.open(info) as member:
                            yield from self.read_stream(member, f"{name}/{info.filename}")
            return
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            for entry in tar:
                inner = tar.extractfile(entry) if entry.isfile() and kind_of(entry.name) else None
                if inner is not None:
                    member = io.BufferedReader(_OneWay(inner))
                    yield from self.read_stream(member, f"{name}/{entry.name}")

    def _texts(self, stream: IO[bytes], name: str) -> Iterator[Document]:
        position = 0
        for piece, length in _pieces(stream, self.config.separator.encode(), self.config.max_document_bytes):
            text = self.decode(piece)
            if text:
                yield Document(text, Source(name, span=(position, position + len(piece))))
            position += length

    def _rows(self, rows: Iterator[tuple[int, Any]], name: str) -> Iterator[Document]:
        field = self.config.text_field
        for number, row in rows:
            text = row.get(field) if isinstance(row, Mapping) else None
            if not isinstance(text, str):
                known = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
                self.bad_row(f"{name} row {number} has no text in {field!r}; it has: {known}")
                continue
            cleaned = self.without_surrogates(text)
            if cleaned:
                metadata = {key: value for key, value in row.items() if key != field}
                yield Document(cleaned, Source(name, row=number), metadata)

    def decode(self, data: bytes) -> str:
        """Text of bytes by the policy for invalid UTF-8; empty when dropped."""
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return self._invalid(data.decode("utf-8-sig", "replace"))

    def without_surrogates(self, text: str) -> str:
        """Text without lone surrogates (escapes in JSON, undecodable bytes in CSV), by the same policy."""
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            return self._invalid(_SURROGATE.sub("\ufffd", text))
        return text

    def _invalid(self, replaced: str) -> str:
        self.report.num_invalid_utf8 += 1
        if self.config.invalid_utf8 == "replace":
            return replaced
        self.report.num_dropped += 1
        return ""

    def bad_row(self, message: str) -> None:
        """Count a row that cannot be used, or stop at it."""
        self.report.num_bad_rows += 1
        if self.config.bad_rows == "error":
            raise ConfigError(message, remedy="mend the row, set text_field, or set bad_rows = 'skip'")


def _pieces(stream: IO[bytes], separator: bytes, limit: int) -> Iterator[tuple[bytes, int]]:
    """Documents of a text stream and the bytes each takes up with what follows it."""
    buffer = b""
    is_end = False
    while not is_end:
        block = stream.read(_BLOCK_BYTES)
        is_end = not block
        buffer += block
        if separator:
            *whole, buffer = buffer.split(separator)
            for piece in whole:
                yield from _cut(piece, limit, len(separator))
        while len(buffer) > limit:
            piece, buffer = _head(buffer, limit)
            yield piece, len(piece)
    if buffer:
        yield buffer, len(buffer)


def _cut(piece: bytes, limit: int, tail: int) -> Iterator[tuple[bytes, int]]:
    while len(piece) > limit:
        head, piece = _head(piece, limit)
        yield head, len(head)
    yield piece, len(piece) + tail


def _head(buffer: bytes, limit: int) -> tuple[bytes, bytes]:
    """The first `limit` bytes or less: up to the last blank line, else line, else whole character."""
    for end in (b"\n\n", b"\n"):
        place = buffer.rfind(end, 0, limit)
        if place > 0:
            return buffer[: place + len(end)], buffer[place + len(end) :]
    place = limit
    while place > limit - 4 and buffer[place] & 0xC0 == 0x80:
        place -= 1
    return buffer[:place], buffer[place:]


def _json_rows(stream: IO[bytes], reader: _Reader) -> Iterator[tuple[int, Any]]:
    limit = reader.config.max_document_bytes
    for number, line in enumerate(iter(lambda: stream.readline(limit), b""), start=1):
        text = reader.decode(line).strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            reader.bad_row(f"row {number} is no JSON: {error}")
            continue
        yield number, row


def _csv_rows(stream: IO[bytes], delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(1 << 28)
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from enumerate(csv.DictReader(lines, delimiter=delimiter), start=1)
    finally:
        lines.detach()


def _parquet_rows(stream: IO[bytes], name: str) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow  # noqa: PLC0415 (optional package)
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("reading Parquet files", "train") from None
    number = 0
    with _seekable(stream) as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except pyarrow.ArrowException as error:
            raise EOFError(f"{error} (after row {number})") from None


class _OneWay(io.RawIOBase):
    """A member of a tar stream, which cannot tell by itself that it cannot seek."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _seekable(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream one can seek in; one out of a decompressor or archive is copied to disk first."""
    if isinstance(stream, io.BufferedReader) and stream.seekable():
        yield stream
        return
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spooled:
        shutil.copyfileobj(stream, spooled)
        spooled.seek(0)
        yield spooled
