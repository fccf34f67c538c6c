import itertools
import sys
import time

import pytest

from cairn.core import Silent, console_progress


def test_silent_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Silent().task("work", 10) as task:
        task.advance(5)
        task.note("half")
    assert capsys.readouterr() == ("", "")


def test_piped_progress_is_sparse_lines_with_an_eta(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=6)  # each look at the clock is six seconds later
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    shown = console_progress()
    with shown.task("packing", 100) as task:
        task.advance(10)  # 6 s: too soon for a line
        task.note("loss 2.0")
        task.advance(15)  # 12 s: a line
    shown.say("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["packing: 25% in 12 s, eta 36 s loss 2.0", "done"]


def test_no_time_is_left_beyond_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=11)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with console_progress().task("packing", 1.0) as task:
        task.advance(1.1)
    assert "eta 0 s" in capsys.readouterr().err


def test_what_an_earlier_process_did_says_nothing_about_the_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=12)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with console_progress().task("train", 100) as task:
        task.resume(50)
        task.advance(10)
    assert capsys.readouterr().err == "train: 60% in 12 s, eta 48 s\n"


def test_bars_open_and_close_with_their_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = console_progress()
    with shown.task("outer", 2) as outer, shown.task("inner") as inner:
        outer.resume(1)
        outer.advance()
        inner.note("n")
    with shown.task("again", 1) as task:
        task.advance()
    shown.say("kept")
    assert "kept" in capsys.readouterr().err
