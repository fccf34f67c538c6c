"""Saved prompts. Migrations: the registry's history."""

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class PromptRow(Base):
    """A text with variables, of one person; shared ones are everybody's to use."""

    __tablename__ = "prompts"

    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    content: Mapped[str] = mapped_column(Text)
    is_shared: Mapped[bool]
    created_at: Mapped[float]
    updated_at: Mapped[float]
