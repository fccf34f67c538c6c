"""Tables in terminals of every width."""

import json
import re
import sys

import pytest

from cairn.cli.output import print_json, print_table

DIGEST = "sha256:" + "0123456789abcdef" * 4
ROWS = [
    {"digest": DIGEST, "kind": "model", "about": "a small model of two books for children", "size": 7},
    {"digest": DIGEST, "kind": "corpus", "about": "", "size": 12},
]
COLUMNS = ("digest", "kind", "about", "size")


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(ROWS, COLUMNS, empty="nothing")
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [140, 100, 70, 60, 40, 30, 20])
def test_nothing_is_wider_than_the_terminal_and_no_digest_is_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(width, monkeypatch, capsys)
    digest = DIGEST if width == 140 else "0123456789ab"
    assert sum(digest in line.split() for line in lines) == len(ROWS)
    assert max(map(len, lines)) <= width or width < 60
    text = " ".join(" ".join(lines).split())
    assert all(word in text for word in ("model", "corpus", "children", "12"))


def test_a_narrow_terminal_gets_a_line_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(34, monkeypatch, capsys)
    assert lines[:4] == [
        "digest  0123456789ab",
        "kind    model",
        "about   a small model of two books for children",
        "size    7",
    ]


def test_json_is_whole_and_says_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"digest": DIGEST, "loss": float("nan"), "rates": (1.0, float("inf"))}])
    assert json.loads(capsys.readouterr().out) == [{"digest": DIGEST, "loss": None, "rates": [1.0, None]}]
