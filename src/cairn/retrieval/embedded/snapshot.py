"""The file of an embedded index: arrays under a header, written whole or not at all.

    CAIRNIX1 | header's length, 8 bytes | its checksum, 4 bytes | header, JSON | sections at multiples of 4096

The header has the checksum (CRC-32) of every section. A file that is short, damaged, of another layout or of
another index reads as None, and whoever asked makes the index again from the collection.
"""

import json
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core.file_writing import replace_file

Array = NDArray[Any]
_MAGIC = b"CAIRNIX1"
_START = struct.Struct("<8sQI")
_ALIGNMENT = 4096
_MOST_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Section:
    """An array to be written, piece by piece where it is large."""

    dtype: str
    shape: tuple[int, ...]
    pieces: Iterable[Array]


def section(array: Array) -> Section:
    """An array that is in memory as it is."""
    return Section(array.dtype.str, array.shape, [array])


def write(path: Path, facts: Mapping[str, Any], sections: Mapping[str, Section]) -> None:
    """Replace the file; on failure the old one stays. Sections are gone through twice."""
    listed, offset = [], 0
    for name, each in sections.items():
        size, checksum = _measure(each)
        listed.append([name, each.dtype, list(each.shape), offset, size, checksum])
        offset += _aligned(size)
    header = json.dumps({**facts, "sections": listed}).encode()
    start = _START.pack(_MAGIC, len(header), zlib.crc32(header)) + header
    replace_file(path, _pieces(start, sections.values()))


def _pieces(start: bytes, sections: Iterable[Section]) -> Iterator[bytes | memoryview]:
    yield start
    yield _padding(len(start))
    for each in sections:
        size = 0
        for piece in each.pieces:
            data = _bytes(piece)
            size += len(data)
            yield data
        yield _padding(size)


def _measure(each: Section) -> tuple[int, int]:
    size, checksum = 0, 0
    for piece in each.pieces:
        data = _bytes(piece)
        size, checksum = size + len(data), zlib.crc32(data, checksum)
    return size, checksum


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padding(size: int) -> bytes:
    return bytes(_aligned(size) - size)


def read_facts(path: Path) -> dict[str, Any] | None:
    """The header alone."""
    try:
        with path.open("rb") as file:
            return _header(file.read(_START.size + _MOST_HEADER))[0]
    except (OSError, ValueError):
        return None


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Header and arrays, mapped and read-only; None where there is no whole file."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        facts, begin = _header(mapped[: _START.size + _MOST_HEADER])
        return facts, {each[0]: _array(mapped, begin, *each[1:]) for each in facts["sections"]}
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header and where the sections begin."""
    if len(data) < _START.size:
        raise ValueError("too short")
    magic, length, checksum = _START.unpack_from(data)
    header = data[_START.size : _START.size + length]
    if magic != _MAGIC or len(header) != length or zlib.crc32(header) != checksum:
        raise ValueError("not a snapshot")
    facts = json.loads(header)
    return facts, _aligned(_START.size + length)


def _array(
    mapped: mmap.mmap, begin: int, dtype: str, shape: list[int], offset: int, size: int, checksum: int
) -> Array:
    data = memoryview(mapped)[begin + offset : begin + offset + size]
    if len(data) != size or zlib.crc32(data) != checksum:
        raise ValueError("damaged")
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape)
