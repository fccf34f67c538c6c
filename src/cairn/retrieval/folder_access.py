"""Who may see the files of a folder: `.cairn-access.toml` in it, or `NAME.cairn-access.toml` beside a file.

    allow = ["group:finance", "user:ann"]

The file's own comes first, then the nearest folder's, up to the root; without any, the collection's labels
hold. One that cannot be read, or says something that is not allowed, closes what it stands for to everybody:
a mistake never opens a file.
"""

import os
from pathlib import Path

from pydantic import Field

from cairn.core import CairnError, Config, load_config
from cairn.retrieval.access import checked_labels

ACCESS_FILE = ".cairn-access.toml"


class AccessRule(Config):
    """A sidecar file."""

    allow: list[str] = Field(description="labels: user:NAME, group:NAME, everyone; empty: nobody")


class FolderAccess:
    """The rules below one root, each read once."""

    def __init__(self, root: Path, default: tuple[str, ...]) -> None:
        self._root, self._default = root, default
        self._folders: dict[Path, tuple[str, ...]] = {}
        self.problems: dict[str, str] = {}
        """What is wrong, by sidecar."""

    def labels(self, path: Path) -> tuple[str, ...]:
        """Labels of a file below the root."""
        own = self._rule(path.with_name(path.name + ACCESS_FILE))
        return self._of_folder(path.parent) if own is None else own

    def _of_folder(self, folder: Path) -> tuple[str, ...]:
        if folder not in self._folders:
            own = self._rule(folder / ACCESS_FILE)
            if own is None:
                own = self._default if folder == self._root else self._of_folder(folder.parent)
            self._folders[folder] = own
        return self._folders[folder]

    def _rule(self, sidecar: Path) -> tuple[str, ...] | None:
        # Also a link that leads nowhere is a rule, and a broken one.
        if not os.path.lexists(sidecar):
            return None
        try:
            return tuple(checked_labels(load_config(AccessRule, sidecar).allow))
        except CairnError as error:
            self.problems[sidecar.relative_to(self._root).as_posix()] = error.message
            return ()


def is_access_file(name: str) -> bool:
    """Whether a file says who may see others."""
    return name.endswith(ACCESS_FILE)
