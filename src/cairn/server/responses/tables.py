"""What is kept of responses. Migrations: the registry's history."""

from typing import Any

from sqlalchemy import JSON, Index
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class ResponseRow(Base):
    """A response of one user with the items it was asked with; what was said before is in the one before."""

    __tablename__ = "responses"
    __table_args__ = (Index("ix_responses_created_at", "created_at"),)

    response_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    previous_id: Mapped[str | None]
    created_at: Mapped[float]
    input: Mapped[list[Any]] = mapped_column(JSON)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The response as it was answered, without the quotes of documents, which may be closed one day."""
