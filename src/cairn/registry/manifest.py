"""The manifest: the small JSON file that names an artifact's files, parents and meaning.

`manifest.json` is canonical JSON `{format, kind, parents, metadata, files}`; its SHA-256 is the
artifact's digest, so equal content has an equal name wherever and whenever it was made. Reading refuses
everything that this module would not have written: unknown keys, unsorted files, paths that could leave
the folder.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cairn.core import IntegrityError, InvalidRequestError, canonical_json, digest_bytes

MANIFEST_NAME = "manifest.json"
FORMAT = 1
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an artifact: POSIX path in its folder, bytes, SHA-256 as 64 hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact is; `files` are sorted by path."""

    kind: str
    parents: tuple[str, ...]
    metadata: Mapping[str, Any] = field(hash=False)
    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def to_bytes(self) -> bytes:
        """The canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT,
                "kind": self.kind,
                "parents": list(self.parents),
                "metadata": dict(self.metadata),
                "files": [
                    {"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in self.files
                ],
            }
        )

    @property
    def digest(self) -> str:
        return digest_bytes(self.to_bytes())


def make_manifest(
    kind: str, parents: Sequence[str], metadata: Mapping[str, Any], files: Sequence[FileEntry]
) -> Manifest:
    """A manifest from a maker's words; `InvalidRequestError` when they are not allowed."""
    check_kind(kind)
    return Manifest(
        kind,
        tuple(dict.fromkeys(parents)),
        plain_json(metadata),
        tuple(sorted(files, key=lambda entry: entry.path)),
    )


def check_kind(kind: str) -> None:
    """`InvalidRequestError` unless `kind` may name a kind of artifact."""
    if not _KIND.fullmatch(kind):
        raise InvalidRequestError(
            f"kind is {kind!r}, allowed: lower-case letters, digits, - and _, at most 64", param="kind"
        )


def plain_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as JSON would give it back (tuples become lists); NaN and objects are refused."""
    try:
        plain: dict[str, Any] = json.loads(canonical_json(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"metadata is not JSON: {error}", param="metadata") from None
    return plain


def parse_manifest(data: bytes, digest: str) -> Manifest:
    """The manifest in `data`, which must hash to `digest`; `IntegrityError` otherwise."""
    if (found := digest_bytes(data)) != digest:
        raise IntegrityError(f"manifest of {digest} hashes to {found}", remedy=RESTORE)
    try:
        raw = json.loads(data)
        files = tuple(FileEntry(**entry) for entry in raw["files"])
        manifest = Manifest(raw["kind"], tuple(raw["parents"]), raw["metadata"], files)
        is_sound = raw["format"] == FORMAT and _is_sound(manifest) and manifest.to_bytes() == data
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise IntegrityError(
            f"manifest of {digest} is not one that this Cairn writes (format {FORMAT})",
            remedy="it comes from a newer Cairn or was made by hand: refuse it, or upgrade",
        )
    return manifest


RESTORE = "restore the artifact from an export or a backup, or remove it and build it again"


def is_safe_path(path: str) -> bool:
    """Whether a path stays inside its folder, is not the manifest, and can be written on any system."""
    parts = path.split("/")
    return (
        path != MANIFEST_NAME
        and "\\" not in path
        and path.isprintable()
        and len(path) <= 1024
        and all(part not in ("", ".", "..") for part in parts)
    )


def _is_sound(manifest: Manifest) -> bool:
    paths = [entry.path for entry in manifest.files]
    folders = {path[:at] for path in paths for at, char in enumerate(path) if char == "/"}
    return (
        _KIND.fullmatch(manifest.kind) is not None
        and isinstance(manifest.metadata, dict)
        and all(DIGEST.fullmatch(parent) for parent in manifest.parents)
        and paths == sorted(set(paths))
        and folders.isdisjoint(paths)
        and all(is_safe_path(path) for path in paths)
        and all(
            type(entry.size) is int and entry.size >= 0 and _HEX.fullmatch(entry.sha256)
            for entry in manifest.files
        )
    )
