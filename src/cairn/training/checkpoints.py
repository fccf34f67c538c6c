"""Checkpoints: written whole or not at all, verified before use.

A checkpoint is a folder `step-<number>` of `model.safetensors` (float32 weights by parameter
name), `optimizer.safetensors` (`<parameter>/<state>`), `state.json` (everything else) and
`manifest.json` (format version, size and SHA-256 of each file). It is written under a temporary
name, synced, and renamed, so a process killed at any byte leaves the earlier ones untouched.
The manifest is checked on load; a damaged checkpoint is reported and the one before it used.
Layout and compatibility are described in docs/checkpoints.md.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cairn.core import IntegrityError, StorageError, UnsupportedModelError, canonical_json, digest_file
from cairn.models.weight_files import safetensors_pieces

FORMAT = 1
_PREFIX = "step-"
_TEMPORARY = ".writing-"
_WRITE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training run at the start of step `state["step"]`."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint into `folder`, then drop all but the newest `keep`; StorageError changes nothing."""
    target = folder / f"{_PREFIX}{step:08d}"
    temporary = folder / f"{_TEMPORARY}{target.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _discard_unfinished(folder)
        temporary.mkdir()
        digests = {
            "model.safetensors": _write_tensors(temporary / "model.safetensors", checkpoint.model),
            "optimizer.safetensors": _write_tensors(
                temporary / "optimizer.safetensors", checkpoint.optimizer
            ),
            "state.json": _write_bytes(temporary / "state.json", [canonical_json(checkpoint.state)]),
        }
        sizes = {name: (temporary / name).stat().st_size for name in digests}
        files = {name: {"size": sizes[name], "sha256": digest} for name, digest in digests.items()}
        manifest = {"format": FORMAT, "kind": "checkpoint", "files": files}
        _write_bytes(temporary / "manifest.json", [canonical_json(manifest)])
        _sync_folder(temporary)
        if target.exists():
            target.rename(folder / f"{_TEMPORARY}{target.name}-replaced")
        temporary.rename(target)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StorageError(
            f"cannot write the checkpoint of step {step} to {folder}: {error.strerror or error}",
            remedy="free some space and start the run again; it goes on from the checkpoint before",
        ) from error
    for old in (*checkpoint_folders(folder)[:-keep], *folder.glob(f"{_TEMPORARY}*")):
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_latest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest intact checkpoint; None when there is none at all. Damaged ones are named through `warn`.

    Raises IntegrityError when there are checkpoints and every one is damaged.
    """
    folders = checkpoint_folders(folder)
    for path in reversed(folders):
        try:
            return load_checkpoint(path)
        except IntegrityError as error:
            warn(f"{error.message}; going back to the checkpoint before it")
    if folders:
        raise IntegrityError(
            f"every checkpoint in {folder} is damaged ({len(folders)} tried)",
            remedy="remove that folder to start the run from the beginning",
        )
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint, verified; IntegrityError says what is wrong with it."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            raise UnsupportedModelError(
                f"checkpoint {path} has format {manifest['format']}, this version reads {FORMAT}",
                remedy="go on with the version of Cairn that wrote it",
            )
        for name, entry in manifest["files"].items():
            if digest_file(path / name) != entry["sha256"]:
                raise IntegrityError(f"checkpoint {path}: {name} is not what was written")
        return Checkpoint(
            model=load_file(path / "model.safetensors"),
            optimizer=load_file(path / "optimizer.safetensors"),
            state=json.loads((path / "state.json").read_bytes()),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"checkpoint {path} is damaged: {error}") from error


def checkpoint_folders(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _discard_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """A safetensors file, streamed from the tensors' own memory; returns its digest."""
    return _write_bytes(path, safetensors_pieces(list(tensors.items())))


def _write_bytes(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _WRITE_BYTES):
                part = view[start : start + _WRITE_BYTES]
                file.write(part)
                hasher.update(part)
        file.flush()
        os.fsync(file.fileno())
    return f"sha256:{hasher.hexdigest()}"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
