"""Safetensors files: what is in those of a checkpoint folder, and writing new ones.

Reading is by memory map through the safetensors library; a file that is cut short or lies about
itself is an `IntegrityError`. Writing streams tensor by tensor to a temporary file that is synced and
renamed, so memory stays at one tensor and no half file is left; `safetensors_pieces` are the same bytes
for whoever writes them otherwise. Pickles (.bin, .pt) are never opened.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cairn.core import IntegrityError, StorageError
from cairn.core.file_writing import replace_file
from cairn.models.weight_paths import weight_paths

DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_FETCH = "fetch the file again; it was not copied whole"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in an open file, not read yet."""

    file: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]


@contextmanager
def open_weights(folder: Path) -> Iterator[dict[str, StoredTensor]]:
    """Every tensor of a checkpoint by its name, mapped while the context lasts."""
    with ExitStack() as stack:
        tensors: dict[str, StoredTensor] = {}
        for path in weight_paths(folder):
            with _as_integrity_error(path):
                file = stack.enter_context(safe_open(path, framework="pt"))
                for name in file.keys():  # noqa: SIM118 - the handle is no mapping
                    part = file.get_slice(name)
                    read = _reader(path, file.get_tensor, name)
                    shape = tuple(part.get_shape())
                    tensors[name] = StoredTensor(path.name, shape, part.get_dtype(), read)
        yield tensors


def _reader(path: Path, get_tensor: Callable[[str], Tensor], name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with _as_integrity_error(path):
            return get_tensor(name)

    return read


@contextmanager
def _as_integrity_error(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        size = path.stat().st_size
        raise IntegrityError(
            f"{path} ({size} bytes) is no whole safetensors file: {error}", remedy=_FETCH
        ) from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}", remedy="check the disk and permissions") from None


def safetensors_pieces(tensors: Sequence[tuple[str, Tensor]]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file of named tensors, in order; views are made contiguous one at a time."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        dtype = DTYPE_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, tensor in tensors:
        yield raw_bytes(tensor)


def raw_bytes(tensor: Tensor) -> bytes | memoryview:
    """A tensor's numbers, row by row, without a copy where they lie so already."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    # As bytes, because numpy has no bfloat16; an empty tensor cannot be viewed so.
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def write_weights(path: Path, tensors: Sequence[tuple[str, Tensor]]) -> None:
    """Write named tensors to one safetensors file."""
    replace_file(path, safetensors_pieces(tensors))
