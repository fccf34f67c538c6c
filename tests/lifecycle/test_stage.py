"""Keys, and what makes two of them differ."""

import threading
from pathlib import Path

from cairn.core import Settings
from cairn.lifecycle.slots import Slot, hold_slot
from cairn.lifecycle.stage import Recorded, differences


def test_a_key_depends_on_version_config_and_inputs() -> None:
    base = Recorded(1, {"a": 1, "b": [1, 2]}, {"data": "sha256:aa"})
    others = [
        Recorded(2, {"a": 1, "b": [1, 2]}, {"data": "sha256:aa"}),
        Recorded(1, {"a": 2, "b": [1, 2]}, {"data": "sha256:aa"}),
        Recorded(1, {"a": 1, "b": [2, 1]}, {"data": "sha256:aa"}),
        Recorded(1, {"a": 1, "b": [1, 2]}, {"data": "sha256:bb"}),
    ]
    assert len({base.key("x"), *(other.key("x") for other in others)}) == 5
    assert base.key("x") != base.key("y")
    assert base.key("x") == Recorded(1, {"b": [1, 2], "a": 1}, {"data": "sha256:aa"}).key("x")


def test_differences_name_each_leaf() -> None:
    before = {"config": {"rate": 0.1, "sources": [{"limit": 3}]}, "inputs": {"data": "sha256:" + "a" * 64}}
    now = {"config": {"rate": 0.2, "sources": [{"limit": 3}, {"limit": 4}]}, "inputs": {"data": "sha256:bb"}}
    assert differences(before, now) == [
        "config.rate: 0.1 -> 0.2",
        "config.sources[1].limit: nothing -> 4",
        f"inputs.data: {'a' * 12} -> bb",
    ]
    assert not differences(before, before)


def test_a_slot_hands_over_what_was_left(tmp_path: Path) -> None:
    old, new = tmp_path / "runs" / "old", tmp_path / "runs" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    slot = Slot(tmp_path)
    assert not slot.adopt(old)
    (old / "checkpoints").mkdir()
    (old / "checkpoints" / "step").write_text("7")
    (old / "owner.lock").touch()
    assert slot.adopt(new)
    assert (new / "checkpoints" / "step").read_text() == "7"
    assert (old / "owner.lock").exists()
    slot.clear()
    assert not slot.adopt(tmp_path / "runs" / "old")


def test_one_build_at_a_time_holds_a_slot(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    waited, done = threading.Event(), threading.Event()

    def second() -> None:
        with hold_slot(settings, "sha256:" + "0" * 64, waiting=waited.set):
            done.set()

    with hold_slot(settings, "sha256:" + "0" * 64, waiting=lambda: None):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert waited.wait(30)
        assert not done.is_set()
    thread.join(30)
    assert done.is_set()
