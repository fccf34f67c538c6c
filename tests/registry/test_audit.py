"""The audit log: a chain that shows every change, concurrent writers included."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from cairn.core import IntegrityError, InvalidRequestError, Settings
from cairn.registry import AuditHead, AuditQuestion, Registry, audit_csv, audit_jsonl
from cairn.registry.tables import AuditHeadRow, AuditRow


@pytest.fixture
def log(registry: Registry) -> Registry:
    for i in range(5):
        registry.audit.append("test", "ann", f"subject {i}", {"i": i, "text": "ü\n"})
    return registry


def change(registry: Registry, statement: Any) -> None:
    with registry.database.session() as session:
        session.execute(statement)
        session.commit()


def test_entries(log: Registry) -> None:
    assert log.audit.verify() == 5
    entries = log.audit.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[2].details == {"i": 2, "text": "ü\n"}
    assert log.audit.head() == AuditHead(5, entries[-1].hash)


def asked(registry: Registry, **given: Any) -> list[int]:
    question = AuditQuestion(**given)
    found, total = registry.audit.page(question, limit=100)
    numbers = [entry.seq for entry in found]
    assert total == len(numbers)
    assert numbers == sorted(numbers, reverse=True)
    assert [entry.seq for entry in registry.audit.matching(question)] == numbers[::-1]
    return numbers


def test_what_is_asked_for(log: Registry) -> None:
    log.audit.append("key.create", "eve", "100%", {"user": "Ann"})
    log.audit.append("key_x", "eve", "100x", {})
    first, last = log.audit.entries()[0], log.audit.entries()[-1]
    assert asked(log) == [7, 6, 5, 4, 3, 2, 1]
    assert asked(log, actor="eve") == [7, 6]
    assert asked(log, action="key.create") == asked(log, action="key.*") == [6]
    assert asked(log, subject="subject 3") == [4]
    assert asked(log, subject="subject") == []
    assert asked(log, text="ANN") == [6, 5, 4, 3, 2, 1]  # an actor, or in the details
    assert asked(log, text="0%") == [6]  # no wildcard
    assert asked(log, text='"i":3') == [4]
    assert asked(log, after=5, actor="eve") == [7, 6]
    assert asked(log, since=last.at) == [7]
    assert asked(log, until=first.at) == []
    assert asked(log, since=first.at, until=last.at, actor="ann") == [5, 4, 3, 2, 1]


def test_pages(log: Registry) -> None:
    pages = [log.audit.page(AuditQuestion(), limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [([entry.seq for entry in found], total) for found, total in pages] == [
        ([5, 4], 5),
        ([3, 2], 5),
        ([1], 5),
        ([], 5),
    ]
    assert log.audit.names() == (["ann"], ["test"])


def test_files_hold_everything(log: Registry) -> None:
    log.audit.append("=1+1", "@eve", "-x", {"a": [1, None]})
    lines = "".join(audit_jsonl(log.audit.matching(AuditQuestion()))).splitlines()
    assert [json.loads(line) for line in lines] == [entry.plain() for entry in log.audit.entries()]
    rows = list(csv.DictReader(io.StringIO("".join(audit_csv(log.audit.matching(AuditQuestion()))))))
    assert [int(row["seq"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert json.loads(rows[2]["details"]) == {"i": 2, "text": "ü\n"}
    assert (rows[5]["action"], rows[5]["actor"], rows[5]["subject"]) == ("'=1+1", "'@eve", "'-x")


def test_a_log_longer_than_a_piece_is_whole(registry: Registry) -> None:
    with registry.database.writing() as session:
        for i in range(2100):
            registry.audit.append_in(session, "test", "ann", str(i))
    assert registry.audit.verify() == 2100
    question = AuditQuestion()
    assert [entry.seq for entry in registry.audit.matching(question)] == list(range(1, 2101))
    for write in (audit_jsonl, audit_csv):
        lines = "".join(write(registry.audit.matching(question))).splitlines()
        assert len(lines) == 2100 + (write is audit_csv)


def test_where_it_breaks_is_told(log: Registry) -> None:
    at = [entry.at for entry in log.audit.entries()]
    assert log.audit.examine().problem == ""
    change(log, update(AuditRow).where(AuditRow.seq == 3).values(actor="eve"))
    found = log.audit.examine()
    assert (found.count, found.broken, found.broken_at, found.good_until) == (2, 3, at[2], at[1])
    change(log, delete(AuditRow).where(AuditRow.seq == 3))
    found = log.audit.examine()
    assert (found.broken, found.broken_at, found.good_until) == (3, None, at[1])
    change(log, delete(AuditRow).where(AuditRow.seq > 2))
    found = log.audit.examine()
    assert (found.count, found.broken, found.good_until) == (2, 3, at[1])
    change(log, update(AuditHeadRow).values(count=2))
    assert log.audit.examine().broken == 2  # not the one that its head names


def test_an_empty_log_is_whole(registry: Registry) -> None:
    assert registry.audit.verify() == 0
    assert registry.audit.head() == AuditHead(0, "0" * 64)


@pytest.mark.parametrize(
    "values",
    [{"actor": "eve"}, {"subject": "x"}, {"action": "x"}, {"at": 1.5}, {"details": "{}"}, {"hash": "0" * 64}],
)
def test_a_changed_entry_is_named(log: Registry, values: dict[str, object]) -> None:
    change(log, update(AuditRow).where(AuditRow.seq == 3).values(**values))
    with pytest.raises(IntegrityError, match="audit entry 3 is changed"):
        log.audit.verify()


def test_a_removed_entry_is_named(log: Registry) -> None:
    change(log, delete(AuditRow).where(AuditRow.seq == 3))
    with pytest.raises(IntegrityError, match="audit entry 3 is missing"):
        log.audit.verify()


def test_swapped_entries_are_noticed(log: Registry) -> None:
    change(log, update(AuditRow).where(AuditRow.seq == 2).values(seq=99))
    change(log, update(AuditRow).where(AuditRow.seq == 3).values(seq=2))
    change(log, update(AuditRow).where(AuditRow.seq == 99).values(seq=3))
    with pytest.raises(IntegrityError, match="audit entry 2 is changed"):
        log.audit.verify()


def test_a_cut_tail_is_noticed(log: Registry) -> None:
    change(log, delete(AuditRow).where(AuditRow.seq >= 4))
    with pytest.raises(IntegrityError, match="audit entry 4 is missing: the log ends at 3, its head says 5"):
        log.audit.verify()


def test_a_log_emptied_but_for_its_head_is_noticed(log: Registry) -> None:
    change(log, delete(AuditRow))
    with pytest.raises(IntegrityError, match="audit entry 1 is missing"):
        log.audit.verify()


def test_a_forged_tail_is_noticed_by_the_noted_head(log: Registry) -> None:
    noted = log.audit.head()
    third = log.audit.entries()[2]
    change(log, delete(AuditRow).where(AuditRow.seq > 3))
    change(log, update(AuditHeadRow).values(count=3, hash=third.hash))
    assert log.audit.verify() == 3  # chain and head agree: from inside it looks whole
    with pytest.raises(IntegrityError, match=r"audit entry 4 is missing.*the head noted was 5"):
        log.audit.verify(noted)
    for _ in range(2):
        log.audit.append("forged", "eve", "x")
    assert log.audit.verify() == 5
    with pytest.raises(IntegrityError, match="replaced since the head was noted"):
        log.audit.verify(noted)


def test_a_noted_head_stays_good_while_the_log_grows(log: Registry) -> None:
    noted = AuditHead.parse(str(log.audit.head()))
    log.audit.append("more", "ann", "x")
    assert log.audit.verify(noted) == 6


@pytest.mark.parametrize("value", ["", "5", "x:" + "0" * 64, "5:abc"])
def test_heads_that_are_none(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a head"):
        AuditHead.parse(value)


def test_a_missing_head_record_is_noticed(log: Registry) -> None:
    change(log, text("DELETE FROM audit_head"))
    with pytest.raises(IntegrityError, match="its head says 0"):
        log.audit.verify()


def test_concurrent_writers_make_one_chain(settings: Settings, registry: Registry) -> None:
    def write(writer: int) -> None:
        with Registry.open(settings) as mine:
            for i in range(8):
                mine.audit.append("test", f"writer {writer}", str(i))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert registry.audit.verify() == 32
    for writer in range(4):
        mine = [e.subject for e in registry.audit.entries() if e.actor == f"writer {writer}"]
        assert mine == [str(i) for i in range(8)]


def test_an_entry_goes_with_its_transaction(registry: Registry) -> None:
    with registry.database.session() as session:
        registry.audit.append_in(session, "test", "ann", "rolled back")
        session.rollback()
    assert registry.audit.verify() == 0
