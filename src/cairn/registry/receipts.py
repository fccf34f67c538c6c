"""Receipts: what made an answer. Enough to make the same tokens again from the same artifact."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from cairn.core.ids import random_hex
from cairn.registry.tables import ReceiptRow

_BODY = (
    "prompt_token_ids",
    "sampling",
    "outputs",
    "finish_reasons",
    "runner",
    "request",
    "adapter",
    "trace_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The record of one reply. `sampling` is a `SamplingParams` as a dict, its seed always concrete."""

    receipt_id: str
    created_at: float
    kind: Literal["chat", "completion", "reading"]
    """`reading`: words of a passage, found by a reader; nothing was generated."""
    model: str
    """The name that was asked for."""
    artifact: str
    """The digest that answered."""
    prompt_token_ids: list[int] = field(hash=False)
    sampling: Mapping[str, Any] = field(hash=False)
    outputs: list[list[int]] = field(hash=False)
    """Token ids of each choice."""
    finish_reasons: list[str] = field(hash=False)
    runner: Mapping[str, Any] = field(hash=False)
    """Name, dtype and versions of what computed it."""
    user_id: str
    request: Mapping[str, Any] = field(hash=False)
    """Messages and tools of a chat as JSON; may be empty."""
    adapter: str = ""
    """The digest of the low-rank adapter that took part; empty: none."""
    trace_id: str = ""
    """Of the trace of its making, which may be gone by now; empty: none was made."""


def new_receipt_id() -> str:
    """A fresh id; ids sort by the time they were made."""
    return f"rcpt_{int(time.time() * 1000):011x}{random_hex(13)}"


def save(session: Session, receipts: Sequence[Receipt]) -> None:
    """Record receipts, in one statement; one that is there already stays."""
    table: Any = ReceiptRow.__table__  # of the class, each row would pass through the mapper
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    session.execute(
        dialect.insert(table).on_conflict_do_nothing(index_elements=["receipt_id"]),
        [
            {
                "receipt_id": receipt.receipt_id,
                "created_at": receipt.created_at,
                "kind": receipt.kind,
                "model": receipt.model,
                "artifact": receipt.artifact,
                "user_id": receipt.user_id,
                "body": {name: getattr(receipt, name) for name in _BODY},
            }
            for receipt in receipts
        ],
    )


def find(session: Session, receipt_id: str) -> Receipt | None:
    """A receipt, where there is one."""
    row = session.get(ReceiptRow, receipt_id)
    return None if row is None else _to_receipt(row)


def line_of(receipt: Receipt) -> dict[str, Any]:
    """A receipt as a journal's line holds it."""
    return {"receipt": {each.name: getattr(receipt, each.name) for each in fields(receipt)}}


def of_lines(lines: Iterable[Mapping[str, Any]]) -> dict[str, Receipt]:
    """The receipts among a journal's lines, by id."""
    found = [Receipt(**line["receipt"]) for line in lines if "receipt" in line]
    return {receipt.receipt_id: receipt for receipt in found}


def listing(session: Session, limit: int) -> list[Receipt]:
    """The newest receipts, newest first."""
    query = select(ReceiptRow).order_by(ReceiptRow.created_at.desc(), ReceiptRow.receipt_id.desc())
    return [_to_receipt(row) for row in session.scalars(query.limit(limit))]


def _to_receipt(row: ReceiptRow) -> Receipt:
    kind: Any = row.kind
    return Receipt(
        receipt_id=row.receipt_id,
        created_at=row.created_at,
        kind=kind,
        model=row.model,
        artifact=row.artifact,
        user_id=row.user_id,
        **row.body,
    )
