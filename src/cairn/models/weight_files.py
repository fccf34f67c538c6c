"""Safetensors files: what is in those of a checkpoint folder, and writing new ones.

Reading is by memory map through the safetensors library; a file that is cut short or lies about
itself is an `IntegrityError`. Writing streams tensor by tensor to a temporary file that is synced and
renamed, so memory stays at one tensor and no half file is left. Pickles (.bin, .pt) are never opened.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cairn.core import IntegrityError, StorageError
from cairn.models.weight_paths import weight_paths

DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
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


def write_weights(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write named tensors to one safetensors file; views are made contiguous one at a time."""
    tensors = list(tensors)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    entries: dict[str, object] = dict(header)
    for name, tensor in tensors:
        end = offset + tensor.numel() * tensor.element_size()
        dtype = DTYPE_NAMES[tensor.dtype]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(file: "os.PathLike[str]") -> None:
        with open(file, "wb") as out:
            out.write(len(text).to_bytes(8, "little"))
            out.write(text)
            for _, tensor in tensors:
                data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                out.write(data.numpy().data)
            out.flush()
            os.fsync(out.fileno())

    replace_file(path, write)


def write_json(path: Path, value: object) -> None:
    """Indented JSON, renamed into place."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    replace_file(path, lambda file: Path(file).write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """`write` a temporary neighbour and rename it to `path`; on failure nothing is left behind."""
    temporary = path.with_name(path.name + ".part")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            remedy="free disk space or choose another folder",
        ) from None
