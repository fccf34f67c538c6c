"""Tables of what was used and of what may be. Migrations: the registry's history.

Money is in millionths of the currency's unit, prices in those per million tokens. Times are Unix seconds.
"""

from sqlalchemy import BigInteger, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from cairn.registry import Base


class UsageRow(Base):
    """A request; refused ones of one minute that are alike are one row."""

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_hour", "hour"),
        Index("ix_usage_user", "user_id", "at"),
        Index("ix_usage_key", "key_id", "at"),
    )

    usage_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[float]
    """When it came."""
    hour: Mapped[int]
    """The same in whole hours, to sum up by."""
    user_id: Mapped[str]
    key_id: Mapped[str]
    groups: Mapped[str] = mapped_column(Text)
    """The names of the user's groups then, each within line ends."""
    model: Mapped[str]
    """The name that was asked for."""
    target: Mapped[str]
    """Who answered; empty when nobody did."""
    endpoint: Mapped[str]
    num_requests: Mapped[int]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    saved_tokens: Mapped[int] = mapped_column(BigInteger)
    """What an answer that was given again did not take, and below what that would have cost."""
    saved_cost: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    prompt_price: Mapped[int] = mapped_column(BigInteger)
    cached_price: Mapped[int] = mapped_column(BigInteger)
    completion_price: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    first_token_seconds: Mapped[float | None]
    num_first: Mapped[int]
    """Requests that `first_token_seconds` is the sum of: one that began to answer is one."""
    latency_step: Mapped[int]
    """Where `seconds` stands on a scale of eighths of octaves, to find percentiles by."""
    outcome: Mapped[str]
    """`ok`, `aborted`, `failed`, `refused`."""
    code: Mapped[str]
    """Of the error, where there was one."""
    receipt_id: Mapped[str]


class LimitRow(Base):
    """A rule about how much may be used; its id follows from what it is about."""

    __tablename__ = "limits"

    limit_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    model: Mapped[str]
    metric: Mapped[str]
    window: Mapped[str]
    action: Mapped[str]
    amount: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[float]
    updated_by: Mapped[str]
