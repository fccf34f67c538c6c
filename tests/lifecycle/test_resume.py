"""Builds that are killed, starved, or not alone end with the artifacts of one that was left in peace."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cairn.core import Settings, StorageError
from cairn.lifecycle import BuildResult, build, load_recipe, stage_statuses
from cairn.registry import Registry

from .conftest import Built

BUILD = """
import sys
from pathlib import Path
from cairn.core import Settings
from cairn.lifecycle import build
from cairn.registry import Registry
with Registry.open(Settings(home=Path(sys.argv[2]))) as registry:
    print(build(Path(sys.argv[1]), registry, predict=False).model.digest)
"""

DIE = """
import os, signal
from cairn.training import Trainer
step = Trainer.train_step
def train_step(self):
    if self.state.step == 7:
        os.kill(os.getpid(), signal.{signal})
    return step(self)
Trainer.train_step = train_step
"""


def start(code: str, recipe: Path, home: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(recipe), str(home)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said_by(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Its output and errors; one that does not end is killed, nothing runs on behind the tests."""
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()


def digests(result: BuildResult) -> dict[str, str]:
    return {outcome.stage: outcome.artifact.digest for outcome in result.outcomes}


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_ends_the_same(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "home"
    killed = start(DIE.format(signal="SIGKILL") + BUILD, built.recipe_path, home)
    said_by(killed)
    assert killed.returncode == -signal.SIGKILL
    with Registry.open(Settings(home=home)) as registry:
        said: list[str] = []
        result = build(built.recipe_path, registry, _Says(said), predict=False)
        runs = [run for run in registry.runs(100) if run.stage == "pretrain"]
    assert digests(result) == digests(built.result)
    assert [run.status for run in runs] == ["succeeded", "interrupted"]
    assert "pretrain: going on where an earlier build stopped" in said
    assert "resumed at step 6 of 12" in said


@pytest.mark.slow
def test_interrupted_it_is_recorded_and_can_go_on(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "home"
    stopped = start(DIE.format(signal="SIGINT") + BUILD, built.recipe_path, home)
    _, errors = said_by(stopped)
    assert "KeyboardInterrupt" in errors
    recipe = load_recipe(built.recipe_path)
    with Registry.open(Settings(home=home)) as registry:
        runs = {run.stage: run.status for run in registry.runs(100)}
        found = {each.stage: each for each in stage_statuses(recipe, built.recipe_path, registry)}
    assert runs["pretrain"] == runs[""] == "interrupted"
    assert found["pack"].status == "cached"
    assert found["pretrain"].why == "interrupted before, goes on where it stopped"


@pytest.mark.slow
def test_two_builds_at_once_share_the_work(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "home"
    both = [start(BUILD, built.recipe_path, home) for _ in range(2)]
    outputs = [said_by(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {output.strip() for output, _ in outputs} == {built.result.model.digest}
    with Registry.open(Settings(home=home)) as registry:
        runs = [run for run in registry.runs(100) if run.stage]
    assert len(runs) == len(built.result.outcomes)
    assert {run.status for run in runs} == {"succeeded"}


def test_a_full_disk_loses_nothing(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cairn.lifecycle import train

    def no_room(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Registry.open(Settings(home=tmp_path / "home")) as registry:
        with monkeypatch.context() as patched:
            patched.setattr(train, "save_trained", no_room)
            with pytest.raises(StorageError, match="disk is full") as caught:
                build(built.recipe_path, registry, predict=False)
        assert "run the same command again" in caught.value.remedy
        assert {run.stage for run in registry.runs(100) if run.status == "failed"} == {"", "pretrain"}
        said: list[str] = []
        result = build(built.recipe_path, registry, _Says(said), predict=False)
    assert digests(result) == digests(built.result)
    assert "resumed at step 12 of 12" in said


class _Says:
    """A progress that keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def task(self, label: str, total: float | None = None) -> Any:
        from cairn.core import Silent

        return Silent().task(label, total)

    def say(self, text: str) -> None:
        self._said.append(text)
