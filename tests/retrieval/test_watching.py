"""A watched folder is synced when it is quiet, waits no longer than it must, and is never taken for empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cairn.core import Silent
from cairn.data.parsing import ParserPool
from cairn.retrieval import watching
from cairn.retrieval.collection import Collection
from cairn.retrieval.watching import MOST_WAITS, FolderWatch, Glance, glance


@pytest.fixture(scope="module")
def parsers() -> Iterator[ParserPool]:
    with ParserPool(1) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "team"
    (root / "pay").mkdir(parents=True)
    (root / "boats.md").write_text("A canoe is paddled.\n")
    (root / "pay" / "bonus.txt").write_text("The bonus is large.\n")
    return root


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(collection: Collection, folder: Path, parsers: ParserPool, told: Told) -> FolderWatch:
    return FolderWatch(lambda: collection, folder, parsers=parsers, progress=told)


def sources(collection: Collection) -> list[str]:
    return [info.source for info in collection.documents(None)]


def test_only_what_changes_is_synced_and_once_it_is_quiet(
    watch: FolderWatch, collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = watch.step()
    assert first is not None
    assert len(first.added) == 2
    with monkeypatch.context() as patch:
        patch.setattr(watching, "sync", None)  # nothing may call it
        assert watch.step() is None
        (folder / "new.md").write_text("A raft")
        assert watch.step() is None
    second = watch.step()
    assert second is not None
    assert second.added == ["team/new.md"]
    (folder / "new.md").unlink()
    assert watch.step() is None
    third = watch.step()
    assert third is not None
    assert third.removed == ["team/new.md"]


def test_a_folder_that_is_never_quiet_is_synced_all_the_same(watch: FolderWatch, folder: Path) -> None:
    watch.step()
    for number in range(MOST_WAITS):
        (folder / "log.md").write_text("line " * (number + 1))
        assert watch.step() is None
    (folder / "log.md").write_text("the last line")
    report = watch.step()
    assert report is not None
    assert report.added == ["team/log.md"]


def test_what_is_away_is_not_gone(
    watch: FolderWatch, collection: Collection, folder: Path, told: Told
) -> None:
    watch.step()
    away = folder.with_name("away")
    folder.rename(away)
    for _ in range(3):
        assert watch.step() is None
    folder.mkdir()  # the empty place where it was mounted
    for _ in range(3):
        assert watch.step() is None
    assert len(told.lines) == 2
    assert "cannot see" in told.lines[0]
    assert "is empty, and 2 documents would go" in told.lines[1]
    assert len(sources(collection)) == 2
    folder.rmdir()
    away.rename(folder)
    (folder / "new.md").write_text("A raft")
    assert any(watch.step() is not None for _ in range(3))
    assert len(sources(collection)) == 3


def test_a_file_system_within_it_that_is_away(
    watch: FolderWatch, collection: Collection, folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = frozenset({str(folder / "pay")})

    def with_mounts(path: Path) -> Glance:
        seen = glance(path)
        there = mounted if (folder / "pay" / "bonus.txt").exists() else frozenset[str]()
        return Glance(seen.digest, seen.device, there)

    monkeypatch.setattr(watching, "glance", with_mounts)
    watch.step()
    shutil.move(folder / "pay" / "bonus.txt", folder.parent)
    for _ in range(3):
        assert watch.step() is None
    assert told.lines == [f"{folder / 'pay'} is not the file system it was; mount it again, or start anew"]
    assert len(sources(collection)) == 2


def test_a_glance_sees_permissions_and_mounts(folder: Path) -> None:
    before = glance(folder)
    assert before == glance(folder)
    assert before.mounts == frozenset()
    os.chmod(folder / "boats.md", 0o600)
    assert glance(folder).digest != before.digest
