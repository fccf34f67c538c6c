"""The audit log: a chain that shows every change, concurrent writers included."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from cairn.core import IntegrityError, InvalidRequestError, Settings
from cairn.registry import AuditHead, Registry
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
    assert [entry.seq for entry in log.audit.entries(2)] == [4, 5]
    assert [entry.seq for entry in log.audit.entries(2, after=1)] == [2, 3]
    assert [entry.seq for entry in log.audit.entries(2, after=0)] == [1, 2]
    assert log.audit.head() == AuditHead(5, entries[-1].hash)


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
