"""Shards: tokenised documents in flat files that are memory-mapped and never loaded whole.

A folder holds `index.json` and, per shard, `tokens` (uint16 or uint32, little-endian), `mask` (one byte a
token, only where a loss mask was given); and for all shards together `documents` (uint64, the token
offset of every document and the end) and `bytes` (uint32, the bytes of text of every document).
The index names the size and SHA-256 of every file. A folder appears whole or not at all.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cairn.core.digests import digest_file
from cairn.core.errors import ConflictError, IntegrityError, InvalidRequestError, NotFoundError, StorageError

INDEX_FILE = "index.json"
FORMAT = "cairn.shards/1"
SHARD_TOKENS = 1 << 27
_BUFFER_TOKENS = 1 << 20

TokenIds = Sequence[int] | NDArray[Any]
Example = tuple[TokenIds, "Sequence[bool] | NDArray[np.bool_] | None", int]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of a packed folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """What `index.json` says."""

    format: str
    dtype: str
    num_tokens: int
    num_documents: int
    num_bytes: int
    num_trained_tokens: int
    has_mask: bool
    shard_tokens: list[int]
    files: list[ShardFile]


def write_shards(
    examples: Iterable[Example],
    folder: Path,
    *,
    vocab_size: int | None = None,
    shard_tokens: int = SHARD_TOKENS,
) -> ShardIndex:
    """Write `(input_ids, loss_mask or None, num_bytes)` documents to `folder`, which must not exist yet.

    Ids take two bytes when `vocab_size` is at most 65,536 and four otherwise. Empty documents are left out.
    Raises `StorageError` (nothing remains) when the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"{folder} exists already", remedy="remove it, or write elsewhere")
    dtype = np.dtype("<u2" if vocab_size is not None and vocab_size <= 1 << 16 else "<u4")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            writer = _Writer(temporary, dtype, vocab_size or 1 << 32, shard_tokens)
            try:
                index = writer.write(examples)
            finally:
                writer.discard_open()
            os.chmod(temporary, 0o755)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the shards {folder}: {error.strerror or error}; nothing was kept",
            remedy="free some space or choose another folder, then run it again",
        ) from error
    return index


def read_index(folder: Path) -> ShardIndex:
    """The index of a packed folder, with every file's size checked against it."""
    path = folder / INDEX_FILE
    try:
        values = json.loads(path.read_bytes())
        files = [ShardFile(**file) for file in values.pop("files")]
        index = ShardIndex(files=files, **values)
    except FileNotFoundError:
        raise NotFoundError(f"no packed data in {folder}: {INDEX_FILE} is missing") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", remedy="pack the data again") from None
    if index.format != FORMAT:
        raise IntegrityError(f"{path} has format {index.format!r}, allowed: {FORMAT!r}")
    for file in index.files:
        size = (folder / file.path).stat().st_size if (folder / file.path).exists() else -1
        if size != file.size:
            got = "is missing" if size < 0 else f"has {size} bytes, should have {file.size}"
            raise IntegrityError(f"shard {folder / file.path} {got}", remedy="pack the data again")
    return index


def verify_shards(folder: Path, index: ShardIndex) -> None:
    """Raise unless every file has the digest that the index names."""
    for file in index.files:
        if digest_file(folder / file.path) != file.sha256:
            raise IntegrityError(
                f"shard {folder / file.path} is corrupt: its bytes are not what its digest says",
                remedy="pack the data again",
            )


class _HashedFile:
    """A file that knows its size and digest when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("xb")
        self._hasher = hashlib.sha256()

    def write(self, values: NDArray[Any]) -> None:
        data = np.ascontiguousarray(values).data.cast("B")
        self._hasher.update(data)
        self._file.write(data)

    def close(self) -> ShardFile:
        """Flush to disk."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
        return ShardFile(self._path.name, size, f"sha256:{self._hasher.hexdigest()}")

    def discard(self) -> None:
        """Let go of a file that will be removed."""
        with suppress(OSError):  # what could not be flushed is not wanted any more
            self._file.close()


class _Writer:
    """Streams documents into shard files through a bounded buffer."""

    def __init__(self, folder: Path, dtype: "np.dtype[Any]", vocab_size: int, shard_tokens: int) -> None:
        self._folder = folder
        self._dtype = dtype
        self._vocab_size = vocab_size
        self._shard_limit = shard_tokens
        self._shard_tokens: list[int] = []
        self._open: list[_HashedFile] = []
        self._files: list[ShardFile] = []
        self._num_trained = 0
        self._has_mask: bool | None = None

    def write(self, examples: Iterable[Example]) -> ShardIndex:
        lengths = [np.zeros(1, "<u8")]
        sizes = [np.zeros(0, "<u4")]
        for batch in _batches(examples, _BUFFER_TOKENS):
            lengths.append(np.array([len(ids) for ids, _, _ in batch], dtype="<u8"))
            sizes.append(np.array([num_bytes for _, _, num_bytes in batch], dtype="<u4"))
            self._append(batch)
        self._close_shard()
        documents = np.concatenate(lengths).cumsum(dtype="<u8")
        self._write_file("documents", documents)
        self._write_file("bytes", np.concatenate(sizes))
        index = ShardIndex(
            format=FORMAT,
            dtype=self._dtype.str,
            num_tokens=int(documents[-1]),
            num_documents=len(documents) - 1,
            num_bytes=sum(int(part.sum(dtype=np.uint64)) for part in sizes),
            num_trained_tokens=self._num_trained,
            has_mask=bool(self._has_mask),
            shard_tokens=self._shard_tokens,
            files=self._files,
        )
        with (self._folder / INDEX_FILE).open("x") as file:
            json.dump(asdict(index), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return index

    def _append(self, batch: list[Example]) -> None:
        """Add a batch of documents to the open shard; a new one begins when it is full."""
        tokens = np.concatenate([np.asarray(ids) for ids, _, _ in batch])
        if tokens.min() < 0 or tokens.max() >= self._vocab_size:
            raise InvalidRequestError(
                f"token ids run from {tokens.min()} to {tokens.max()}, "
                f"allowed: 0 to {self._vocab_size - 1} (the vocabulary)"
            )
        mask = self._mask_of(batch)
        if not self._open:
            name = f"{len(self._shard_tokens):05d}"
            self._open = [_HashedFile(self._folder / f"{name}.tokens")]
            if mask is not None:
                self._open.append(_HashedFile(self._folder / f"{name}.mask"))
            self._shard_tokens.append(0)
        self._open[0].write(tokens.astype(self._dtype))
        if mask is not None:
            self._open[1].write(mask)
        self._num_trained += len(tokens) if mask is None else int(mask.sum())
        self._shard_tokens[-1] += len(tokens)
        if self._shard_tokens[-1] >= self._shard_limit:
            self._close_shard()

    def _mask_of(self, batch: list[Example]) -> NDArray[np.uint8] | None:
        """The loss masks of a batch, or None when the data has none; the first document decides."""
        if self._has_mask is None:
            self._has_mask = batch[0][1] is not None
        if not self._has_mask:
            if any(mask is not None for _, mask, _ in batch):
                raise InvalidRequestError(
                    "the first document has no loss mask, a later one has; give all or none"
                )
            return None
        parts = [np.ones(len(ids), np.uint8) if mask is None else np.asarray(mask) for ids, mask, _ in batch]
        if any(len(part) != len(ids) for part, (ids, _, _) in zip(parts, batch, strict=True)):
            raise InvalidRequestError("a loss mask is not as long as its document")
        return np.concatenate(parts).astype(np.uint8)

    def _close_shard(self) -> None:
        self._files += [file.close() for file in self._open]
        self._open = []

    def discard_open(self) -> None:
        """Let go of what a failure left open."""
        for file in self._open:
            file.discard()

    def _write_file(self, name: str, values: NDArray[Any]) -> None:
        self._open = [_HashedFile(self._folder / name)]
        self._open[0].write(values)
        self._close_shard()


def _batches(examples: Iterable[Example], num_tokens: int) -> Iterator[list[Example]]:
    """Documents that are not empty, in groups of at least `num_tokens` tokens."""
    batch: list[Example] = []
    held = 0
    for example in examples:
        if len(example[0]) == 0:
            continue
        batch.append(example)
        held += len(example[0])
        if held >= num_tokens:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
