"""The registry's tests run on SQLite and on Postgres; nothing else differs between the two."""

from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.registry import Artifact, Registry

Make = Callable[..., Artifact]
PATIENCE = 120.0
"""Seconds after which a process is not coming any more."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Settings(home=tmp_path / "home", database_url=url)


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    """For what has nothing to do with the database: one run is enough."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def make(registry: Registry) -> Make:
    """Make a small artifact: `make("text", kind="dataset", parents=[...])`."""
    return lambda text="hello", **options: make_artifact(registry, text, **options)


def make_artifact(
    registry: Registry, text: str, *, kind: str = "dataset", parents: tuple[str, ...] | list[str] = ()
) -> Artifact:
    with registry.create(kind, parents=parents) as writer:
        (writer.folder / "text.txt").write_text(text)
    return writer.artifact


def run_together(processes: Sequence[BaseProcess]) -> None:
    """Start them all; each must end well, and soon: one that waits for ever is killed."""
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
