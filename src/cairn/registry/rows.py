"""Many rows in one statement.

SQLAlchemy makes the statement once. The rows go past it to the driver, for what it does with the parameters
of each takes longer than what the database does; so values are what the driver takes, and JSON is text.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

Writer = Callable[[Session, Iterable[tuple[Any, ...]]], None]


def row_writer(table: Table, columns: Sequence[str], on_conflict: Callable[[Any], Any]) -> Writer:
    """What stores rows of these columns, which are all that the table has.

    `on_conflict` completes the database's own insert and binds no parameters.
    """
    on_sqlite = on_conflict(sqlite.insert(table)).compile(dialect=sqlite.dialect())
    arranged = itemgetter(*(columns.index(name) for name in on_sqlite.positiontup))
    text = str(on_sqlite)
    texts: dict[str, str] = {}

    def write(session: Session, rows: Iterable[tuple[Any, ...]]) -> None:
        connection = session.connection()
        dialect = connection.dialect
        if dialect.name == "sqlite":
            connection.exec_driver_sql(text, list(map(arranged, rows)))
            return
        if dialect.driver not in texts:
            texts[dialect.driver] = str(on_conflict(postgresql.insert(table)).compile(dialect=dialect))
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        connection.exec_driver_sql(texts[dialect.driver], named)

    return write
