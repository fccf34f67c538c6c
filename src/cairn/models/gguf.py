"""GGUF files through numpy and a memory map: no torch, and nothing touched before all was checked.

    magic "GGUF" | version u32 | number of tensors u64 | number of key-values u64
    key-values     string key, u32 type, value
    tensor infos   string name, u32 dimensions, u64 each (fastest first), u32 block type, u64 offset
    padding to `general.alignment`, then the data; offsets count from here

A string is a u64 length and its UTF-8 bytes; an array is a u32 type, a u64 length and its values.
Little-endian, versions 2 and 3. A count, length, offset or size that the file cannot hold, tensors that
overlap, and names that come twice are an `IntegrityError` that says what was got and what is allowed; a
block type that Cairn does not know and big-endian files are an `UnsupportedModelError`. A model split in
several files is read through any of them; the first has the key-values, and every part says which it is
(`split.no` from 0), of how many (`split.count`) with how many tensors together (`split.tensors.count`).
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core import CairnError, IntegrityError, NotFoundError, StorageError, UnsupportedModelError
from cairn.models.gguf_blocks import BLOCK_TYPES, BlockType
from cairn.models.gguf_split import part_names, split_name

MAGIC = b"GGUF"
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
_COUNT = "split.count"
STRING, ARRAY = 8, 9
SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8"}
SCALARS[12] = "<f8"
_VERSIONS = (2, 3)
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES, _LEAST_STRING_BYTES = 13, 32, 8
_MOST_DIMENSIONS, _MOST_NESTING, _MOST_ALIGNMENT = 4, 4, 1 << 16
_LARGEST = 1 << 48
_KNOWN_BY_NAME = {10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"}
_KNOWN_BY_NAME |= {
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
}
_KNOWN_BY_NAME |= {28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}
"""ggml's formats that are not read, so that an error can name them."""
_FETCH = "fetch the file again; it was not copied whole, or whoever wrote it made a mistake"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor in a mapped file."""

    shape: tuple[int, ...]
    """Slowest dimension first, as numpy has it: the reverse of the file's."""
    type: BlockType
    data: Bytes
    """Its blocks in the map."""

    def read(self) -> NDArray[np.float32]:
        """The weights in float32 [shape]."""
        return self.type.dequantise(self.data).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A file whose every statement about itself holds; the map lives as long as the tensors do."""

    path: Path
    version: int
    metadata: dict[str, Any]
    """Numbers, flags, texts; arrays of numbers as numpy arrays, others as lists."""
    tensors: dict[str, GgufTensor]
    size: int = 0
    """Bytes of the file, or of all its parts."""


def open_gguf(path: Path) -> GgufFile:
    """Map a GGUF file, or all parts of a split one, and check all that the headers say."""
    file = _open_one(path)
    count = file.metadata.get(_COUNT, 1)
    if type(count) is int and count in (0, 1):
        return file
    _check_part(file, path, count)
    parts = [_part(path.with_name(name), count) for name in part_names(path.name)]
    names = Counter(name for part in parts for name in part.tensors)
    if twice := [name for name, times in names.items() if times > 1]:
        raise damaged(path, f"{twice[0]} is in more than one part")
    total = parts[0].metadata.get("split.tensors.count")
    if type(total) is not int or total != len(names):
        raise damaged(path, f"its parts hold {len(names)} tensors, split.tensors.count is {total!r}")
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    first = parts[0]
    return GgufFile(first.path, first.version, first.metadata, tensors, sum(part.size for part in parts))


def _part(path: Path, count: int) -> GgufFile:
    if not path.is_file():
        raise NotFoundError(
            f"{path.name} is not in {path.parent}, one of {count} parts of the model",
            remedy="fetch it, and put all parts into one folder",
        )
    file = _open_one(path)
    _check_part(file, path, count)
    return file


def _check_part(file: GgufFile, path: Path, count: Any) -> None:
    """A part says of itself what its name says."""
    number, own = file.metadata.get("split.no"), file.metadata.get(_COUNT)
    number = number + 1 if type(number) is int else number
    if type(own) is int and own == count and (split_name(path.name) or ())[1:] == (number, own):
        return
    raise IntegrityError(
        f"{path} says it is part {number!r} of {own!r}, its name says otherwise; "
        "allowed: NAME-00001-of-00003.gguf for 1 of 3",
        remedy="give all parts the names they were made with, or fetch them again",
    )


def _open_one(path: Path) -> GgufFile:
    try:
        if path.stat().st_size < 24:
            raise damaged(path, f"it has {path.stat().st_size} bytes, a header alone takes 24")
        content = np.memmap(path, np.uint8, mode="r")
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}", remedy="check the path") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}", remedy="check the disk and permissions") from None
    return _Reader(path, content).file()


def is_gguf(path: Path) -> bool:
    """Whether a path is a file that begins, or is named, like GGUF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == MAGIC or path.suffix.lower() == ".gguf"


def damaged(path: Path, how: str) -> IntegrityError:
    """The error for a file that lies or was cut."""
    return IntegrityError(f"{path} is no whole GGUF file: {how}", remedy=_FETCH)


@dataclass(frozen=True, slots=True)
class _Info:
    """What a file says of one tensor; `start` counts from the beginning of the data."""

    name: str
    shape: tuple[int, ...]
    type: BlockType
    start: int
    size: int


class _Reader:
    """A position in the file's bytes, and the checks that keep it inside."""

    def __init__(self, path: Path, content: Bytes) -> None:
        self._path, self._at, self._size = path, 0, len(content)
        self._content = content.view(np.ndarray)
        self._raw = self._content.data  # cuts small pieces faster than numpy

    def file(self) -> GgufFile:
        if (magic := self._take(4, "the magic")) != MAGIC:
            raise damaged(self._path, f"it begins with {magic!r}, not {MAGIC!r}")
        version = self._u32("the version")
        if version not in _VERSIONS:
            raise self._wrong_version(version)
        num_tensors, num_keys = self._u64("the number of tensors"), self._u64("the number of keys")
        self._check_count(num_keys, _LEAST_KEY_BYTES, "keys")
        self._check_count(num_tensors, _LEAST_TENSOR_BYTES, "tensors")
        metadata = self._unique(
            ((self._text("a key"), self._typed("a value")) for _ in range(num_keys)), "key"
        )
        alignment = self._alignment(metadata)
        infos = self._unique(((i.name, i) for i in self._infos(num_tensors, alignment)), "tensor")
        start = -(-self._at // alignment) * alignment
        self._check_places(list(infos.values()), self._size - start)
        tensors = {
            name: GgufTensor(i.shape, i.type, self._content[start + i.start : start + i.start + i.size])
            for name, i in infos.items()
        }
        return GgufFile(self._path, version, metadata, tensors, self._size)

    def _infos(self, count: int, alignment: int) -> Iterator[_Info]:
        for _ in range(count):
            name = self._text("a tensor's name")
            num = self._u32(f"the dimensions of {name}")
            if not 1 <= num <= _MOST_DIMENSIONS:
                raise damaged(self._path, f"{name} has {num} dimensions, allowed: 1 to {_MOST_DIMENSIONS}")
            sizes = [self._u64(f"the shape of {name}") for _ in range(num)]
            number, start = self._u32(f"the type of {name}"), self._u64(f"the offset of {name}")
            if min(sizes) < 1 or math.prod(sizes) > _LARGEST:
                raise damaged(self._path, f"{name} has shape {sizes[::-1]}, allowed: 1 to {_LARGEST} weights")
            if number not in BLOCK_TYPES:
                allowed = ", ".join(each.name for each in BLOCK_TYPES.values())
                raise self._unsupported(
                    f"holds {name} in the number format {_KNOWN_BY_NAME.get(number, number)}",
                    f"take or make a file in {allowed}",
                )
            kind = BLOCK_TYPES[number]
            if sizes[0] % kind.size:
                raise damaged(self._path, f"rows of {name} are {sizes[0]} long, no multiple of {kind.size}")
            if start % alignment:
                raise damaged(self._path, f"{name} is at {start}, no multiple of {alignment}")
            yield _Info(name, tuple(sizes[::-1]), kind, start, math.prod(sizes) // kind.size * kind.num_bytes)

    def _check_places(self, infos: list[_Info], num_bytes: int) -> None:
        """Every tensor ends inside the file, and none begins before the one ahead of it ends."""
        for info in infos:
            if info.start + info.size > num_bytes:
                raise damaged(
                    self._path,
                    f"{info.name} takes bytes {info.start} to {info.start + info.size} of the data, "
                    f"which has {max(num_bytes, 0)}",
                )
        for first, second in pairwise(sorted(infos, key=lambda info: info.start)):
            if first.start + first.size > second.start:
                raise damaged(self._path, f"{first.name} and {second.name} overlap at byte {second.start}")

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
        allowed = [1 << bits for bits in range(_MOST_ALIGNMENT.bit_length())]
        if type(alignment) is not int or alignment not in allowed:
            raise damaged(
                self._path, f"{ALIGNMENT_KEY} is {alignment!r}, allowed: a power of two to {_MOST_ALIGNMENT}"
            )
        return alignment

    def _typed(self, what: str) -> Any:
        return self._value(self._u32("a value's type"), what)

    def _value(self, kind: int, what: str, depth: int = 0) -> Any:
        if kind == STRING:
            return self._text(what)
        if kind == ARRAY:
            return self._array(what, depth)
        if kind not in SCALARS:
            raise damaged(self._path, f"{what} at byte {self._at} has type {kind}, allowed: 0 to 12")
        return self._scalars(kind, 1, what)[0].item()

    def _array(self, what: str, depth: int) -> Any:
        if depth == _MOST_NESTING:
            raise damaged(self._path, f"arrays are nested more than {_MOST_NESTING} deep")
        kind, count = self._u32("an array's type"), self._u64("an array's length")
        if kind in SCALARS:
            return self._scalars(kind, count, what)
        self._check_count(count, _LEAST_STRING_BYTES, "strings or arrays in an array")
        return [self._value(kind, what, depth + 1) for _ in range(count)]

    def _scalars(self, kind: int, count: int, what: str) -> NDArray[Any]:
        dtype = np.dtype(SCALARS[kind])
        start = self._skip(count * dtype.itemsize, what)
        values = self._content[start : self._at]
        if kind == 7 and (values > 1).any():
            raise damaged(self._path, f"{what} is a flag of {values.max()}, allowed: 0 and 1")
        return values.view(dtype)

    def _text(self, what: str) -> str:
        length = self._u64(f"the length of {what}")
        raw = self._take(length, what)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise damaged(self._path, f"{what} before byte {self._at} is no UTF-8: {error.reason}") from None

    def _u32(self, what: str) -> int:
        return int(struct.unpack("<I", self._take(4, what))[0])

    def _u64(self, what: str) -> int:
        return int(struct.unpack("<Q", self._take(8, what))[0])

    def _take(self, length: int, what: str) -> bytes:
        start = self._skip(length, what)
        return bytes(self._raw[start : self._at])

    def _skip(self, length: int, what: str) -> int:
        """Go past bytes that are there; where they begin."""
        start, left = self._at, self._size - self._at
        if length > left:
            raise damaged(self._path, f"{what} takes {length} bytes at byte {start}, {left} are left")
        self._at += length
        return start

    def _check_count(self, count: int, least: int, what: str) -> None:
        most = (self._size - self._at) // least
        if count > most:
            raise damaged(self._path, f"it would have {count} {what}, there is room for {most}")

    def _unique(self, items: Iterator[tuple[str, Any]], what: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name in found:
                raise damaged(self._path, f"the {what} {name!r} comes twice")
            found[name] = value
        return found

    def _wrong_version(self, version: int) -> CairnError:
        if version == 1:
            return self._unsupported("is of GGUF version 1", "convert the model again with a newer llama.cpp")
        if version in [each << 24 for each in _VERSIONS]:
            return self._unsupported("is big-endian", "convert it with llama.cpp's gguf_convert_endian.py")
        return self._unsupported(f"says it is of GGUF version {version}, allowed: 2 and 3", _FETCH)

    def _unsupported(self, what: str, remedy: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self._path} {what}", remedy=remedy)
