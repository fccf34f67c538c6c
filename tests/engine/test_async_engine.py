import asyncio
import threading

import pytest

from cairn.core import InvalidRequestError
from cairn.core.chat import SamplingParams
from cairn.core.errors import ContextLengthError, OverloadedError, UnavailableError
from cairn.engine import AsyncEngine, Engine, EngineConfig, EngineError, Request, TokenOutput, TokenStream
from tests.engine.fake_runner import FakeRunner
from tests.engine.gate import PATIENCE, GatedRunner
from tests.engine.naive import naive_generate

LONG = SamplingParams(temperature=0, max_tokens=40)


def _engine(runner: FakeRunner | None = None, **config: int) -> AsyncEngine:
    return AsyncEngine(Engine(runner or FakeRunner(), EngineConfig(block_size=4, num_blocks=64, **config)))


async def _tokens(stream: TokenStream) -> list[int | None]:
    return [output.token_id async for output in stream if isinstance(output, TokenOutput)]


async def test_many_streams_at_once() -> None:
    requests = [Request(f"r{i}", (i % 11, 3), LONG) for i in range(20)]
    with _engine(max_num_seqs=4) as engine:
        streams = [engine.generate(request) for request in requests]
        results = await asyncio.gather(*map(_tokens, streams))
    assert results == [naive_generate(request, 64)[0][0] for request in requests]


async def test_a_stream_ends_when_every_choice_has() -> None:
    with _engine() as engine:
        outputs = [o async for o in engine.generate(Request("a", (1, 2), SamplingParams(max_tokens=5, n=3)))]
    assert len(outputs) == 15


async def test_closing_a_stream_aborts_its_request() -> None:
    runner = GatedRunner()
    with _engine(runner) as engine:
        stream = engine.generate(Request("a", (1, 2), LONG))
        runner.allow(1)
        await anext(stream)
        await stream.aclose()
        runner.open()
        assert await engine.drain(10)
        assert engine.stats().num_used_blocks == 0
        assert engine.stats().num_generated_tokens < 40
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_dropped_stream_aborts_its_request() -> None:
    runner = GatedRunner()
    with _engine(runner) as engine:
        stream = engine.generate(Request("a", (1, 2), LONG))
        runner.allow(1)
        await anext(stream)
        del stream
        runner.open()
        assert await engine.drain(10)
        assert engine.stats().num_generated_tokens < 40


async def test_an_ended_stream_does_not_abort_the_next_of_its_name() -> None:
    with _engine() as engine:
        first = engine.generate(Request("a", (1, 2), LONG))
        outputs = [await anext(first) for _ in range(40)]
        second = engine.generate(Request("a", (1, 2), LONG))
        await first.aclose()
        assert await _tokens(second) == [o.token_id for o in outputs if isinstance(o, TokenOutput)]


async def test_invalid_requests_are_refused_at_once() -> None:
    with _engine() as engine:
        with pytest.raises(InvalidRequestError):
            engine.generate(Request("a", ()))
        with pytest.raises(ContextLengthError):
            engine.generate(Request("a", (1,) * 99))


async def test_a_full_queue_refuses_with_a_time() -> None:
    runner = GatedRunner()
    with _engine(runner, max_num_seqs=1, max_waiting=2) as engine:
        streams = [engine.generate(Request(f"r{i}", (1,), LONG)) for i in range(3)]
        with pytest.raises(OverloadedError, match="allowed: 2") as error:
            engine.generate(Request("late", (1,), LONG))
        assert error.value.retry_after is not None
        assert error.value.retry_after >= 1
        with pytest.raises(InvalidRequestError, match="already running"):
            engine.generate(Request("r0", (1,), LONG))
        runner.open()
        assert len(await asyncio.gather(*map(_tokens, streams))) == 3
        assert len(await _tokens(engine.generate(Request("late", (1,), LONG)))) == 40


async def test_a_flood_fills_its_own_part_of_the_queue() -> None:
    runner = GatedRunner()
    with _engine(runner, max_num_seqs=1, max_waiting=4) as engine:
        flood = [engine.generate(Request(f"f{i}", (1,), LONG, tenant="flood")) for i in range(5)]
        with pytest.raises(OverloadedError, match="4 requests are waiting, allowed: 4"):
            engine.generate(Request("f5", (1,), LONG, tenant="flood"))
        others = [engine.generate(Request(f"o{i}", (1,), LONG, tenant="other")) for i in range(3)]
        with pytest.raises(OverloadedError, match="2 requests are waiting, allowed: 2"):
            engine.generate(Request("o3", (1,), LONG, tenant="other"))
        heavy = Request("h", (1,), LONG, tenant="heavy", weight=2)
        runner.open()
        assert len(await asyncio.gather(*map(_tokens, [*flood, *others, engine.generate(heavy)]))) == 9


async def test_a_request_on_its_way_into_the_engine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine(max_num_seqs=1, max_waiting=0)
    taken, may_go_on = threading.Event(), threading.Event()
    add_request = engine.engine.add_request

    def slowly(request: Request) -> None:
        taken.set()
        assert may_go_on.wait(PATIENCE)
        add_request(request)

    monkeypatch.setattr(engine.engine, "add_request", slowly)
    with engine:
        stream = engine.generate(Request("a", (1, 2), LONG))
        assert taken.wait(PATIENCE)
        try:
            with pytest.raises(OverloadedError):
                engine.generate(Request("late", (1, 2), LONG))
        finally:
            may_go_on.set()
        assert len(await _tokens(stream)) == 40


async def test_draining_finishes_what_runs_and_refuses_the_rest() -> None:
    runner = GatedRunner()
    with _engine(runner) as engine:
        stream = engine.generate(Request("a", (1, 2), LONG))
        assert not await engine.drain(0.01)
        assert not engine.is_healthy
        with pytest.raises(UnavailableError, match="shutting down"):
            engine.generate(Request("b", (1, 2), LONG))
        runner.open()
        assert await engine.drain(10)
        assert len(await _tokens(stream)) == 40


async def test_stopping_ends_open_streams_with_an_error() -> None:
    runner = GatedRunner()
    engine = _engine(runner)
    with pytest.raises(UnavailableError, match="not started"):
        engine.generate(Request("a", (1, 2), LONG))
    engine.start()
    stream = engine.generate(Request("a", (1, 2), LONG))
    stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
    while engine.is_healthy:
        await asyncio.sleep(0)
    runner.allow(1)  # the step under way, and no other
    with pytest.raises(UnavailableError, match="stopped"):
        await _tokens(stream)
    await stopping
    with pytest.raises(UnavailableError, match="stopped"):
        engine.generate(Request("b", (1, 2), LONG))


async def test_a_failed_step_fails_its_streams_and_the_engine_goes_on() -> None:
    runner = FakeRunner()
    runner.fail_next = 1
    with _engine(runner) as engine:
        with pytest.raises(EngineError, match="on fire"):
            await _tokens(engine.generate(Request("a", (1, 2), LONG)))
        assert engine.is_healthy
        assert len(await _tokens(engine.generate(Request("b", (1, 2), LONG)))) == 40


async def test_an_engine_that_keeps_failing_says_so_and_never_hangs() -> None:
    runner = FakeRunner()
    runner.fail_next = 99
    with _engine(runner, max_num_seqs=1) as engine:
        streams = [engine.generate(Request(f"r{i}", (1, 2), LONG)) for i in range(5)]
        results = await asyncio.gather(*map(_tokens, streams), return_exceptions=True)
        assert all(isinstance(result, EngineError) for result in results)
        assert not engine.is_healthy
        with pytest.raises(UnavailableError):
            engine.generate(Request("late", (1, 2), LONG))
