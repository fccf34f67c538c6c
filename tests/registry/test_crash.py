"""Killed or refused by the disk at any step: no half artifact, and the next open mends the rest."""

import errno
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from cairn.core import Settings, StorageError
from cairn.registry import Registry
from tests.registry.conftest import make_artifact

# Everything the interpreter reports that changes, or could change, the disk.
STEPS = {"open", "os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "os.link", "fsync", "sql"}


def create(registry: Registry, tag: str) -> None:
    with registry.create("model") as writer:
        (writer.folder / "deep").mkdir()
        (writer.folder / "deep" / "weights").write_text(tag * 1000)
        (writer.folder / "config").write_text(tag)


def create_and_name(registry: Registry, tag: str) -> None:
    create(registry, tag)
    registry.set_alias("model", registry.artifacts("model")[0].digest)


def collect(registry: Registry, tag: str) -> None:
    registry.gc(grace_seconds=-1)


def bring_in(registry: Registry, tag: str) -> None:
    registry.import_archive(registry.settings.home / f"{tag}.tar")


def prepare_archive(registry: Registry, tag: str) -> None:
    parent = make_artifact(registry, f"parent {tag}")
    child = make_artifact(registry, tag, parents=[parent.digest])
    registry.export(child.digest, registry.settings.home / f"{tag}.tar", parents=True)
    registry.gc(grace_seconds=-1)


def prepare_garbage(registry: Registry, tag: str) -> None:
    parent = make_artifact(registry, f"parent {tag}")
    make_artifact(registry, tag, parents=[parent.digest])


def nothing(registry: Registry, tag: str) -> None: ...


OPERATIONS = [
    pytest.param(nothing, create_and_name, id="create-and-name"),
    pytest.param(prepare_garbage, collect, id="gc"),
    pytest.param(prepare_archive, bring_in, id="import"),
]
Operation = Callable[[Registry, str], None]


def run_until_step(settings: Settings, operation: Operation, tag: str, last: int) -> bool:
    """Run in a child process that kills itself at step `last`; True when it got to the end before that."""
    child = os.fork()
    if child == 0:
        try:
            with Registry.open(settings) as registry:
                _die_at(registry, last)
                operation(registry, tag)
            os._exit(0)
        except BaseException:  # noqa: BLE001 (the edge of the child process)
            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"the child failed at step {last}: {status}"
    return status == 0


def _die_at(registry: Registry, last: int) -> None:
    num_steps = 0

    def step(name: str, *_: object) -> None:
        nonlocal num_steps
        if name in STEPS:
            num_steps += 1
            if num_steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        step("fsync")
        real_fsync(fd)

    setattr(os, "fsync", fsync)  # noqa: B010 (in the child, which dies with it)
    event.listen(registry.database.engine, "before_cursor_execute", lambda *_: step("sql"))
    event.listen(registry.database.engine, "commit", lambda *_: step("sql"))
    sys.addaudithook(lambda name, args: step(name))


def assert_sound(registry: Registry) -> None:
    """Nothing half-written: what the store holds verifies, what the catalogue names is there."""
    assert list((registry.store.root / "tmp").iterdir()) == []
    for digest in registry.store.digests():
        registry.store.verify(digest)
    for artifact in registry.artifacts():
        registry.verify(artifact.digest)
    for digest in registry.unregistered():
        registry.adopt(digest)
    for alias in registry.aliases():
        assert registry.alias_history(alias.name, alias.alias)[-1].digest == alias.digest
    registry.audit.verify()


@pytest.mark.parametrize(("prepare", "operation"), OPERATIONS)
def test_killed_at_any_step(sqlite_settings: Settings, prepare: Operation, operation: Operation) -> None:
    with Registry.open(sqlite_settings) as registry:
        last, is_done = 0, False
        while not is_done:
            last += 1
            prepare(registry, f"v{last}")
            is_done = run_until_step(sqlite_settings, operation, f"v{last}", last)
            registry.store.open()  # what every new process does first: sweep
            assert_sound(registry)
            registry.gc(grace_seconds=-1)  # or the steps of `collect` grow with what is left lying
        assert last > 10  # the steps were seen
        prepare(registry, "again")
        operation(registry, "again")
        assert_sound(registry)


class RefusingDisk:
    """Makes the n-th change of the disk fail with ENOSPC."""

    NAMES = ("open", "mkdir", "rename", "chmod", "fsync")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.remaining = -1
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._refusing(getattr(os, name)))

    def _refusing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.remaining -= 1
            if self.remaining == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call


@pytest.fixture
def refusing_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingDisk]:
    disk = RefusingDisk(monkeypatch)
    yield disk
    disk.remaining = -1


def test_disk_full_at_any_step(sqlite_settings: Settings, refusing_disk: RefusingDisk) -> None:
    with Registry.open(sqlite_settings) as registry:
        last = 0
        while (error := refused_at(last + 1, registry, refusing_disk)) is not None:
            last += 1
            assert "No space left" in error.message
            assert "free space" in error.remedy
            assert_sound(registry)
        assert last > 10
        assert len(registry.artifacts()) >= 1


def refused_at(last: int, registry: Registry, disk: RefusingDisk) -> StorageError | None:
    """Create an artifact while step `last` fails; None when there is no such step."""
    disk.remaining = last
    try:
        create(registry, f"v{last}")
    except StorageError as error:
        return error
    finally:
        disk.remaining = -1
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_really_full_store(small_disk: Path, tmp_path: Path) -> None:
    with Registry.open(Settings(home=tmp_path / "home", artifacts=str(small_disk))) as registry:
        kept = make_artifact(registry, "small")
        with pytest.raises(StorageError, match="No space left") as caught:
            make_artifact(registry, "x" * 2_000_000)
        assert "cairn artifact gc" in caught.value.remedy
        assert registry.artifacts() == [kept]
        assert_sound(registry)
        make_artifact(registry, "small again")


def test_really_full_database(small_disk: Path, tmp_path: Path) -> None:
    settings = Settings(home=small_disk / "home", artifacts=str(tmp_path / "artifacts"))
    with Registry.open(settings) as registry:
        kept = registry.audit.append("test", "me", "before")
        with pytest.raises(StorageError, match="full") as caught:
            registry.start_run(recipe="r", config={"text": "x" * 2_000_000})
        assert "free disk space" in caught.value.remedy
        assert registry.runs() == []
        assert registry.audit.entries() == [kept]
        registry.audit.append("test", "me", "after")
        assert registry.audit.verify() == 2


def test_everything_is_synced_before_it_gets_its_name(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry.open(sqlite_settings) as registry:
        synced: set[str] = set()
        renames: list[tuple[str, set[str]]] = []
        real_fsync, real_rename = os.fsync, os.rename

        def fsync(fd: int) -> None:
            synced.add(os.readlink(f"/proc/self/fd/{fd}"))
            real_fsync(fd)

        def rename(source: Path, target: Path) -> None:
            renames.append((str(source), set(synced)))
            real_rename(source, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        with registry.create("model") as writer:
            (writer.folder / "deep").mkdir()
            (writer.folder / "deep" / "a").write_text("a")
    [(source, before)] = renames
    assert {f"{source}{name}" for name in ("", "/deep", "/deep/a", "/manifest.json")} <= before
    assert str(writer.artifact.folder.parent) in synced


def test_a_living_writer_is_not_swept(sqlite_settings: Settings) -> None:
    with Registry.open(sqlite_settings) as registry, registry.create("model") as writer:
        (writer.folder / "a").write_text("a")
        with Registry.open(sqlite_settings):
            assert (writer.folder / "a").exists()
    with Registry.open(sqlite_settings) as registry:
        assert registry.get(writer.artifact.digest) == writer.artifact
