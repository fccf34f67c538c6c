"""What is kept in memory under one budget: loaded when asked for, held while used, let go when idle.

A *resident* is anything with a size that can be closed: a chat model with its engine and key-value cache,
an embedder. Before a load its size is told from the files; the longest unused residents leave until it fits,
and what cannot fit is refused with numbers before anything is read. Nothing leaves while it is used: when
only busy residents are in the way, they take no new users, and go when their last one has ended. Whoever
asks for them meanwhile waits behind the load, so that no model keeps another one out for ever.

Weights that are mapped from disk count in full, like those in memory of our own: the kernel could drop their
pages, but every token reads all of them. Key-value caches count in full too, although their pages become real
only when written to. So what is promised never exceeds the budget. A resident may grow while it is used (by
adapters): it asks for the room first, idle ones leave for it, and it is refused where only busy ones could.

One event loop owns a `Residency`; loading and closing run in threads.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from cairn.compute.device import return_freed_memory
from cairn.core.errors import CairnError, ConflictError, UnavailableError
from cairn.core.progress import Progress, Silent
from cairn.providers.sizes import Size, gigabytes
from cairn.providers.watched import Watched

logger = logging.getLogger(__name__)

State = Literal["waiting", "loading", "loaded", "leaving"]
Reason = Literal["room", "idle", "asked", "broken", "closed"]


class Resident(Protocol):
    """What can be kept."""

    @property
    def resident_bytes(self) -> int:
        """Memory it takes, in all."""
        ...

    @property
    def spare_bytes(self) -> int:
        """Part of it that it does without, and `trim` frees."""
        ...

    def trim(self, num_bytes: int) -> int:
        """Free so many of its spare bytes, or all; how many that made."""
        ...

    @property
    def is_healthy(self) -> bool:
        """Whether it still answers; one that does not is closed and loaded again."""
        ...

    def close(self) -> None:
        """Let go of everything; its memory is free afterwards."""
        ...


R = TypeVar("R", bound=Resident)
Made_co = TypeVar("Made_co", bound=Resident, covariant=True)


class NoRoomError(CairnError):
    """A model that does not fit into the memory there is for models."""

    code = "model.no_room"
    http_status = 507


@dataclass(frozen=True, slots=True)
class Loadable(Generic[Made_co]):
    """How to make a resident: `measure` its size, then `load` it with so many bytes for its cache."""

    name: str
    measure: Callable[[], Size]
    load: Callable[[int, Progress], Made_co]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """A resident as others see it."""

    key: str
    name: str
    state: State
    num_bytes: int
    num_users: int
    note: str
    """How far its loading is."""
    last_used: float = 0.0
    """Seconds since 1970; 0: not known."""


@dataclass(slots=True, eq=False)
class _Slot(Generic[R]):
    """The life of one resident, from the first request for it until its memory is free."""

    key: str
    loadable: Loadable[R]
    loaded: "asyncio.Task[R]" = field(init=False)
    progress: Watched = field(init=False)
    resident: R | None = None
    reserved: int = 0
    """What it may come to take while it loads."""
    growth: int = 0
    """What it may come to take more while it is used."""
    num_users: int = 0
    last_used: float = 0.0
    expiry: asyncio.TimerHandle | None = None
    closing: "asyncio.Task[None] | None" = None

    @property
    def num_bytes(self) -> int:
        """What it takes now: a resident may grow (adapters) and shrink."""
        own = self.reserved if self.resident is None else self.resident.resident_bytes
        return own + self.growth


class Residency(Generic[R]):
    """Residents by key. `memory` says how many bytes they may take in all, measured anew at every load.

    `idle_seconds` after its last use a resident leaves by itself, None: only when others need the room;
    `pinned` keys never leave. A load waits `patience` seconds at most for busy residents to end.
    """

    def __init__(
        self,
        memory: Callable[[], int],
        *,
        idle_seconds: float | None = None,
        patience: float = 300.0,
        progress: Progress | None = None,
    ) -> None:
        self.pinned: set[str] = set()
        self.num_loads = self.num_failures = 0
        self.departures: Counter[Reason] = Counter()
        self._memory = memory
        self._idle_seconds = idle_seconds
        self._patience = patience
        self._progress = progress or Silent()
        self._slots: dict[str, _Slot[R]] = {}
        self._leaving: dict[_Slot[R], Reason] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._is_closed = False

    @asynccontextmanager
    async def use(self, key: str, loadable: Loadable[R]) -> AsyncIterator[R]:
        """The resident of a key, loaded when it is not yet there, and kept while the context is open."""
        slot = self._slots.get(key)
        if slot is not None and slot.resident is not None and not slot.resident.is_healthy:
            logger.error("%s broke; loading it again", slot.loadable.name)
            self._drop(slot, "broken")
            slot = None
        if slot is None:
            slot = self._begin(key, loadable)
        slot.num_users += 1
        if slot.expiry is not None:
            slot.expiry.cancel()
        try:
            yield await asyncio.shield(slot.loaded)
        finally:
            slot.num_users -= 1
            slot.last_used = time.monotonic()
            if not slot.num_users:
                self._became_idle(slot)

    @asynccontextmanager
    async def growth(self, resident: R, num_bytes: int) -> AsyncIterator[None]:
        """Room for a resident in use to take so many bytes more while the context is open.

        Who waits for it holds its own model, so nobody busy is waited for: two could wait for each other.
        """
        slot = next(each for each in (*self._slots.values(), *self._leaving) if each.resident is resident)
        while (missing := num_bytes - self._memory() + self.held_bytes) > 0:
            others = self._others(slot)
            idle = [other for other in others if not other.num_users]
            closing = [other for other in self._leaving if other.closing is not None]
            if missing > self._spare(idle) + sum(other.num_bytes for other in (*idle, *closing)):
                raise self._no_growth(slot, num_bytes, others)
            if self._trim(missing):
                continue
            if closing:
                await self._closed(closing[0])
            else:
                await self._drop_now(idle[0], "room")
        slot.growth += num_bytes
        try:
            yield
        finally:
            slot.growth -= num_bytes
            self._tell()

    async def unload(self, key: str, reason: Reason = "asked") -> bool:
        """Let a resident go now; False when there is none, `ConflictError` while it is used."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        if slot.num_users:
            raise ConflictError(
                f"{slot.loadable.name} is answering {slot.num_users} requests",
                remedy="try again when they have ended",
            )
        await self._drop_now(slot, reason)
        return True

    def residents(self) -> list[R]:
        """What is in memory and may be used."""
        return [slot.resident for slot in self._slots.values() if slot.resident is not None]

    def residences(self) -> list[Residence]:
        """Everything that takes or is about to take memory; what leaves comes first."""
        found = []
        clock = time.time() - time.monotonic()
        for slot in (*self._leaving, *self._slots.values()):
            state: State = "loaded" if slot.resident is not None else "loading"
            if slot in self._leaving:
                state = "leaving"
            elif slot.resident is None and not slot.num_bytes:
                state = "waiting"
            found.append(
                Residence(
                    key=slot.key,
                    name=slot.loadable.name,
                    state=state,
                    num_bytes=slot.num_bytes,
                    num_users=slot.num_users,
                    note=slot.progress.text if state == "loading" else "",
                    last_used=slot.last_used and clock + slot.last_used,
                )
            )
        return found

    @property
    def held_bytes(self) -> int:
        """What all residents take, those on their way in and out included."""
        return sum(slot.num_bytes for slot in (*self._slots.values(), *self._leaving))

    def memory(self) -> int:
        """Bytes that all residents together may take now."""
        return self._memory()

    async def close(self) -> None:
        """Let everything go, used or not."""
        self._is_closed = True
        self._tell()
        for slot in list(self._slots.values()):
            slot.progress.stop()
            self._drop(slot, "closed")
        await asyncio.gather(*(self._closed(slot) for slot in list(self._leaving)))

    # Coming in

    def _begin(self, key: str, loadable: Loadable[R]) -> _Slot[R]:
        if self._is_closed:
            raise _shutting_down()
        slot = self._slots[key] = _Slot(key, loadable)
        slot.progress = Watched(self._progress)
        slot.loaded = asyncio.create_task(self._load(slot))
        # Everybody who asked may have left; then nobody reads what became of it.
        slot.loaded.add_done_callback(lambda task: task.cancelled() or task.exception())
        return slot

    async def _load(self, slot: _Slot[R]) -> R:
        """Measure, make room, load. On any failure the slot is gone, and its users are told."""
        loadable = slot.loadable
        started = time.monotonic()
        try:
            size = await asyncio.to_thread(loadable.measure)
            # In turn: two loads that make room at once would take it from each other.
            async with self._turn:
                cache = await self._make_room(slot, size)
                slot.reserved = size.weights + cache
            resident = await asyncio.to_thread(loadable.load, cache, slot.progress)
        except BaseException:
            self.num_failures += 1
            slot.reserved = 0
            if self._slots.get(slot.key) is slot:
                del self._slots[slot.key]
            self._tell()
            raise
        self.num_loads += 1
        slot.resident = resident
        slot.last_used = time.monotonic()
        logger.info("loaded %s in %.1f s", loadable.name, time.monotonic() - started)
        self._tell()
        if not slot.num_users:
            self._became_idle(slot)  # whoever wanted it has left meanwhile
        return resident

    async def _make_room(self, slot: _Slot[R], size: Size) -> int:
        """Let others go until this one fits; the bytes it may take for its cache."""
        try:
            async with asyncio.timeout(self._patience):
                while not self._is_closed:
                    self._changed.clear()
                    left = self._memory() - self.held_bytes
                    others = self._others(slot)
                    ceiling = left + self._spare(others) + sum(other.num_bytes for other in others)
                    self._check_fits(slot, size, ceiling)
                    enough = max(size.least, min(size.wanted, ceiling))
                    if left >= enough:
                        return size.cache(left)
                    if self._trim(enough - left):
                        continue
                    if idle := [other for other in others if not other.num_users]:
                        await self._drop_now(idle[0], "room")
                        continue
                    if left >= size.least:
                        return size.cache(left)
                    if left + sum(other.num_bytes for other in self._leaving) < size.least:
                        self._drop(self._others(slot)[0], "room")
                    await self._changed.wait()
        except TimeoutError:
            busy = ", ".join(other.loadable.name for other in (*self._others(slot), *self._leaving))
            raise UnavailableError(
                f"there is no room for {slot.loadable.name}, and {busy} stayed busy for {self._patience:g} s",
                remedy="try again later, or give models more memory: cairn up --memory",
                retry_after=10,
            ) from None
        raise _shutting_down()

    def _others(self, slot: _Slot[R]) -> list[_Slot[R]]:
        """Who would make room for `slot`: what holds memory and may leave, the longest unused first."""
        others = [
            other
            for other in self._slots.values()
            if other is not slot and other.num_bytes and other.key not in self.pinned
        ]
        return sorted(others, key=lambda other: other.last_used)

    def _spare(self, others: Collection[_Slot[R]]) -> int:
        """What those who are not among `others` could do without."""
        return sum(
            slot.resident.spare_bytes
            for slot in self._slots.values()
            if slot.resident is not None and slot not in others
        )

    def _trim(self, num_bytes: int) -> int:
        """Free what residents do without, those first that are the longest unused; how much that made."""
        freed = 0
        for slot in sorted(self._slots.values(), key=lambda slot: slot.last_used):
            if slot.resident is not None and freed < num_bytes:
                freed += slot.resident.trim(num_bytes - freed)
        return freed

    def _no_growth(self, slot: _Slot[R], num_bytes: int, others: list[_Slot[R]]) -> CairnError:
        assert slot.resident is not None, "only what is loaded grows"
        pinned = sum(each.num_bytes for each in self._slots.values() if each.key in self.pinned - {slot.key})
        if num_bytes > self._memory() - slot.num_bytes + slot.resident.spare_bytes - pinned:
            return NoRoomError(
                f"{slot.loadable.name} and what it has loaded take {gigabytes(slot.num_bytes)} and would "
                f"take {gigabytes(num_bytes)} more, models may take {gigabytes(self._memory())} here",
                remedy="give models more memory (cairn up --memory), "
                "or keep weights in fewer bits (cairn up --weights int4)",
            )
        busy = ", ".join(other.loadable.name for other in others if other.num_users)
        return UnavailableError(
            f"there is no room for {gigabytes(num_bytes)} more beside {slot.loadable.name}"
            + (f", and {busy} is busy" if busy else ""),
            remedy="try again later, or give models more memory: cairn up --memory",
            retry_after=10,
        )

    def _check_fits(self, slot: _Slot[R], size: Size, ceiling: int) -> None:
        ceiling += sum(other.num_bytes for other in self._leaving)
        if size.least <= ceiling:
            return
        pinned = sum(other.num_bytes for other in self._slots.values() if other.key in self.pinned)
        raise NoRoomError(
            f"{slot.loadable.name} needs {gigabytes(size.least)} ({size.parts}), "
            f"models may take {gigabytes(self._memory())} here"
            + (f", of which pinned ones hold {gigabytes(pinned)}" if pinned else ""),
            remedy="keep its weights in fewer bits (cairn up --weights int4), free some memory, "
            "or give models more (cairn up --memory)",
        )

    # Going out

    def _became_idle(self, slot: _Slot[R]) -> None:
        self._tell()
        if slot in self._leaving:
            self._closed(slot)
        elif self._idle_seconds is not None and slot.resident is not None:
            loop = asyncio.get_running_loop()
            slot.expiry = loop.call_later(self._idle_seconds, self._expire, slot)

    def _expire(self, slot: _Slot[R]) -> None:
        if slot.key not in self.pinned:
            self._drop(slot, "idle")

    def _drop(self, slot: _Slot[R], reason: Reason) -> None:
        """Give a slot no new users; it is closed when the last one has ended."""
        if self._slots.get(slot.key) is slot:
            del self._slots[slot.key]
            self._leaving[slot] = reason
            if slot.expiry is not None:
                slot.expiry.cancel()  # it would hold on to the slot, and the slot to its resident
            if not slot.num_users:
                self._closed(slot)

    async def _drop_now(self, slot: _Slot[R], reason: Reason) -> None:
        """The same for one without users, until its memory is free."""
        self._drop(slot, reason)
        await self._closed(slot)

    def _closed(self, slot: _Slot[R]) -> "asyncio.Task[None]":
        """The closing of a slot, begun once."""
        if slot.closing is None:
            slot.closing = asyncio.create_task(self._close(slot))
        return slot.closing

    async def _close(self, slot: _Slot[R]) -> None:
        with suppress(Exception):
            await asyncio.shield(slot.loaded)  # a load under way cannot be broken off, only waited for
        if slot.resident is not None:
            slot.reserved = slot.resident.resident_bytes
            held, slot.resident = [slot.resident], None
            await asyncio.to_thread(_let_go, held)
        slot.reserved = 0
        reason = self._leaving.pop(slot)
        self.departures[reason] += 1
        logger.info("unloaded %s (%s)", slot.loadable.name, reason)
        self._tell()

    def _tell(self) -> None:
        """Wake the load that waits for room."""
        self._changed.set()


def _let_go(held: list[R]) -> None:
    """Close the one resident in `held`. The list is emptied: what runs this in a thread would keep it."""
    held.pop().close()
    return_freed_memory()


def _shutting_down() -> UnavailableError:
    return UnavailableError("the server is shutting down", remedy="try again shortly", retry_after=5)
