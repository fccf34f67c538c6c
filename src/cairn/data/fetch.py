"""Bringing a data set here: from a mirror's archive, or from its repository at the pinned commit.

Nothing appears under its final name before every file in it has the digest the table names. From
a repository, files are found by content: whatever path they have upstream, the bytes are the right ones.
Archives are not trusted: only plain files are taken out, under Python's `data` extraction filter.
"""

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cairn.core.digests import PREFIX, digest_bytes, digest_file
from cairn.core.download import Source, download
from cairn.core.errors import IntegrityError, NotFoundError, StorageError
from cairn.core.progress import Progress

GITHUB = "https://codeload.github.com"
FileDigests = Mapping[str, str]
_CHUNK_BYTES = 1 << 18
_BROKEN_ARCHIVE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError)


def fetch_from_mirror(
    archive_path: Path, folder: Path, *, archive: str, content: str, progress: Progress
) -> None:
    """Unpack `NAME.tar.xz`, whose digest is `archive`, so that `folder` holds exactly `content`."""
    if not archive_path.is_file():
        raise NotFoundError(
            f"the mirror has no {archive_path.name}",
            remedy=f"put it into {archive_path.parent}, or unset CAIRN_MIRROR to fetch it from its source",
        )
    progress.say(f"unpacking {archive_path.name}")
    if digest_file(archive_path) != archive:
        raise IntegrityError(
            f"{archive_path} is not the archive it should be: its digest differs (cut short or changed)",
            remedy="copy it again from where the mirror came from",
        )
    with _whole_folder(folder) as temporary:
        _unpack(archive_path, temporary)
        if content_digest(temporary) != content:
            raise IntegrityError(f"{archive_path} holds other files than it should")


def fetch_from_repository(url: str, folder: Path, *, files: FileDigests, progress: Progress) -> None:
    """Download the repository's tarball and take out the files of these digests."""
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    tarball = folder.parent / ".downloads" / f"{name}.tar.gz"
    source = Source(
        url=url,
        label=f"downloading {url}",
        remedy="run it again (it goes on where it stopped), or take the set from a mirror: set CAIRN_MIRROR",
    )
    download(source, tarball, progress)
    try:
        with _whole_folder(folder) as temporary:
            _take_by_content(tarball, temporary, files)
    finally:
        # Complete but unusable or used up: either way the next attempt should start clean.
        tarball.unlink(missing_ok=True)


def content_digest(folder: Path) -> str:
    """Digest of the sorted list of all files under a folder and their digests (as `sha256sum` prints it)."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{digest_file(folder / path).removeprefix(PREFIX)}  {path}\n" for path in paths]
    return digest_bytes("".join(lines).encode())


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes when not."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise StorageError(f"cannot write to {folder.parent}: {error.strerror}") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        if not folder.exists():  # another process may have brought it meanwhile
            os.replace(temporary, folder)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror or error}; nothing was kept",
            remedy="free some space, then run it again",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive_path: Path, target: Path) -> None:
    """All plain files of a tar archive, without its top folder."""
    try:
        with tarfile.open(archive_path) as archive:
            for member in archive:
                path = _inner_path(member.name)
                if member.isfile() and path:
                    archive.extract(member.replace(name=path, deep=False), target, filter="data")
    except _BROKEN_ARCHIVE as error:
        raise IntegrityError(f"{archive_path} cannot be unpacked: {error}", remedy="copy it again") from None


def _take_by_content(archive_path: Path, target: Path, files: FileDigests) -> None:
    wanted: dict[str, list[str]] = {}
    for path, digest in files.items():
        wanted.setdefault(digest, []).append(path)
    try:
        with tarfile.open(archive_path, "r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                digest = _digest(file)
                for path in wanted.pop(digest, []):
                    file.seek(0)
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    with (target / path).open("xb") as out:
                        shutil.copyfileobj(file, out)
    except _BROKEN_ARCHIVE as error:
        raise IntegrityError(
            f"the download is damaged: {error}", remedy="run it again; the download starts anew"
        ) from None
    if wanted:
        missing = sorted(path for paths in wanted.values() for path in paths)
        raise IntegrityError(
            f"the source no longer has these bytes: {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""),
            remedy="take the set from a mirror: set CAIRN_MIRROR",
        )


def _digest(file: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        hasher.update(chunk)
    return hasher.hexdigest()


def _inner_path(name: str) -> str:
    """A member's path without the archive's top folder."""
    return name.removeprefix("./").partition("/")[2]
