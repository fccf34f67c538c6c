"""Checkpoints: whole or not at all, verified on load, the one before when the last is damaged."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import IntegrityError, StorageError, UnsupportedModelError
from cairn.training.checkpoints import (
    Checkpoint,
    checkpoint_folders,
    load_checkpoint,
    load_latest_checkpoint,
    save_checkpoint,
)


def make(value: float) -> Checkpoint:
    return Checkpoint(
        model={"a": torch.full((3, 2), value), "b": torch.arange(5, dtype=torch.bfloat16)},
        optimizer={"a/step": torch.tensor(value), "a/empty": torch.zeros(0)},
        state={"run": {"step": int(value)}},
    )


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, step, make(step), keep=keep)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = load_checkpoint(tmp_path / "step-00000003")
    expected = make(3)
    for ours, theirs in ((found.model, expected.model), (found.optimizer, expected.optimizer)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    assert found.state == expected.state


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 10)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-00000003", "step-00000010"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest_checkpoint(tmp_path / "none", pytest.fail) is None


@settings(max_examples=40, deadline=None)
@given(file=st.sampled_from(["model.safetensors", "optimizer.safetensors", "state.json"]), data=st.data())
def test_any_changed_byte_is_found_and_the_one_before_used(
    tmp_path_factory: pytest.TempPathFactory, file: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    save(folder, 1, 2)
    path = folder / "step-00000002" / file
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    said: list[str] = []
    found = load_latest_checkpoint(folder, said.append)
    assert found is not None
    assert found.state == make(1).state
    assert len(said) == 1
    assert "step-00000002" in said[0]
    assert file in said[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "model.safetensors").unlink(),
        lambda path: os.truncate(path / "optimizer.safetensors", 20),
    ],
    ids=["no manifest", "half a manifest", "another manifest", "no weights", "truncated"],
)
def test_missing_and_truncated_files_are_damage(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    save(tmp_path, 1)
    damage(tmp_path / "step-00000001")
    with pytest.raises(IntegrityError, match="step-00000001"):
        load_checkpoint(tmp_path / "step-00000001")
    with pytest.raises(IntegrityError, match="every checkpoint") as raised:
        load_latest_checkpoint(tmp_path, lambda _: None)
    assert "remove that folder" in raised.value.remedy


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    manifest = tmp_path / "step-00000001" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    with pytest.raises(UnsupportedModelError, match="has format 2, this version reads 1"):
        load_checkpoint(tmp_path / "step-00000001")


@pytest.mark.parametrize("call", range(6))
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    save(tmp_path, 1)
    real, calls = os.fsync, iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    # The sixth call syncs the folder after the rename: the new checkpoint is there, but not for certain.
    with pytest.raises(StorageError, match="No space left on device") as raised:
        save(tmp_path, 2)
    assert "free some space" in raised.value.remedy
    assert not list(tmp_path.glob(".writing-*"))
    monkeypatch.undo()
    found = load_latest_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert found.state == make(2 if call == 5 else 1).state
    save(tmp_path, 2)
    assert len(checkpoint_folders(tmp_path)) == 2


def test_leftovers_of_a_killed_write_are_cleared(tmp_path: Path) -> None:
    (tmp_path / ".writing-step-00000009").mkdir(parents=True)
    (tmp_path / ".writing-step-00000009" / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / "state.json").write_text("{}")
    save(tmp_path, 2)
    assert load_checkpoint(tmp_path / "step-00000002").state == make(2).state
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
