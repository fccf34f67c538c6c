"""Compressed files as plain byte streams, by the end of their names: gz, bz2, xz, zst, lz4.

Streams are bounded in memory. A file that is cut short or damaged raises one of `BROKEN_STREAM` while
being read, never ends silently; `readers` turns that into an error with the file's name.
"""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import PurePath
from typing import IO, Any

from cairn.core.errors import MissingExtraError

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4")
# RuntimeError is how lz4 reports a damaged frame.
BROKEN_STREAM = (EOFError, OSError, lzma.LZMAError, zlib.error, RuntimeError)
_CHUNK_BYTES = 1 << 18


def split_compression(name: str) -> tuple[str, str]:
    """`books.jsonl.gz` as (`books.jsonl`, `.gz`); the second is empty when it is not compressed."""
    suffix = PurePath(name).suffix.lower()
    return (name[: -len(suffix)], suffix) if suffix in SUFFIXES else (name, "")


def decompress(file: IO[bytes], suffix: str) -> IO[bytes]:
    """The unpacked bytes of an open file; an empty suffix gives the file itself."""
    match suffix:
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(fileobj=file), _CHUNK_BYTES)
        case ".bz2":
            return bz2.BZ2File(file)
        case ".xz":
            return lzma.LZMAFile(file)
        case ".zst":
            return io.BufferedReader(_ZstdReader(file), _CHUNK_BYTES)
        case ".lz4":
            return _open_lz4(file)
    return file


def _open_lz4(file: IO[bytes]) -> IO[bytes]:
    try:
        import lz4.frame  # noqa: PLC0415 (optional package)
    except ImportError:
        raise MissingExtraError("reading .lz4 files", "train") from None
    opened: IO[bytes] = lz4.frame.LZ4FrameFile(file)
    return opened


class _ZstdReader(io.RawIOBase):
    """Zstandard frames one after the other; unlike the package's own reader it notices a cut-off file."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import zstandard  # noqa: PLC0415 (optional package)
        except ImportError:
            raise MissingExtraError("reading .zst files", "train") from None
        self._new_frame: Any = zstandard.ZstdDecompressor().decompressobj
        self._error: type[Exception] = zstandard.ZstdError
        self._file = file
        self._frame: Any = None
        self._packed = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._packed:
                self._packed = self._file.read(_CHUNK_BYTES)
                if not self._packed:
                    if self._frame is not None:
                        raise EOFError("the file ends inside a frame")
                    return 0
            self._unpack()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self) -> None:
        if self._frame is None:
            self._frame = self._new_frame()
        try:
            self._ready = self._frame.decompress(self._packed)
        except self._error as error:
            raise EOFError(str(error)) from None
        self._packed = b""
        if self._frame.eof:
            self._packed = self._frame.unused_data
            self._frame = None
