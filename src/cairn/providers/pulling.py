"""Checkpoints from the Hugging Face Hub: what a repository holds at one commit, and fetching what is wanted.

The list of files, with sizes and digests, is read by Hugging Face's client, which knows the token; the files
are fetched one after the other into `pulls` in home, where a later attempt goes on with what an earlier one
left. A file counts only once its size and digest are the listed ones. Where the files lie in Git LFS the
digest is SHA-256, else that of a Git blob. The folder goes away when the import has succeeded or refused.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

from cairn.core.digests import PREFIX, digest_file
from cairn.core.download import Source, download, partial_size
from cairn.core.errors import CairnError, IntegrityError, NotFoundError, StorageError, UnavailableError
from cairn.core.progress import Progress
from cairn.providers.sizes import gigabytes
from cairn.registry import Registry
from cairn.registry.locks import hold

_COPY = "or copy the checkpoint here and run: cairn import PATH"
_LONGEST_PATH, _LONGEST_NAME = 1024, 240
_OTHER_HUB = "check HF_ENDPOINT, which names the Hub"
_NOT_ALLOWED = "it is gated or private: accept its terms on its page, and set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int
    url: str
    sha256: str
    """Empty where it does not lie in Git LFS."""
    blob_id: str


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]
    headers: dict[str, str]
    """What to ask the Hub with, the token among it."""

    def matching(self, patterns: tuple[str, ...]) -> list[HubFile]:
        return [file for file in self.files if any(fnmatch(file.path, pattern) for pattern in patterns)]


def list_repository(name: str, revision: str = "") -> HubRepository:
    """What the repository holds at a branch, tag or commit (default: its main branch)."""
    hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    api = hub.HfApi(library_name="cairn")
    try:
        commit = api.repo_info(name, revision=revision or None).sha
        if not isinstance(commit, str) or not commit.isalnum():
            raise IntegrityError(f"the Hub names {commit!r} as the commit of {name}", remedy=_OTHER_HUB)
        found = list(api.list_repo_tree(name, recursive=True, revision=commit))
        files = tuple(_file(hub, api, name, commit, each) for each in found if hasattr(each, "blob_id"))
        headers = dict(hub.utils.build_hf_headers(library_name="cairn"))
    except errors.RevisionNotFoundError:
        raise NotFoundError(
            f"{name} has no revision {revision!r}", remedy="check the branch or tag"
        ) from None
    except errors.RepositoryNotFoundError:
        raise NotFoundError(
            f"no repository {name!r} on the Hub, or none you may read",
            remedy="check the name; for a gated one set HF_TOKEN",
        ) from None
    except CairnError:
        raise
    except Exception as error:
        first = f"cannot fetch {name}: {type(error).__name__}: {error}".splitlines()[0]
        raise UnavailableError(first, remedy=f"check the network; {_COPY}") from error
    return HubRepository(name, commit, files, headers)


def _file(hub: Any, api: Any, name: str, commit: str, found: Any) -> HubFile:
    path, size, digest = found.path, found.size, found.lfs.sha256 if found.lfs else ""
    is_sound = type(size) is int and size >= 0 and isinstance(digest, str) and isinstance(found.blob_id, str)
    if not is_sound or not _is_inside(path):
        raise IntegrityError(
            f"the Hub lists {path!r} with {size!r} bytes in {name}, which cannot be a file of it",
            remedy=_OTHER_HUB,
        )
    url = hub.hf_hub_url(name, path, revision=commit, endpoint=api.endpoint)
    return HubFile(path, size, url, digest, found.blob_id)


def _is_inside(path: Any) -> bool:
    """Whether it is a path that can be made and stays in its folder."""
    if not isinstance(path, str) or not path.isprintable() or not 0 < len(path.encode()) < _LONGEST_PATH:
        return False
    parts = path.split("/")
    return not any(part in ("", ".", "..") or len(part.encode()) > _LONGEST_NAME for part in parts)


@contextmanager
def fetched(
    registry: Registry, repository: HubRepository, files: list[HubFile], progress: Progress
) -> Iterator[Path]:
    """A folder with these files, whole; kept for the next attempt where it was the network or the disk."""
    folder = (
        registry.settings.home / "pulls" / f"{repository.name.replace('/', '--')}-{repository.commit[:12]}"
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = hold(folder.with_name(f"{folder.name}.lock"))
    try:
        targets = [folder / file.path for file in files]
        left = sum(f.size - partial_size(t) for f, t in zip(files, targets, strict=True))
        if left > (free := shutil.disk_usage(folder.parent).free):
            raise StorageError(
                f"{repository.name} takes {gigabytes(left)}, {gigabytes(free)} are free",
                remedy="free disk space, then pull again",
            )
        for file, target in zip(files, targets, strict=True):
            _fetch(repository, file, target, progress)
        try:
            yield folder
        except StorageError:
            raise  # with more space the next attempt may go well
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _fetch(repository: HubRepository, file: HubFile, target: Path, progress: Progress) -> None:
    """Bring one file here; a connection that breaks is taken up again as long as bytes come."""
    source = Source(
        url=file.url,
        label=f"fetching {file.path}",
        size=file.size,
        headers=repository.headers,
        remedies={401: _NOT_ALLOWED, 403: _NOT_ALLOWED},
        remedy=f"run it again, it goes on where it stopped; {_COPY}",
    )
    while not target.is_file():
        before = partial_size(target)
        try:
            download(source, target, progress)
        except UnavailableError:
            if partial_size(target) <= before:
                raise
    if target.stat().st_size != file.size or not _has_digest(target, file):
        target.unlink()
        raise IntegrityError(
            f"{file.path} is not the file that {repository.name} lists: its digest differs",
            remedy="pull again; it is fetched anew",
        )


def _has_digest(path: Path, file: HubFile) -> bool:
    if file.sha256:
        return digest_file(path) == PREFIX + file.sha256
    content = path.read_bytes()  # small: large files lie in LFS
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id
