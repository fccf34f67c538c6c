"""The database: migrations, locks, snapshots, and what it says when it cannot."""

import json
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError as ConstraintError

from cairn.core import ConfigError, IntegrityError, MissingExtraError, Settings, StorageError
from cairn.registry import Base, Database, Registry, migrations
from cairn.registry.database import head_revision, revisions
from cairn.registry.tables import AuditHeadRow
from tests.registry.conftest import PATIENCE, run_together


@pytest.fixture
def database(registry: Registry) -> Database:
    return registry.database


def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    import cairn.retrieval.graph.tables  # (these declare their tables on the same Base)
    import cairn.retrieval.space_tables
    import cairn.retrieval.tables
    import cairn.server.conversations.attachments.tables
    import cairn.server.conversations.tables
    import cairn.server.prompts.tables
    import cairn.server.responses.tables
    import cairn.server.tables
    import cairn.server.usage.tables  # noqa: F401
    from cairn.jobs.tables import JobsBase

    declared: Any = [Base.metadata, JobsBase.metadata]
    with database.engine.connect() as connection:
        # Each database's own full-text index: SQLAlchemy has no word for it.
        is_declared = lambda name, kind, _parents: kind != "table" or not name.startswith("search_terms")  # noqa: E731
        opts = {"compare_type": True, "include_name": is_declared}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, declared) == []


def test_revisions_are_one_numbered_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__ or "").parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [head_revision()]
    assert [each.revision for each in script.walk_revisions()][::-1] == list(revisions())
    assert list(revisions()) == [f"{i:04}" for i in range(1, len(revisions()) + 1)]


def test_a_current_database_is_left_alone(settings: Settings, registry: Registry) -> None:
    statements: list[str] = []
    again = Database(settings.sqlalchemy_url)
    from sqlalchemy import event

    event.listen(again.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    again.migrate()
    again.close()
    assert not [s for s in statements if "CREATE" in s or "pg_advisory" in s or "IMMEDIATE" in s]


def open_one(settings: Settings, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait()
    with Registry.open(settings) as registry:
        registry.audit.append("opened", "me", "x")


def test_processes_that_open_a_new_home_at_once(settings: Settings) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4, timeout=PATIENCE)
    processes = [context.Process(target=open_one, args=(settings, barrier)) for _ in range(4)]
    run_together(processes)
    with Registry.open(settings) as registry:
        assert registry.audit.verify() == 4


def test_a_newer_database_is_refused(settings: Settings, registry: Registry) -> None:
    with registry.database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="revision 9999") as caught:
        Registry.open(settings)
    assert "newer Cairn" in caught.value.remedy


def test_a_failed_migration_leaves_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    settings.home.mkdir(parents=True)
    database = Database(settings.sqlalchemy_url)
    with monkeypatch.context() as patch:
        patch.setattr("alembic.operations.Operations.create_index", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            database.migrate()
    database.migrate()
    with database.session(read_only=True) as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == head_revision()
    database.close()


def _migrate_to(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__ or "").parent))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_names_become_their_owners_and_nothing_goes_with_the_old_table(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    database = Database(settings.sqlalchemy_url)
    _migrate_to(database, "0007")
    kept = {
        "vector_spaces": "(space_id, embedder, dimensions) VALUES (1, 'sha256:e', 2)",
        "artifacts": "VALUES ('sha256:a', 'file', 1, '{}', NULL, 1, 1)",
        "collections": "VALUES ('vs_1', 'house', 'ann', '{\"reranked\": 7}', '[\"everyone\"]', 1, 1.5)",
        "documents": "VALUES ('file-1', 'vs_1', 'a.md', 'd', 'sha256:a', 't', 'm', 1, 0, '[]', 'ready', "
        "'[]', 1, '[]', 1)",
        "vector_stores": "VALUES ('vs_1', 'house', '', '{}', NULL, 1)",
        "files": "VALUES ('file-2', 'ann', 'b.md', 'assistants', 1, 'sha256:a', 1)",
        "vector_store_files": "VALUES ('vs_1', 'file-2', 'file-3', 'b.md', '', '{}', '{}', 'in_progress', "
        "'', '', 1)",
    }
    new = "VALUES (:id, 'house', :owner, '{}', '[]', NULL, 1)"
    with database.engine.begin() as connection:
        for table, row in kept.items():
            connection.exec_driver_sql(f"INSERT INTO {table} {row}")
        before = _rows(connection, kept)
    database.migrate()
    with database.engine.begin() as connection:
        after = _rows(connection, kept)
        assert {each: [row[: len(before[each][0])] for row in rows] for each, rows in after.items()} == before
        connection.execute(text(f"INSERT INTO collections {new}"), {"id": "vs_2", "owner": "bob"})
    for wrong in (
        text(f"INSERT INTO collections {new}").bindparams(id="vs_3", owner="ann"),
        text("DELETE FROM collections WHERE collection_id = 'vs_1'"),  # a document refers to it
    ):
        with pytest.raises(ConstraintError), database.engine.begin() as connection:
            connection.execute(wrong)
    database.close()


def test_users_become_members_and_sessions_are_kept(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    database = Database(settings.sqlalchemy_url)
    _migrate_to(database, _before("identity"))
    with database.engine.begin() as connection:
        for statement in (
            """INSERT INTO users VALUES ('admin', '["admin", "user"]', 1), ('ada', '["user"]', 2)""",
            "INSERT INTO keys VALUES ('k1', 'ada', 'hash', 3, NULL)",
            "INSERT INTO sessions VALUES ('0123456789abcdefgh', 'ada', 10, 30)",
        ):
            connection.exec_driver_sql(statement)
    database.migrate()
    with database.session(read_only=True) as session:
        found = session.execute(text("SELECT user_id, roles FROM users ORDER BY user_id")).all()
        roles = [json.loads(held) if isinstance(held, str) else held for _, held in found]
        assert roles == [["member"], ["admin", "member"]]
        assert session.execute(text("SELECT name, scopes, expires_at FROM keys")).one() == ("", None, None)
        kept = "SELECT session_id, idle_seconds, ends_at, last_seen_at FROM sessions"
        assert session.execute(text(kept)).one() == ("0123456789abcdef", 20, 30, 10)
    database.close()


def _before(name: str) -> str:
    """The revision before the one of a name."""
    files = (Path(migrations.__file__ or "").parent / "versions").glob(f"0*_{name}.py")
    (found,) = (path.name.split("_")[0] for path in files)
    return revisions()[revisions().index(found) - 1]


def _rows(connection: Connection, tables: Iterable[str]) -> dict[str, list[tuple[Any, ...]]]:
    found = {each: connection.exec_driver_sql(f"SELECT * FROM {each}") for each in tables}
    return {each: [tuple(row) for row in rows] for each, rows in found.items()}


def test_a_reader_sees_one_snapshot(database: Database) -> None:
    with database.session(read_only=True) as reader:
        assert reader.get(AuditHeadRow, 1) is None
        with database.writing() as writer:
            writer.execute(insert(AuditHeadRow).values(head_id=1, count=0, hash=""))
        assert reader.scalars(select(AuditHeadRow)).all() == []
    with database.session(read_only=True) as reader:
        assert reader.get(AuditHeadRow, 1) is not None


def test_an_error_rolls_back(database: Database) -> None:
    def fail() -> None:
        with database.writing() as session:
            session.add(AuditHeadRow(head_id=1, count=0, hash=""))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    with database.session(read_only=True) as session:
        assert session.get(AuditHeadRow, 1) is None


def test_sqlite_is_set_up_for_safety(sqlite_settings: Settings) -> None:
    with Registry.open(sqlite_settings) as registry, registry.database.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000}


def test_only_what_says_so_does_not_wait_for_the_disk(database: Database) -> None:
    query = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"
    found = {}
    for is_synced in (True, False, True):
        with database.session(is_synced=is_synced) as session:
            found[is_synced] = session.scalar(text(query))
    assert found == ({True: 2, False: 1} if database.is_sqlite else {True: "on", False: "off"})


def test_a_locked_database_is_told(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cairn.registry.database._BUSY_SECONDS", 0)
    with Registry.open(sqlite_settings) as registry, registry.database.writing():
        with pytest.raises(StorageError, match="locked") as caught:
            registry.audit.append("x", "y", "z")
        assert "another process" in caught.value.remedy


def test_a_damaged_file_is_told(sqlite_settings: Settings) -> None:
    sqlite_settings.home.mkdir()
    (sqlite_settings.home / "cairn.db").write_text("this is no database" * 100)
    with pytest.raises(IntegrityError, match="not a database") as caught:
        Registry.open(sqlite_settings)
    assert "verify --all --repair" in caught.value.remedy


def test_a_catalogue_can_be_made_again_from_the_folders(sqlite_settings: Settings) -> None:
    with Registry.open(sqlite_settings) as registry:
        with registry.create("dataset") as parent:
            (parent.folder / "a").write_text("a")
        with registry.create("model", parents=[parent.artifact.digest]) as child:
            pass
    for path in sqlite_settings.home.glob("cairn.db*"):
        path.unlink()
    with Registry.open(sqlite_settings) as registry:
        assert registry.artifacts() == []
        for digest in registry.unregistered():
            registry.adopt(digest)
        assert {artifact.digest for artifact in registry.artifacts()} == {
            parent.artifact.digest,
            child.artifact.digest,
        }
        assert registry.lineage(child.artifact.digest).missing == ()


@pytest.mark.parametrize("url", ["mysql://localhost/x", "nonsense", "oracle://x"])
def test_urls_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="CAIRN_DATABASE_URL") as caught:
        Registry.open(Settings(home=tmp_path, database_url=url))
    assert "postgresql://" in caught.value.remedy


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    url = f"postgresql://nobody@/nothing?host={tmp_path}"
    with pytest.raises(StorageError, match="refused") as caught:
        Registry.open(Settings(home=tmp_path, database_url=url))
    assert "server runs" in caught.value.remedy


def test_postgres_without_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match="Postgres") as caught:
        Registry.open(Settings(home=tmp_path, database_url="postgresql://localhost/x"))
    assert "cairn[postgres]" in caught.value.remedy


def test_a_read_only_file_is_told(sqlite_settings: Settings) -> None:
    with Registry.open(sqlite_settings) as registry:
        with registry.database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
            connection.rollback()
        with pytest.raises(StorageError, match="readonly") as caught:
            registry.audit.append("x", "y", "z")
        assert "may write there" in caught.value.remedy


def test_a_mark_changes_with_each_change_and_with_no_other(sqlite_settings: Settings) -> None:
    with Registry.open(sqlite_settings) as registry, Registry.open(sqlite_settings) as elsewhere:
        seen = [registry.database.mark_of("stones")]
        for _ in range(3):
            with elsewhere.database.writing(marks="stones"):
                assert elsewhere.database.mark_of("stones") == seen[-1]
            seen.append(registry.database.mark_of("stones"))
        assert len(set(seen)) == 4
        with elsewhere.database.writing(marks="sand"):
            pass
        with pytest.raises(KeyError), elsewhere.database.writing(marks="stones"):
            raise KeyError
        assert registry.database.mark_of("stones") == seen[-1]


def test_a_full_disk_marks_too(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open(sqlite_settings) as registry:
        with registry.database.writing(marks="stones"):
            pass
        seen = registry.database.mark_of("stones")

        def full(*_: object) -> None:
            raise OSError(28, "no space left on device")

        monkeypatch.setattr("builtins.open", full)
        registry.database._mark("stones")
        assert registry.database.mark_of("stones") != seen
