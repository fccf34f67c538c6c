"""What is kept of attachments. Migrations: the registry's history."""

from sqlalchemy import BigInteger, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class AttachmentRow(Base):
    """A file beside a message: its text, not its bytes."""

    __tablename__ = "attachments"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversations.id"), index=True)
    """Null until a message with it is stored."""
    filename: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    num_pages: Mapped[int]
    num_skipped: Mapped[int]
    """Pages of which nothing could be read."""
    num_tokens: Mapped[int]
    """As the model counts that it was attached for."""
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]
