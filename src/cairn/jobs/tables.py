"""The tables of jobs (SQLAlchemy 2), on a base of their own. Migrations: the registry's history.

Times are Unix seconds.
"""

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class JobsBase(DeclarativeBase):
    """Base of these tables."""

    type_annotation_map = {dict[str, Any]: JSON, float: Double}  # noqa: RUF012 (SQLAlchemy reads it as a plain attribute)


class JobRow(JobsBase):
    """A job; ended ones stay, without the results of their items."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_owner", "kind", "owner", "created_at"),
        Index("ix_jobs_ended_at", "ended_at"),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner: Mapped[str]
    state: Mapped[str]
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    expires_at: Mapped[float]
    started_at: Mapped[float | None]
    finishing_at: Mapped[float | None]
    cancelled_at: Mapped[float | None]
    """When it was asked to end."""
    ended_at: Mapped[float | None]
    num_items: Mapped[int]
    num_done: Mapped[int]
    num_failed: Mapped[int]
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    worker: Mapped[str]
    """Who holds it; empty: nobody."""
    held_until: Mapped[float]


class ResultRow(JobsBase):
    """The result of an item of a job that has not ended."""

    __tablename__ = "job_results"

    job_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.job_id", name="fk_job_results_job_id_jobs"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    is_failure: Mapped[bool]
    value: Mapped[str] = mapped_column(Text)
