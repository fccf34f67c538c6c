"""GGUF files written byte by byte, so that every statement in them can be made a lie."""

import struct
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """One tensor's line in the header; the default is a whole one of 32 bytes."""

    name: str = "a"
    shape: tuple[int, ...] = (8,)
    type: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """All of a file."""

    magic: bytes = b"GGUF"
    version: int = 3
    keys: tuple[bytes, ...] = ()
    infos: tuple[Info, ...] = (Info(),)
    data: bytes = bytes(range(32))
    num_keys: int | None = None
    num_tensors: int | None = None
    alignment: int = 32
    order: str = field(default="<")

    def content(self) -> bytes:
        num_tensors = len(self.infos) if self.num_tensors is None else self.num_tensors
        num_keys = len(self.keys) if self.num_keys is None else self.num_keys
        head = self.magic + struct.pack(f"{self.order}IQQ", self.version, num_tensors, num_keys)
        head += b"".join(self.keys) + b"".join(map(_info, self.infos))
        return head + bytes(-len(head) % self.alignment) + self.data

    def write(self, folder: Path) -> Path:
        path = folder / "file.gguf"
        path.write_bytes(self.content())
        return path


def _info(info: Info) -> bytes:
    dimensions = struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *info.shape)
    return string(info.name) + dimensions + struct.pack("<IQ", info.type, info.offset)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    """A key-value with a value already packed."""
    return string(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values
