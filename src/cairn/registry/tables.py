"""The catalogue's tables (SQLAlchemy 2). Other rooms declare theirs on the same `Base`.

Times are Unix seconds. Every change here needs a file in `migrations/versions`; a test compares the two.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of every table; constraint names follow one rule so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a plain attribute)
        dict[str, Any]: JSON,
        list[str]: JSON,
        float: Double,
    }


class ArtifactRow(Base):
    """An artifact that is in the store. `manifest` is the canonical JSON whose SHA-256 is the digest."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str | None]
    created_at: Mapped[float]
    touched_at: Mapped[float]
    """When it was last made or reused; collection spares what was touched within the grace period."""


class ParentRow(Base):
    """An edge of the lineage. The parent need not be here: an import may come without its ancestors."""

    __tablename__ = "artifact_parents"

    child: Mapped[str] = mapped_column(ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True)
    parent: Mapped[str] = mapped_column(primary_key=True, index=True)


class ArtifactUseRow(Base):
    """Something outside the registry that needs an artifact, such as a document of a collection."""

    __tablename__ = "artifact_uses"

    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), primary_key=True)
    user: Mapped[str] = mapped_column(primary_key=True)
    """Who needs it: `document <id>`."""


class AliasRow(Base):
    """Where `name:alias` points now."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    updated_at: Mapped[float]


class AliasMoveRow(Base):
    """One move of an alias; `previous` is null when it was new, `digest` is null when it was removed."""

    __tablename__ = "alias_moves"
    __table_args__ = (Index("ix_alias_moves_name_alias", "name", "alias"),)

    move_id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    alias: Mapped[str]
    previous: Mapped[str | None]
    digest: Mapped[str | None]
    actor: Mapped[str]
    moved_at: Mapped[float]


class RunRow(Base):
    """A build or one stage of it."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[str]
    stage: Mapped[str]
    key: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(index=True)
    started_at: Mapped[float] = mapped_column(index=True)
    finished_at: Mapped[float | None]
    config: Mapped[dict[str, Any]]
    inputs: Mapped[list[str]]
    output: Mapped[str | None]
    error: Mapped[str] = mapped_column(Text)
    parent_id: Mapped[str | None] = mapped_column(index=True)
    pid: Mapped[int]


class ReceiptRow(Base):
    """What made an answer; `body` holds the token ids, the sampling and the request."""

    __tablename__ = "receipts"

    receipt_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(index=True)
    kind: Mapped[str]
    model: Mapped[str]
    artifact: Mapped[str] = mapped_column(index=True)
    user_id: Mapped[str] = mapped_column(index=True)
    body: Mapped[dict[str, Any]]


class AuditRow(Base):
    """One entry of the audit log; `details` is canonical JSON, because its bytes are hashed."""

    __tablename__ = "audit_entries"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float]
    action: Mapped[str]
    actor: Mapped[str]
    subject: Mapped[str]
    details: Mapped[str] = mapped_column(Text)
    hash: Mapped[str]


class AuditHeadRow(Base):
    """How many entries there are and the hash of the last: a tail cut off no longer fits it."""

    __tablename__ = "audit_head"

    head_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]
