"""Archives: artifacts as one plain `.tar`, to carry to another registry.

Layout: `cairn-archive.json` ({format, root, artifacts}, parents before children), then for each artifact
`<hex>/manifest.json` and its files. Equal content gives an equal archive, byte for byte. Reading trusts
nothing: every member must be a regular file that a manifest names, in order, with its size and SHA-256;
manifests must hash to their digests; anything else (links, `..`, absolute names, a short file) refuses
the whole archive before any of it lands.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from cairn.core import IntegrityError, NotFoundError, canonical_json
from cairn.core.digests import PREFIX
from cairn.registry import durable
from cairn.registry.artifact import Artifact
from cairn.registry.manifest import DIGEST, MANIFEST_NAME, FileEntry, Manifest, parse_manifest
from cairn.registry.store import ArtifactStore

INDEX_NAME = "cairn-archive.json"
FORMAT = 1
_MAX_JSON_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20


def write_archive(path: Path, artifacts: Sequence[Artifact]) -> None:
    """Write artifacts (parents first, the wanted one last) to a new file; it appears whole or not at all."""
    index = {
        "format": FORMAT,
        "root": artifacts[-1].digest,
        "artifacts": [artifact.digest for artifact in artifacts],
    }
    partial = path.with_name(path.name + ".part")
    with durable.storage_errors(f"cannot write {path}"):
        try:
            with partial.open("wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    _add_bytes(tar, INDEX_NAME, canonical_json(index))
                    for artifact in artifacts:
                        _add_artifact(tar, artifact)
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, path)
            durable.sync(path.absolute().parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def read_archive(path: Path, store: ArtifactStore) -> Iterator[list[tuple[Path, Manifest]]]:
    """Unpack and check an archive; yields sealed folders and their manifests, the wanted one last."""
    if not path.exists():
        raise NotFoundError(f"no such file: {path}", remedy="check the path")
    with ExitStack() as stages:
        try:
            with (
                durable.storage_errors(f"cannot read {path}"),
                path.open("rb") as file,
                tarfile.open(fileobj=file, mode="r:") as tar,
            ):
                members = iter(tar)
                staged = []
                for digest in _read_index(tar, members):
                    folder = stages.enter_context(store.stage())
                    manifest = _read_artifact(tar, members, digest, folder)
                    _check(store.seal(folder), manifest)
                    staged.append((folder, manifest))
                if (extra := next(members, None)) is not None:
                    raise _refused(f"{extra.name!r} comes after the end")
        except tarfile.TarError as error:
            raise _refused(f"not a whole tar file ({error})") from error
        yield staged


def _add_artifact(tar: tarfile.TarFile, artifact: Artifact) -> None:
    prefix = artifact.digest.removeprefix(PREFIX)
    _add_bytes(tar, f"{prefix}/{MANIFEST_NAME}", (artifact.folder / MANIFEST_NAME).read_bytes())
    for entry in artifact.files:
        with (artifact.folder / entry.path).open("rb") as file:
            tar.addfile(_member(f"{prefix}/{entry.path}", entry.size), file)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # owner, group and time stay 0
    member.size = size
    member.mode = 0o444
    return member


def _read_index(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> list[str]:
    raw = json.loads(_read_json(tar, members, INDEX_NAME))
    digests = raw.get("artifacts") if isinstance(raw, dict) and raw.get("format") == FORMAT else None
    if not isinstance(digests, list) or not digests or len(set(map(str, digests))) != len(digests):
        raise _refused(f"{INDEX_NAME} is not of format {FORMAT}")
    for digest in digests:
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise _refused(f"{INDEX_NAME} names {digest!r}, which is no digest")
    return digests


def _read_artifact(
    tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], digest: str, folder: Path
) -> Manifest:
    prefix = digest.removeprefix(PREFIX)
    manifest = parse_manifest(_read_json(tar, members, f"{prefix}/{MANIFEST_NAME}"), digest)
    for entry in manifest.files:
        source = _next_file(tar, members, f"{prefix}/{entry.path}", entry.size)
        with durable.storage_errors("cannot unpack the archive"):
            _copy(source, folder / entry.path)
    return manifest


def _check(found: Sequence[FileEntry], manifest: Manifest) -> None:
    for got, entry in zip(found, manifest.files, strict=True):
        if got != entry:
            raise _refused(f"{entry.path} hashes to {got.sha256[:12]}…, not {entry.sha256[:12]}…")


def _read_json(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], name: str) -> bytes:
    data = _next_file(tar, members, name, None).read()
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        raise _refused(f"{name} is not JSON") from None
    return data


def _next_file(
    tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], name: str, size: int | None
) -> IO[bytes]:
    member = next(members, None)
    if member is None:
        raise _refused(f"it ends before {name}")
    if member.name != name or not member.isreg():
        raise _refused(f"it holds {member.name!r} where the file {name} belongs")
    if (size is not None and member.size != size) or (size is None and member.size > _MAX_JSON_BYTES):
        raise _refused(
            f"{name} has {member.size} bytes, expected {_MAX_JSON_BYTES if size is None else size}"
        )
    source = tar.extractfile(member)
    assert source is not None  # a regular file
    return source


def _copy(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)


def _refused(why: str) -> IntegrityError:
    return IntegrityError(
        f"the archive is refused: {why}", remedy="get a fresh copy of it; nothing was imported"
    )
