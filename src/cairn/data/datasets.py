"""Named data sets: a table of pinned sources, and the folder of one that has been fetched.

The table is data (`sets/datasets.toml`): repository, commit, licence, what the set may be used for, what is
held out, and digests. `get_dataset` brings a set from the mirror folder (`CAIRN_MIRROR`) or from
its repository and verifies every file; `local_dataset` only looks, and never touches a network.
`tutorial` ships with the package. Reading a set is the business of `loaders`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from cairn.core.config import Config, Settings, load_toml, parse_config
from cairn.core.digests import digest_bytes, short
from cairn.core.errors import ConfigError, IntegrityError, NotFoundError
from cairn.core.progress import Progress, Silent
from cairn.data.fetch import GITHUB, FileDigests, content_digest, fetch_from_mirror, fetch_from_repository

TUTORIAL = "tutorial"
SETS = Path(str(resources.files("cairn.data"))) / "sets"


class DatasetSpec(Config):
    """One entry of the table."""

    name: str = Field(description="what `cairn data get` takes")
    repository: str = Field(description="owner/name on GitHub")
    commit: str = Field(description="the pinned commit, 40 hex digits")
    path: str = Field(default="", description="where in the repository, when not all over it")
    original: str = Field(
        default="", description="where the set first came from, when the repository is a copy"
    )
    licence: str = Field(description="licence, as stated upstream")
    holds: str = Field(description="what is in it")
    use: tuple[str, ...] = Field(description="what Cairn uses it for")
    weights: str = Field(description="whether weights trained on it may be given away")
    held_out: str = Field(description="what is never trained on; empty: nothing or everything")
    archive_bytes: int = Field(description="size of NAME.tar.xz in a mirror")
    archive: str = Field(description="digest of NAME.tar.xz in a mirror")
    content: str = Field(description="digest of the list of files and their digests")

    @property
    def is_evaluation_only(self) -> bool:
        """Whether nothing of it may be trained on."""
        return self.weights.startswith("no")

    @property
    def source(self) -> str:
        """The pinned source in one line."""
        return f"https://github.com/{self.repository}/tree/{self.commit}/{self.path}".rstrip("/")


@dataclass(frozen=True, slots=True)
class LocalDataset:
    """A data set that lies on this machine, verified."""

    spec: DatasetSpec
    folder: Path


@cache
def dataset_table() -> Mapping[str, DatasetSpec]:
    """All named data sets."""
    table = load_toml(SETS / "datasets.toml")
    return {
        name: parse_config(DatasetSpec, {"name": name, **values}, source=f"datasets.toml [{name}]")
        for name, values in table.items()
    }


def find_dataset(name: str) -> DatasetSpec:
    """The entry of a name, or an error with the near misses."""
    table = dataset_table()
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `cairn data ls`"
        raise NotFoundError(f"no data set is called {name!r}", remedy=hint)
    return table[name]


def file_digests(spec: DatasetSpec) -> FileDigests | None:
    """The set's list of files, path to SHA-256 in hex; None where this release carries no list."""
    path = SETS / f"{spec.name}.sha256"
    if not path.is_file():
        return None
    data = path.read_bytes()
    if digest_bytes(data) != spec.content:
        raise IntegrityError(f"{path} is not what the table says", remedy="install Cairn again")
    pairs = (line.split("  ", 1) for line in data.decode().splitlines())
    return {name: digest for digest, name in pairs}


def dataset_folder(spec: DatasetSpec, settings: Settings) -> Path:
    """Where a set lies once fetched; its name holds the content's digest."""
    if spec.name == TUTORIAL:
        return SETS.parent / TUTORIAL
    return settings.home / "datasets" / f"{spec.name}-{short(spec.content)}"


def local_dataset(name: str, settings: Settings | None = None) -> LocalDataset | None:
    """The set if it is on this machine already."""
    spec = find_dataset(name)
    folder = dataset_folder(spec, settings or Settings.from_env())
    return LocalDataset(spec, folder) if folder.is_dir() else None


def verify_dataset(local: LocalDataset) -> None:
    """Raise unless the folder still holds exactly the files the table names."""
    if content_digest(local.folder) != local.spec.content:
        raise IntegrityError(
            f"{local.folder} is not what it was when it was fetched",
            remedy=f"remove the folder and run `cairn data get {local.spec.name}` again",
        )


def get_dataset(
    name: str,
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
    base_url: str = GITHUB,
) -> LocalDataset:
    """The set, brought from the mirror or its repository when it is not here yet, every file verified."""
    settings = settings or Settings.from_env()
    if found := local_dataset(name, settings):
        return found
    spec = find_dataset(name)
    folder = dataset_folder(spec, settings)
    progress = progress or Silent()
    if settings.mirror is not None:
        fetch_from_mirror(
            settings.mirror / f"{name}.tar.xz",
            folder,
            archive=spec.archive,
            content=spec.content,
            progress=progress,
        )
        return LocalDataset(spec, folder)
    files = file_digests(spec)
    if files is None:
        raise ConfigError(
            f"this release can take {name} from a mirror only",
            remedy=f"set CAIRN_MIRROR to a folder with {name}.tar.xz",
        )
    url = f"{base_url}/{spec.repository}/tar.gz/{spec.commit}"
    fetch_from_repository(url, folder, files=files, progress=progress)
    return LocalDataset(spec, folder)
