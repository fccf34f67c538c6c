"""The database behind the catalogue: SQLite in WAL mode by default, Postgres by URL.

Guarantees: a committed transaction survives a crash, that of a session with `is_synced=False` one of
this process but not of the machine; two processes that open a new database at once migrate it once; a disk
or server that refuses raises `StorageError`.
On SQLite a writing session takes the write lock when it begins, so that reading and then writing
cannot fail half-way; therefore never open a second writing session (or call a `Registry` method that
writes) inside one. Not covered: in-memory SQLite, other databases.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from cairn.core import (
    ConfigError,
    IntegrityError,
    MissingExtraError,
    StorageError,
    StorageUnavailableError,
)
from cairn.registry.locks import locked

Mark = tuple[int, int]
MARKED_SECONDS = 600.0
"""How long to go by a mark: a process may end between a change and the mark after it."""

_BUSY_SECONDS = 30
_LOG_PAGES = 1000  # SQLite's own number
_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Of connections to Postgres: a machine that is silently gone is noticed."""
_MIGRATION_LOCK, _WRITE_LOCK = 0x0CA1_0001, 0x0CA1_0002  # keys of Postgres advisory locks


class Database:
    """An engine, its sessions and its schema."""

    def __init__(self, url: str) -> None:
        self.engine = _make_engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # Postgres would otherwise show each statement a newer state.
        isolation = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self.engine.execution_options(read_only=True, **isolation)
        self._unsynced = self.engine.execution_options(is_synced=False)

    def session(self, *, read_only: bool = False, is_synced: bool = True) -> Session:
        """A session to use in `with`; commit what you write.

        `read_only=True` reads one snapshot and on SQLite waits for nobody. With `is_synced=False` a commit
        does not wait for the disk: the next one that does takes it along.
        """
        if read_only:
            return Session(self._reading, expire_on_commit=False)
        return Session(self.engine if is_synced else self._unsynced, expire_on_commit=False)

    def sync(self) -> None:
        """Wait until the disk has what was committed with `is_synced=False`; nobody else waits for it."""
        if self.is_sqlite:  # Postgres sees to it by itself, within a second
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def writing(self, *, marks: str = "") -> Iterator[Session]:
        """A session that writes alone, as on SQLite any does, and commits when the block ends well.

        `marks` is what others may remember of what is changed: see `mark_of`.
        """
        with self.session() as session:
            self.serialise(session)
            yield session
            if marks:
                self._mark(marks)  # should this process end before it can do so below
            session.commit()
        if marks:
            self._mark(marks)

    def serialise(self, session: Session) -> None:
        """Wait until no other `writing` session is open, and keep others waiting until this one ends."""
        if self.is_sqlite:
            session.connection()  # begins, and with that takes the write lock
        else:
            session.execute(text(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"))

    def mark_of(self, what: str) -> Mark | None:
        """Another one after each change that any process marked so; None where only the database can tell.

        What was read after it was asked for may be remembered while it stays, `MARKED_SECONDS` at most.
        """
        if not self.is_sqlite:
            return None
        try:
            found = os.stat(f"{self.engine.url.database}.{what}")
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _mark(self, what: str) -> None:
        if not self.is_sqlite:
            return
        path = f"{self.engine.url.database}.{what}"
        try:
            with open(path, "ab") as file:  # longer by one each time, whoever else does so now
                file.write(b".")
        except OSError:
            with suppress(OSError):  # the disk is full
                os.utime(path)

    def migrate(self) -> None:
        """Bring the schema to the newest revision; does nothing, quickly, when it is there already."""
        if self._is_current():
            return
        if not self.is_sqlite:
            with self.engine.begin() as connection:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                _upgrade(connection)
            return
        assert self.engine.url.database is not None
        with locked(Path(self.engine.url.database + ".lock")), self.engine.connect() as connection:
            # Both outside a transaction, or SQLite refuses. The first is kept in the file; the second lets a
            # table be made anew without what refers to it going with the old one.
            driver = cast("sqlite3.Connection", connection.connection.driver_connection)
            try:
                driver.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:  # past SQLAlchemy, which would ask `_explain`
                raise _refusal(error) from error
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    _upgrade(connection)
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                    assert broken is None, f"a migration left {broken} without what it refers to"
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def _is_current(self) -> bool:
        with self._reading.connect() as connection:
            return _revision(connection) == head_revision()


@cache
def revisions() -> tuple[str, ...]:
    """Revision ids of the migrations this version of Cairn knows, oldest first."""
    return tuple(sorted(path.name.split("_")[0] for path in (_MIGRATIONS / "versions").glob("0*.py")))


def head_revision() -> str:
    """The newest revision."""
    return revisions()[-1]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in revisions():
        raise StorageError(
            f"the database is at revision {found}, this Cairn knows up to {head_revision()}",
            remedy="a newer Cairn has used it: upgrade this one, or point CAIRN_HOME elsewhere",
        )
    return cast("str | None", found)


def _upgrade(connection: Connection) -> None:
    if _revision(connection) == head_revision():
        return  # another process was faster
    from alembic import command  # noqa: PLC0415 (costs 0.3 s, needed once)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _make_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if not is_sqlite and parsed.get_backend_name() != "postgresql":
            raise ArgumentError(f"{parsed.get_backend_name()} is not supported")
        engine = create_engine(
            parsed,
            connect_args={"timeout": _BUSY_SECONDS} if is_sqlite else _PATIENCE,
            pool_pre_ping=not is_sqlite,  # a server may have restarted since the last use
            json_serializer=_to_json,
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"CAIRN_DATABASE_URL cannot be used: {error}",
            remedy="allowed: sqlite:////absolute/path.db or postgresql://user:password@host/database",
        ) from None
    except ModuleNotFoundError:
        raise MissingExtraError("a Postgres catalogue", "postgres") from None
    event.listen(engine, "handle_error", _explain)
    if is_sqlite:
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    else:
        event.listen(engine, "begin", _on_postgres_begin)
    return engine


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own idea of when to begin is switched off, so that DDL is transactional too.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return
    if options.get("read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    is_synced = options.get("is_synced", True)
    # Moving the log into the file waits for the disk too: it is left to a commit that does so anyway.
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
    connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint={_LOG_PAGES if is_synced else 0}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _on_postgres_begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("is_synced", True):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")


def _explain(context: ExceptionContext) -> None:
    """Turn what the driver says about disk, locks and server into errors a person can act on."""
    original = context.original_exception
    said = _first_line(original)
    if isinstance(original, sqlite3.DatabaseError) and ("malformed" in said or "not a database" in said):
        raise IntegrityError(
            f"the catalogue's file is damaged: {said}",
            remedy="restore cairn.db, or move it away and run: cairn artifact verify --all --repair",
        ) from original
    is_operational = isinstance(context.sqlalchemy_exception, DBAPIError) and any(
        cls.__name__ == "OperationalError" for cls in type(original).__mro__
    )
    if is_operational:
        raise _refusal(original) from original


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _refusal(original: BaseException) -> StorageError:
    said = _first_line(original)
    kind, remedy = _kind_and_remedy(said, type(original).__name__)
    return kind(f"the database refused: {said}", remedy=remedy)


def _kind_and_remedy(said: str, name: str) -> tuple[type[StorageError], str]:
    if "full" in said or name == "DiskFull":
        return StorageError, "free disk space, then try again; what was committed before is safe"
    if "locked" in said:
        remedy = "another process holds the database: wait for it or stop it, then try again"
        return StorageUnavailableError, remedy
    if "readonly" in said or "unable to open" in said:
        return StorageError, "check that CAIRN_HOME exists and that this user may write there"
    if "disk I/O" in said:
        return StorageError, "check the disk that CAIRN_HOME lies on; what was committed before is safe"
    remedy = "check that the database server runs and that CAIRN_DATABASE_URL is right"
    return StorageUnavailableError, remedy
