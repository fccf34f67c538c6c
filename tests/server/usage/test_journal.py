"""What was noted and not stored: it is there after the process is gone, once."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cairn.core.errors import NotFoundError, StorageError
from cairn.registry import Receipt, Registry, journal
from cairn.registry.journal import FOLDER, Journal, left_behind
from cairn.registry.receipts import line_of
from cairn.server.usage.ledger import Ledger
from tests.server.usage.conftest import entry, rows


@pytest.fixture
def registry(either_registry: Registry) -> Registry:
    return either_registry


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
    assert {line["key"]: line["n"] for line in lines} == {"a": 1, "b": 3}


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
        file.write(b'{"key":"b","n"')
    killed(made)
    ((_, lines),) = left_behind(tmp_path)
    assert [line["key"] for line in lines] == ["a"]


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


RECEIPT = Receipt(
    receipt_id="rcpt_a",
    created_at=1.0,
    kind="chat",
    model="way",
    artifact="",
    prompt_token_ids=[1, 2],
    sampling={"temperature": 0.5},
    outputs=[[3]],
    finish_reasons=["stop"],
    runner={"name": "remote"},
    user_id="ann",
    request={"messages": [{"role": "user", "content": "a \ud800 and a \u0000"}]},
)


async def test_a_receipt_is_found_from_when_it_is_kept_on(registry: Registry) -> None:
    ledger = Ledger(registry.database, journal=registry.settings.home / FOLDER)
    made = [replace(RECEIPT, receipt_id=f"rcpt_{name}", created_at=at) for at, name in enumerate("abc")]
    registry.save_receipt(made[1])
    with registry.database.writing():  # while it is held, nothing can be stored
        await ledger.keep(made[0])
        await ledger.keep(made[2])
        with Registry.open(registry.settings) as elsewhere:
            assert [elsewhere.receipt(each.receipt_id) for each in made] == made
            assert elsewhere.receipts(2) == [made[2], made[1]]
            with pytest.raises(NotFoundError, match="no receipt rcpt_d"):
                elsewhere.receipt("rcpt_d")
    ledger.close()
    assert registry.receipts() == made[::-1]
    assert list((registry.settings.home / FOLDER).iterdir()) == []


async def test_the_next_ledger_stores_the_receipts_of_a_killed_one_once(registry: Registry) -> None:
    folder = registry.settings.home / FOLDER
    first = Ledger(registry.database, journal=folder)
    await first.keep(RECEIPT)
    first.flush()
    second = replace(RECEIPT, receipt_id="rcpt_b")
    assert first._journal is not None
    assert first._journal.note("rcpt_b", {"receipt": line_of(second)})
    killed(first._journal)
    following = Ledger(registry.database, journal=folder)
    assert following.recover() == 0  # requests that were counted; receipts count none
    assert sorted(each.receipt_id for each in registry.receipts()) == ["rcpt_a", "rcpt_b"]
    assert list(folder.iterdir()) == []


async def test_what_the_database_cannot_hold_keeps_nobody_else_waiting(registry: Registry) -> None:
    ledger = Ledger(registry.database)
    for each in (RECEIPT, replace(RECEIPT, receipt_id="rcpt_bad", model="\ud800")):
        await ledger.keep(each)
    ledger.put(entry("endless", prompt_tokens=2**70))
    ledger.put(entry("after"))
    ledger.close()
    assert [each.receipt_id for each in registry.receipts()] == ["rcpt_a"]
    assert [row.usage_id for row in rows(registry)] == ["after"]


async def test_an_answer_whose_receipt_the_disk_refuses_is_none(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(registry.database, journal=registry.settings.home / FOLDER)
    await ledger.keep(RECEIPT)
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data) // 2)
    with pytest.raises(StorageError, match="cannot be written"):
        await ledger.keep(replace(RECEIPT, receipt_id="rcpt_b"))
    monkeypatch.undo()
    ledger.close()
    assert registry.receipts() == [RECEIPT]
