"""Residents under one budget: random requests from many users, and what must hold whatever they do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.errors import ConflictError, UnavailableError
from cairn.core.progress import Progress
from cairn.providers.residency import Loadable, NoRoomError, Residency
from cairn.providers.sizes import Size

PATIENCE = 60.0


@dataclass(eq=False)
class Stone:
    """A resident that knows who made it and whether it lies here."""

    name: str
    resident_bytes: int
    house: "House"
    is_healthy: bool = True
    is_closed: bool = False
    spare_bytes: int = 0

    def trim(self, num_bytes: int) -> int:
        freed = min(num_bytes, self.spare_bytes)
        self.spare_bytes -= freed
        self.resident_bytes -= freed
        return freed

    def grow(self, num_bytes: int, spare: int = 0) -> None:
        self.resident_bytes += num_bytes
        self.spare_bytes += spare

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True
        self.house.left.append(self.name)


@dataclass
class House:
    """Makes stones, and writes down who comes and goes. `gates` hold up a load until they are opened."""

    budget: int = 100
    came: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    gates: dict[str, threading.Event] = field(default_factory=dict)

    def loadable(self, name: str, weights: int, cache: int = 0) -> Loadable[Stone]:
        def load(cache_bytes: int, progress: Progress) -> Stone:
            with progress.task(f"laying {name}", 2) as task:
                task.advance()
                if name in self.gates:
                    assert self.gates[name].wait(PATIENCE)
                task.advance()
            if name in self.failing:
                raise UnavailableError(f"{name} is broken")
            self.came.append(name)
            return Stone(name, weights + cache_bytes, self)

        return Loadable(name, lambda: Size(weights, cache, cache, cache), load)

    @asynccontextmanager
    async def residency(self, **options: float) -> AsyncIterator[Residency[Stone]]:
        residency: Residency[Stone] = Residency(lambda: self.budget, **options)  # type: ignore[arg-type]
        try:
            yield residency
        finally:
            await residency.close()
            assert residency.held_bytes == 0
            assert sorted(self.came) == sorted(self.left)


async def until(holds: Callable[[], bool]) -> None:
    """Let the others go on until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0)


async def touch(residency: Residency[Stone], *loadables: Loadable[Stone]) -> None:
    for loadable in loadables:
        async with residency.use(loadable.name, loadable) as stone:
            assert stone.name == loadable.name


async def test_the_longest_unused_leaves() -> None:
    house = House()
    a, b, c = (house.loadable(name, 30, 10) for name in "abc")
    async with house.residency() as residency:
        await touch(residency, a, b, a, c)
        assert house.left == ["b"]
        assert [stone.name for stone in residency.residents()] == ["a", "c"]
        assert residency.held_bytes == 80
        await touch(residency, b)
        assert house.left == ["b", "a"]
        assert residency.departures == {"room": 2}
        assert residency.num_loads == 4


async def test_a_load_is_shared_by_all_who_wait_and_told() -> None:
    house = House(gates={"a": threading.Event()})
    a = house.loadable("a", 30)
    async with house.residency() as residency:
        waiting = [asyncio.create_task(touch(residency, a)) for _ in range(5)]
        await until(lambda: bool(residency.residences() and residency.residences()[0].note))
        (seen,) = residency.residences()
        assert (seen.state, seen.num_bytes, seen.num_users) == ("loading", 30, 5)
        assert seen.note.startswith("laying a: 50%")
        # Who leaves meanwhile takes nothing with him.
        waiting.pop().cancel()
        house.gates["a"].set()
        await asyncio.gather(*waiting)
        assert house.came == ["a"]
        assert residency.residences()[0].state == "loaded"


async def test_when_all_who_waited_have_left_it_stays_for_the_next() -> None:
    house = House(gates={"a": threading.Event()})
    async with house.residency() as residency:
        waiting = asyncio.create_task(touch(residency, house.loadable("a", 30)))
        await until(lambda: bool(residency.residences() and residency.residences()[0].note))
        waiting.cancel()
        house.gates["a"].set()
        await until(lambda: bool(residency.residents()))
        await touch(residency, house.loadable("a", 30))
        assert house.came == ["a"]


async def test_a_failed_load_is_told_to_all_and_harms_nobody() -> None:
    house = House(failing={"bad"})
    bad, good = house.loadable("bad", 60), house.loadable("good", 60)
    async with house.residency() as residency:
        found = await asyncio.gather(*(touch(residency, bad) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in found] == ["bad is broken"] * 3
        assert residency.num_failures == 1
        await touch(residency, good)
        async with residency.use("good", good):
            house.failing.clear()
            second = asyncio.create_task(touch(residency, bad))  # waits until the good one is free
            await until(lambda: any(each.state == "leaving" for each in residency.residences()))
            assert not second.done()
        await second
        assert house.left == ["good"]


async def test_what_cannot_fit_is_refused_with_numbers_before_anything_moves() -> None:
    house = House(budget=4_000_000_000)
    async with house.residency() as residency:
        await touch(residency, house.loadable("small", 2_000_000_000))
        with pytest.raises(NoRoomError) as caught:
            await touch(residency, house.loadable("big", 3_500_000_000, 800_000_000))
        assert caught.value.message == (
            "big needs 4.30 GB (weights 3.50 GB, key-value cache 800 MB), models may take 4.00 GB here"
        )
        assert "--memory" in caught.value.remedy
        assert (house.came, house.left) == (["small"], [])
        residency.pinned = {"small"}
        with pytest.raises(NoRoomError, match=r"of which pinned ones hold 2\.00 GB"):
            await touch(residency, house.loadable("other", 2_500_000_000))
        residency.pinned = set()
        await touch(residency, house.loadable("other", 2_500_000_000))
        assert house.left == ["small"]


async def test_nobody_keeps_another_out_by_being_busy() -> None:
    house = House()
    a, b = house.loadable("a", 80), house.loadable("b", 80)
    async with house.residency() as residency, AsyncExitStack() as busy:
        await busy.enter_async_context(residency.use("a", a))
        second = asyncio.create_task(touch(residency, b))
        await until(lambda: residency.residences()[0].state == "leaving")
        # Another request for the busy one comes too late: it waits behind the load.
        third = asyncio.create_task(touch(residency, a))
        await asyncio.sleep(0)
        assert not second.done()
        await busy.aclose()
        await asyncio.gather(second, third)
        assert house.came == ["a", "b", "a"]


async def test_who_holds_one_and_waits_for_another_gets_an_answer() -> None:
    house = House()
    async with house.residency(patience=0.01) as residency:
        async with residency.use("a", house.loadable("a", 80)):
            with pytest.raises(UnavailableError, match=r"no room for b, and a stayed busy for 0\.01 s"):
                await touch(residency, house.loadable("b", 80))
        await touch(residency, house.loadable("b", 80))


async def test_an_unused_one_leaves_by_itself_but_for_the_pinned() -> None:
    house = House()
    async with house.residency(idle_seconds=0) as residency:
        residency.pinned = {"b"}
        await touch(residency, house.loadable("a", 10), house.loadable("b", 10))
        await until(lambda: residency.departures == {"idle": 1})
        assert house.left == ["a"]
        assert [stone.name for stone in residency.residents()] == ["b"]


async def test_unloading_by_hand_and_after_a_break() -> None:
    house = House()
    a = house.loadable("a", 10)
    async with house.residency() as residency:
        assert not await residency.unload("a")
        async with residency.use("a", a) as stone:
            with pytest.raises(ConflictError, match="answering 1 requests"):
                await residency.unload("a")
            stone.is_healthy = False
            async with residency.use("a", a) as fresh:
                assert fresh is not stone
                assert not stone.is_closed
        await until(lambda: residency.departures == {"broken": 1})
        assert stone.is_closed
        assert await residency.unload("a")
        assert residency.departures == {"broken": 1, "asked": 1}


async def test_closing_breaks_off_a_load() -> None:
    house = House(gates={"a": threading.Event()})
    async with house.residency() as residency:
        waiting = asyncio.create_task(touch(residency, house.loadable("a", 10)))
        await until(lambda: bool(residency.residences() and residency.residences()[0].note))
        closing = asyncio.create_task(residency.close())
        await asyncio.sleep(0)
        house.gates["a"].set()
        with pytest.raises(UnavailableError, match="broken off"):
            await waiting
        await closing
        assert house.came == []
        with pytest.raises(UnavailableError, match="shutting down"):
            await touch(residency, house.loadable("a", 10))


SIZES = {"a": (10, 5), "b": (30, 0), "c": (40, 20), "d": (55, 45), "e": (90, 30)}
Steps = st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, 4)), max_size=25)


@settings(deadline=None, max_examples=60)
@given(clients=st.lists(Steps, min_size=1, max_size=5), pinned=st.sampled_from(["", "a", "b"]))
def test_whatever_is_asked_the_budget_holds(clients: list[list[tuple[str, int]]], pinned: str) -> None:
    """Users at once, each asking for one stone after the other, holding it for some turns as it grows."""
    house = House()
    users: dict[str, int] = {}

    async def client(residency: Residency[Stone], steps: list[tuple[str, int]]) -> None:
        for name, turns in steps:
            try:
                async with residency.use(name, house.loadable(name, *SIZES[name])) as stone:
                    users[name] = users.get(name, 0) + 1
                    for _ in range(turns):
                        check(residency)
                        assert not stone.is_closed
                        assert stone.name == name
                        assert stone.resident_bytes == sum(SIZES[name]) + stone.spare_bytes
                        with suppress(NoRoomError, UnavailableError):
                            async with residency.growth(stone, 5 * turns):
                                await asyncio.sleep(0)
                                stone.grow(5 * turns, spare=5 * turns)
                        await asyncio.sleep(0)
                    users[name] -= 1
            except NoRoomError:
                # What a pinned one has grown by is the others' loss.
                assert name == "e" or (name in "cd" and pinned)

    def check(residency: Residency[Stone]) -> None:
        assert residency.held_bytes <= house.budget
        present = sum(SIZES[name][0] + SIZES[name][1] for name in house.came)
        gone = sum(SIZES[name][0] + SIZES[name][1] for name in house.left)
        assert present - gone <= house.budget

    async def run() -> None:
        async with asyncio.timeout(PATIENCE), house.residency() as residency:
            residency.pinned = {pinned}
            await asyncio.gather(*(client(residency, steps) for steps in clients))
            assert not any(users.values())
            assert pinned not in house.left
            check(residency)

    asyncio.run(run())


def test_how_a_cache_is_sized() -> None:
    size = Size(weights=100, least_cache=10, full_cache=40, most_cache=400)
    assert (size.least, size.wanted) == (110, 140)
    assert size.cache(110) == 10
    assert size.cache(120) == 20
    assert size.cache(160) == 40  # a full context, though it is more than half of what is left
    assert size.cache(300) == 100
    assert size.cache(10_000) == 400


async def test_who_grows_sends_the_idle_away_and_nobody_busy() -> None:
    house = House()
    a, b, c = (house.loadable(name, 30) for name in "abc")
    async with house.residency() as residency:
        await touch(residency, b, c)
        async with residency.use("a", a) as stone, residency.use("c", c):
            async with residency.growth(stone, 30):
                assert house.left == ["b"]
                assert residency.held_bytes == 90
                stone.grow(30)
            assert residency.held_bytes == 90
            with pytest.raises(UnavailableError, match="c is busy"):
                async with residency.growth(stone, 20):
                    pass
            with pytest.raises(
                NoRoomError, match="a and what it has loaded take 60 bytes and would take 50 bytes"
            ):
                async with residency.growth(stone, 50):
                    pass
            assert house.left == ["b"], "what is refused sends nobody away"


async def test_spare_parts_go_before_anybody_has_to() -> None:
    house = House()
    a, b, c = (house.loadable(name, 30) for name in "abc")
    async with house.residency() as residency:
        async with residency.use("a", a) as stone:
            stone.grow(20, spare=20)
        async with residency.use("b", b) as other:
            other.grow(10, spare=10)
            async with residency.growth(other, 15):
                assert (stone.resident_bytes, other.resident_bytes) == (45, 40)
                other.grow(15, spare=15)
        await touch(residency, c)
        assert (stone.resident_bytes, other.resident_bytes) == (30, 40)
        assert not house.left
        assert residency.held_bytes == 100


async def test_one_who_leaves_may_still_grow_while_it_is_used() -> None:
    house = House()
    a, b = house.loadable("a", 30), house.loadable("b", 80)
    async with house.residency() as residency:
        async with residency.use("a", a) as stone:
            waiting = asyncio.create_task(touch(residency, b))
            await until(lambda: any(each.state == "leaving" for each in residency.residences()))
            async with residency.growth(stone, 20):
                stone.grow(20)
        await waiting
        assert house.left == ["a"]
