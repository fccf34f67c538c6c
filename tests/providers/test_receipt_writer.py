"""Receipts written together: all are stored, and a failure is everybody's whose receipt was in it."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cairn.core.errors import StorageError
from cairn.providers.receipt_writer import ReceiptWriter
from cairn.registry import Receipt

ONE = Receipt(
    receipt_id="rcpt_0",
    created_at=1.0,
    kind="chat",
    model="way",
    artifact="",
    prompt_token_ids=[],
    sampling={},
    outputs=[[]],
    finish_reasons=["stop"],
    runner={},
    user_id="ann",
    request={},
)


async def test_who_waits_shares_the_next_transaction() -> None:
    batches: list[list[str]] = []
    gate = threading.Event()

    def save(receipts: Sequence[Receipt]) -> None:
        assert gate.wait(60)
        batches.append([receipt.receipt_id for receipt in receipts])

    writer = ReceiptWriter(save)
    tasks = [asyncio.create_task(writer.save(replace(ONE, receipt_id=f"rcpt_{n}"))) for n in range(9)]
    await asyncio.sleep(0)
    late = asyncio.create_task(writer.save(replace(ONE, receipt_id="rcpt_9")))
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    gate.set()
    await asyncio.gather(*tasks, late)
    assert sorted(each for batch in batches for each in batch) == [f"rcpt_{n}" for n in range(10)]
    assert len(batches) <= 3


async def test_a_full_disk_is_told_to_each_and_the_next_try_is_a_new_one() -> None:
    failures = [StorageError("the disk is full")]

    def save(_receipts: Sequence[Receipt]) -> None:
        if failures:
            raise failures.pop()

    writer = ReceiptWriter(save)
    found = await asyncio.gather(writer.save(ONE), writer.save(ONE), return_exceptions=True)
    assert [type(each) for each in found] == [StorageError, StorageError]
    await writer.save(ONE)


async def test_one_who_leaves_takes_nobody_s_receipt_along() -> None:
    stored: list[str] = []

    def save(receipts: Sequence[Receipt]) -> None:
        stored.extend(receipt.receipt_id for receipt in receipts)

    writer = ReceiptWriter(save)
    leaving, staying = (asyncio.create_task(writer.save(replace(ONE, receipt_id=each))) for each in "ab")
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert stored == ["a", "b"]
