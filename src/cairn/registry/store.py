"""The artifact store: folders named by the digest of their manifest, `artifacts/<2 hex>/<64 hex>/`.

Guarantees: an artifact is there whole or not at all. It is written in `artifacts/tmp`, every file and
folder is synced, the manifest comes last, then one rename brings it in; a crash at any point leaves at
most a folder in `tmp`, which the next process to open the store sweeps away (a lock tells whose owner is
gone). Equal content is stored once. Files are read-only. Symbolic links, devices and paths that leave the
folder are refused.

Checked on every read: the manifest against the digest, and the presence and size of every file; on the
first read in a process also the SHA-256 of the smallest files, up to 32 MiB in total (configs, tokenizers
and templates, where one wrong byte changes answers without a crash). `verify` hashes everything. Not
covered: whoever may write to the folder can delete from it; object storage.
"""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cairn.core import IntegrityError, InvalidRequestError, NotFoundError, digest_file, short
from cairn.core.digests import PREFIX
from cairn.registry import durable
from cairn.registry.locks import hold, locked, take_over
from cairn.registry.manifest import (
    MANIFEST_NAME,
    RESTORE,
    FileEntry,
    Manifest,
    is_safe_path,
    parse_manifest,
)

_FIRST_READ_BYTES = 32 << 20


class ArtifactStore:
    """Artifacts on disk; knows nothing of names, runs or the database."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "tmp"
        """What is unfinished; what dead writers left there is swept."""
        self._seen: set[str] = set()

    def open(self) -> None:
        """Make the folders and sweep what dead writers left behind."""
        with durable.storage_errors(f"cannot use {self.root} as artifact store"):
            self.scratch.mkdir(parents=True, exist_ok=True)
            for leftover in list(self.scratch.iterdir()):
                self._sweep(leftover)

    def folder(self, digest: str) -> Path:
        """Where an artifact lies, or would lie."""
        hex_digits = digest.removeprefix(PREFIX)
        return self.root / hex_digits[:2] / hex_digits

    def has(self, digest: str) -> bool:
        """Whether the folder is there (unchecked)."""
        return self.folder(digest).is_dir()

    def digests(self) -> Iterator[str]:
        """Digests of every folder on disk, catalogued or not, sorted."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 64)):
            yield PREFIX + path.name

    @contextmanager
    def lock(self, *, shared: bool) -> Iterator[None]:
        """Held shared while something comes in or is named, alone while something is thrown out."""
        with ExitStack() as held:
            with durable.storage_errors("cannot lock the artifact store"):
                held.enter_context(locked(self.root / ".lock", shared=shared))
            yield

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """An empty folder on the store's file system; deleted after the block unless `land` took it."""
        with durable.storage_errors("cannot stage an artifact"):
            folder = self.scratch / uuid.uuid4().hex
            owner = hold(folder.with_suffix(".lock"))
        try:
            with durable.storage_errors("cannot stage an artifact"):
                folder.mkdir()
            yield folder
        finally:
            durable.remove_tree(folder)
            owner.release()

    def seal(self, folder: Path) -> tuple[FileEntry, ...]:
        """Hash and sync every file of a staged folder and make it read-only; sorted entries."""
        with durable.storage_errors("cannot write the artifact"):
            entries = [self._seal_file(path, name) for path, name in walk(folder)]
            for parent, _, _ in os.walk(folder, topdown=False):
                durable.sync(Path(parent))
        return tuple(sorted(entries, key=lambda entry: entry.path))

    def land(self, folder: Path, manifest: Manifest) -> str:
        """Bring a sealed folder in under its manifest's digest; an equal one that is there stays."""
        data = manifest.to_bytes()
        digest = manifest.digest
        target = self.folder(digest)
        with durable.storage_errors(f"cannot store artifact {short(digest)}"):
            durable.write_durably(folder / MANIFEST_NAME, data)
            durable.make_read_only(folder / MANIFEST_NAME)
            durable.sync(folder)
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                durable.sync(self.root)
            self._rename(folder, target, digest)
            durable.sync(target.parent)
        return digest

    def read(self, digest: str) -> Manifest:
        """The manifest of an artifact, checked as the module says; `NotFoundError` or `IntegrityError`."""
        folder = self.folder(digest)
        manifest = self._manifest(digest)
        for entry in manifest.files:
            _check_size(folder, entry, digest)
        if digest not in self._seen:
            for entry in _smallest(manifest):
                _check_hash(folder, entry, digest)
            self._seen.add(digest)
        return manifest

    def verify(self, digest: str) -> Manifest:
        """Like `read`, and hash every file, and refuse files that the manifest does not name."""
        folder = self.folder(digest)
        manifest = self._manifest(digest)
        for entry in manifest.files:
            _check_size(folder, entry, digest)
            _check_hash(folder, entry, digest)
        named = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
        present = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
        if extra := sorted(present - named):
            raise IntegrityError(
                f"artifact {short(digest)} holds files not in its manifest: {', '.join(extra[:5])}",
                remedy=f"delete them from {folder}",
            )
        return manifest

    def discard(self, digests: list[str]) -> None:
        """Throw folders out: each vanishes in one rename, then its bytes are freed."""
        with self.stage() as trash, durable.storage_errors("cannot remove an artifact"):
            for digest in digests:
                self._seen.discard(digest)
                if self.has(digest):
                    os.rename(self.folder(digest), trash / digest.removeprefix(PREFIX))
                    durable.sync(self.folder(digest).parent)

    def _manifest(self, digest: str) -> Manifest:
        path = self.folder(digest) / MANIFEST_NAME
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"artifact {digest} is not on disk ({path})", remedy=RESTORE) from None
        except OSError as error:
            raise IntegrityError(f"cannot read {path}: {error.strerror}", remedy=RESTORE) from error
        return parse_manifest(data, digest)

    def _seal_file(self, path: Path, name: str) -> FileEntry:
        # Some writers leave 0600 or worse; readable first, so that it can be hashed.
        durable.make_read_only(path)
        durable.sync(path)
        return FileEntry(name, path.stat().st_size, digest_file(path).removeprefix(PREFIX))

    def _rename(self, folder: Path, target: Path, digest: str) -> None:
        if target.is_dir():
            if self._is_whole(digest):
                return
            # What lies there is damaged: the fresh copy takes its place.
            self.discard([digest])
        try:
            os.rename(folder, target)
        except OSError:
            if not target.is_dir():
                raise
            # Another writer of equal content was faster; ours goes with the stage.

    def _is_whole(self, digest: str) -> bool:
        try:
            self.read(digest)
        except (IntegrityError, NotFoundError):
            return False
        return True

    def _sweep(self, leftover: Path) -> None:
        folder = leftover.with_suffix("")
        owner = take_over(folder.with_suffix(".lock"))
        if owner is None and folder.with_suffix(".lock").exists():
            return  # its writer lives
        durable.remove_tree(folder)
        if owner is not None:
            owner.release()


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below `folder` with its POSIX path in it, sorted; refuses what an artifact may not hold."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
            raise InvalidRequestError(
                f"{name} is {what}; an artifact holds regular files only", remedy="copy the file itself"
            )
        if not is_safe_path(name):
            raise InvalidRequestError(
                f"file name {name!r} is not allowed in an artifact",
                remedy=f"rename it: printable, no backslash, not {MANIFEST_NAME}",
            )
        yield path, name


def copy_folder(source: Path, target: Path, *, link: bool) -> None:
    """Copy (or hard-link) every file below `source`, following symbolic links to files but not to folders."""
    for path in sorted(source.rglob("*")):
        destination = target / path.relative_to(source)
        if path.is_file():
            destination.parent.mkdir(parents=True, exist_ok=True)
            if not (link and _link(path.resolve(), destination)):
                shutil.copyfile(path, destination)
        elif path.is_symlink() or not path.is_dir():
            raise InvalidRequestError(
                f"{path} is a broken link, a link to a folder or a device",
                remedy="copy what it stands for, or delete it",
            )


def _link(path: Path, destination: Path) -> bool:
    try:
        os.link(path, destination)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _smallest(manifest: Manifest) -> Iterator[FileEntry]:
    total = 0
    for entry in sorted(manifest.files, key=lambda entry: entry.size):
        total += entry.size
        if total > _FIRST_READ_BYTES:
            return
        yield entry


def _check_size(folder: Path, entry: FileEntry, digest: str) -> None:
    try:
        found = os.lstat(folder / entry.path)
    except OSError as error:
        raise IntegrityError(
            f"artifact {short(digest)}: {entry.path}: {error.strerror}", remedy=RESTORE
        ) from error
    if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
        raise IntegrityError(
            f"artifact {short(digest)}: {entry.path} has {found.st_size} bytes, not {entry.size}",
            remedy=RESTORE,
        )


def _check_hash(folder: Path, entry: FileEntry, digest: str) -> None:
    with durable.storage_errors(f"cannot read artifact {short(digest)}"):
        found = digest_file(folder / entry.path).removeprefix(PREFIX)
    if found != entry.sha256:
        raise IntegrityError(
            f"artifact {short(digest)}: {entry.path} hashes to {found[:12]}…, not {entry.sha256[:12]}…",
            remedy=RESTORE,
        )
