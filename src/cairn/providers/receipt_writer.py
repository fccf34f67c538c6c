"""Receipts of answers, written together: who waits while a transaction is under way shares the next.

An answer still ends only when its receipt is stored; what is saved is the commit and the thread of each.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cairn.registry import Receipt

SaveReceipt = Callable[[Receipt], Coroutine[Any, Any, None]]
"""Returns when a receipt is stored; raises what kept it from being."""


class ReceiptWriter:
    """Stores receipts in batches, in one event loop."""

    def __init__(self, save_all: Callable[[Sequence[Receipt]], None]) -> None:
        self._save_all = save_all
        self._waiting: list[tuple[Receipt, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def save(self, receipt: Receipt) -> None:
        """Return when it is stored; raise what kept it from being."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((receipt, stored))
        if self._task is None:
            self._task = asyncio.create_task(self._write())
        await stored

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write_batch(batch)
        finally:
            self._task = None

    async def _write_batch(self, batch: list[tuple[Receipt, asyncio.Future[None]]]) -> None:
        try:
            await asyncio.to_thread(self._save_all, [receipt for receipt, _ in batch])
        except Exception as error:  # noqa: BLE001 (raised again in each task that waits)
            for _, stored in batch:
                if not stored.done():
                    stored.set_exception(error)
        else:
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)
