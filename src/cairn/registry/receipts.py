"""Receipts: what made an answer. Enough to make the same tokens again from the same artifact."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from cairn.core.ids import random_hex
from cairn.registry.rows import row_writer
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


class ReceiptLine(NamedTuple):
    """A receipt as its table and a journal hold it."""

    receipt_id: str
    created_at: float
    kind: str
    model: str
    artifact: str
    user_id: str
    body: str
    """The rest, as JSON."""


_encode = json.JSONEncoder(allow_nan=False).encode
_write = row_writer(
    cast("Table", ReceiptRow.__table__),
    ReceiptLine._fields,
    lambda insert: insert.on_conflict_do_nothing(index_elements=["receipt_id"]),
)


def line_of(receipt: Receipt) -> ReceiptLine:
    """What there is to store of a receipt."""
    return ReceiptLine(
        receipt.receipt_id,
        receipt.created_at,
        receipt.kind,
        receipt.model,
        receipt.artifact,
        receipt.user_id,
        _encode({name: getattr(receipt, name) for name in _BODY}),
    )


def save(session: Session, lines: Iterable[ReceiptLine]) -> None:
    """Record receipts, in one statement; one that is there already stays."""
    _write(session, lines)


def find(session: Session, receipt_id: str) -> Receipt | None:
    """A receipt, where there is one."""
    row = session.get(ReceiptRow, receipt_id)
    return None if row is None else _to_receipt(row, row.body)


def of_lines(lines: Iterable[Mapping[str, Any]]) -> dict[str, ReceiptLine]:
    """The receipts among a journal's lines, by id."""
    found = [ReceiptLine(*line["receipt"]) for line in lines if "receipt" in line]
    return {line.receipt_id: line for line in found}


def listing(session: Session, limit: int) -> list[Receipt]:
    """The newest receipts, newest first."""
    query = select(ReceiptRow).order_by(ReceiptRow.created_at.desc(), ReceiptRow.receipt_id.desc())
    return [_to_receipt(row, row.body) for row in session.scalars(query.limit(limit))]


def read(line: ReceiptLine) -> Receipt:
    """The receipt of a line."""
    return _to_receipt(line, json.loads(line.body))


def _to_receipt(row: ReceiptRow | ReceiptLine, body: Mapping[str, Any]) -> Receipt:
    kind: Any = row.kind
    return Receipt(
        receipt_id=row.receipt_id,
        created_at=row.created_at,
        kind=kind,
        model=row.model,
        artifact=row.artifact,
        user_id=row.user_id,
        **body,
    )
