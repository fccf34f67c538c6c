"""Digests: the one identity of everything made here is a SHA-256, written `sha256:<64 hex>`."""

import hashlib
import json
from pathlib import Path
from typing import Any

PREFIX = "sha256:"
_CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8; NaN and infinity refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """`sha256:<hex>` of a JSON value, independent of key order and spacing."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of a file's content, read in 1 MiB pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return PREFIX + hasher.hexdigest()


def short(digest: str) -> str:
    """The first 12 hex digits, for people to read."""
    return digest.removeprefix(PREFIX)[:12]
