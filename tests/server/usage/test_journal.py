"""What was noted and not stored: it is there after the process is gone, once."""

import os
from pathlib import Path

from cairn.registry import Registry
from cairn.server.usage import journal
from cairn.server.usage.journal import Journal, left_behind
from cairn.server.usage.ledger import Ledger
from tests.server.usage.conftest import entry, rows


def killed(made: Journal) -> None:
    """What the end of a process does to a journal."""
    if made._file is not None:
        os.close(made._file.fd)
    os.close(made._lock_fd)


def test_a_line_is_left_until_its_row_is_there(tmp_path: Path) -> None:
    made = Journal(tmp_path / "j")
    assert not (tmp_path / "j").exists()
    made.note("a", {"n": 1})
    made.note("b", {"n": 2})
    made.note("b", {"n": 3})
    assert list(left_behind(tmp_path / "j")) == []  # its process lives
    made.settle(["a"])
    killed(made)
    ((_, lines),) = left_behind(tmp_path / "j")
    assert {line["usage_id"]: line["n"] for line in lines} == {"a": 1, "b": 3}


def test_files_go_when_nothing_in_them_is_needed(tmp_path: Path) -> None:
    made = Journal(tmp_path)
    for number in range(10 * journal._MOST_LINES):
        made.note(str(number), {})
        if number >= 100:
            made.settle([str(number - 100)])
    assert len(list(tmp_path.glob("*/*.jsonl"))) <= 2
    made.settle(map(str, range(10 * journal._MOST_LINES)))
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    made = Journal(tmp_path)
    made.note("a", {"n": 1})
    (path,) = tmp_path.glob("*/*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"usage_id":"b","n"')
    killed(made)
    ((_, lines),) = left_behind(tmp_path)
    assert [line["usage_id"] for line in lines] == ["a"]


def test_the_next_ledger_stores_what_was_noted_once(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    first = Ledger(registry.database, journal=folder)
    stored, noted = entry("stored", prompt_tokens=3), entry("noted", prompt_tokens=5, groups=frozenset({"x"}))
    first.note(stored)
    first.note(noted)
    first.put(stored)
    first.flush()
    assert first._journal is not None
    killed(first._journal)
    following = Ledger(registry.database, journal=folder)
    assert following.recover() == 2  # of one file, one of which has its row
    assert following.recover() == 0
    assert [(row.usage_id, row.prompt_tokens, row.num_requests) for row in rows(registry)] == [
        ("noted", 5, 1),
        ("stored", 3, 1),
    ]
    assert rows(registry)[0].groups == "\nx\n"
    assert list(folder.iterdir()) == []
    following.close()
