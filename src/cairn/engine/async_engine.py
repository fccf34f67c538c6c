"""The engine in a thread, its outputs as asyncio streams.

One thread steps the engine and owns it; coroutines of any event loop submit requests and read
streams. Closing a stream aborts its request. When too many requests of a tenant wait, a new one of it is
refused with `OverloadedError` and the time after which a place is expected. `max_waiting` is divided by
weight among the tenants with open requests, so a flood fills its own part and nobody else's.

A request that cannot go on ends with its error, alone. A failed step fails the streams of the
requests that were in it, and the engine goes on; after three in a row, or after an error outside a
batch, it reports unhealthy, fails what is left and refuses more. A stream ends, with an error if need
be: it never hangs.
"""

import asyncio
import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from cairn.core import CairnError, InvalidRequestError
from cairn.core.errors import OverloadedError, UnavailableError
from cairn.engine.engine import Engine, EngineError, EngineStats
from cairn.engine.sequence import FailedOutput, Request, SequenceOutput, StepOutput, TokenOutput

_log = logging.getLogger(__name__)
_MAX_FAILURES = 3
_SMOOTHING = 0.2

StreamItem = SequenceOutput | CairnError | None
"""An output; the error that ends the stream; None: the end."""


class TokenStream:
    """Outputs of one request, in order; an async iterator. `aclose` (or dropping it) aborts the request."""

    def __init__(self, engine: "AsyncEngine", request: Request) -> None:
        self.request = request
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._items: deque[StreamItem] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._reference = _Reference(self)
        self._is_closed = True  # until the engine has accepted it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SequenceOutput:
        while not (self._items or self._is_closed):
            self._waiter = self._loop.create_future()
            await self._waiter
        item = None if self._is_closed else self._items.popleft()
        if item is None or isinstance(item, CairnError):
            self._is_closed = True
            if item is not None:
                raise item
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Stop generating; does nothing once the stream has ended."""
        self._abort()
        # A reader that waits in another task must wake up.
        self._receive([None])

    def __del__(self) -> None:
        self._abort()

    def _abort(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._engine._abort(self._reference)

    def _receive(self, items: Sequence[StreamItem]) -> None:
        """Called in the reader's loop."""
        self._items.extend(items)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


Post = tuple[TokenStream, Sequence[StreamItem]]


def _deliver(posts: Sequence[Post]) -> None:
    for stream, items in posts:
        stream._receive(items)


class _Reference:
    """The engine's hold on a stream: weak, so that a stream nobody reads is dropped and aborted."""

    def __init__(self, stream: TokenStream) -> None:
        self.stream = weakref.ref(stream)
        self.request_id = stream.request.request_id
        self.tenant, self.weight = stream.request.tenant, stream.request.weight
        self.num_open = stream.request.sampling.n


class AsyncEngine:
    """An `Engine` that steps by itself. `start` it, `generate` from any coroutine, `drain` and `stop` it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._wake = threading.Condition()
        self._added: list[Request] = []
        self._aborted: list[_Reference] = []
        self._streams: dict[str, _Reference] = {}
        self._outbox: dict[asyncio.AbstractEventLoop, list[Post]] = {}
        self._thread: threading.Thread | None = None
        self._refusal = "the engine is not started"
        self._is_stopping = False
        self._idle = threading.Event()
        self._idle.set()
        self._num_failures = 0
        self._last_end = time.monotonic()
        self._seconds_per_request: float | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_healthy(self) -> bool:
        """Whether requests are taken."""
        return not self._refusal

    @property
    def seconds_per_request(self) -> float:
        """How often a request has ended lately, while there were any; 0 before the first."""
        return self._seconds_per_request or 0.0

    def start(self) -> None:
        """Start the thread that steps the engine."""
        assert self._thread is None, "the engine is started already"
        self._refusal = ""
        self._thread = threading.Thread(target=self._work, name="cairn-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step under way; open streams end with an error."""
        with self._wake:
            self._refusal = self._refusal or "the engine is stopped"
            self._is_stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuse new requests and wait for the running ones; whether they ended within `timeout` seconds."""
        self._refusal = self._refusal or "the engine is shutting down"
        return await asyncio.to_thread(self._idle.wait, timeout)

    def generate(self, request: Request) -> TokenStream:
        """Submit a request and read its outputs; refused at once when invalid or when the queue is full."""
        self.engine.validate(request)
        stream = TokenStream(self, request)
        with self._wake:
            if request.request_id in self._streams:
                raise InvalidRequestError(
                    f"request_id {request.request_id!r} is already running",
                    remedy="give every request its own id",
                )
            self._check_room(request.tenant, request.weight)
            stream._is_closed = False
            self._streams[request.request_id] = stream._reference
            self._added.append(request)
            self._idle.clear()
            self._wake.notify()
        return stream

    @asynccontextmanager
    async def use_adapter(
        self, adapter_id: str, folder: Path, room: Callable[[int], AbstractAsyncContextManager[None]]
    ) -> AsyncIterator[None]:
        """Keep an adapter loaded while the context is open; read from its folder when it is not there.

        `room` keeps so many bytes free for it while it comes in, or refuses them.
        """
        adapters, loop = self.engine.adapters, asyncio.get_running_loop()
        while (held := adapters.hold(adapter_id)) is None:
            async with AsyncExitStack() as stack:
                admit = partial(_wait_for_room, loop, stack, room)
                await asyncio.to_thread(adapters.load, adapter_id, folder, admit)
        try:
            yield
        finally:
            adapters.release(held)

    def check_room(self, tenant: str, weight: float) -> None:
        """Raise what `generate` would for want of room, before anything is done for a request."""
        with self._wake:
            self._check_room(tenant, weight)

    def stats(self) -> EngineStats:
        """The engine's numbers, as of its last step."""
        return self.engine.stats()

    def _check_room(self, tenant: str, weight: float) -> None:
        if self._refusal:
            raise UnavailableError(self._refusal, remedy="try again later", retry_after=5.0)
        # By what is open here: between the scheduler's lists a sequence is in neither for a moment.
        config = self.engine.config
        weights = {tenant: weight}
        num_open = 0
        for reference in self._streams.values():
            weights.setdefault(reference.tenant, reference.weight)
            num_open += reference.num_open * (reference.tenant == tenant)
        part = weight / sum(weights.values())
        num_waiting = num_open - max(1, int(config.max_num_seqs * part))
        allowed = int(config.max_waiting * part)
        if num_waiting >= allowed:
            seconds = float(max(1, math.ceil(self._seconds_per_request or 1)))
            raise OverloadedError(
                f"{num_waiting} requests are waiting, allowed: {allowed}",
                remedy=f"try again in {seconds:.0f} s",
                retry_after=seconds,
            )

    def _abort(self, reference: _Reference) -> None:
        with self._wake:
            self._aborted.append(reference)
            self._wake.notify()

    def _work(self) -> None:
        """The thread: take what was asked for, step, hand out; until stopped or broken."""
        error: CairnError = UnavailableError("the engine is stopped", remedy="start it again")
        try:
            while self._take_commands():
                self._step()
                self._flush()
        except Exception as broken:  # noqa: BLE001  the thread's edge: every stream must hear of it
            _log.exception("the engine broke")
            error = EngineError(f"the engine broke: {broken}")
        with self._wake:
            self._refusal = self._refusal or error.message
            references = list(self._streams.values())
        for reference in references:
            self._send(reference, [error], is_last=True)
        self._flush()

    def _take_commands(self) -> bool:
        """Wait for something to do and accept it; False when the thread should end."""
        with self._wake:
            while not (self._added or self._aborted or self._is_stopping or self.engine.has_unfinished):
                self._last_end = time.monotonic()
                self._wake.wait()
                self._last_end = time.monotonic()
            added, self._added = self._added, []
            aborted, self._aborted = self._aborted, []
        if self._is_stopping:
            return False
        for request in added:
            self._add(request)
        for reference in aborted:
            # Its id may have ended and been taken by another request since.
            if self._streams.get(reference.request_id) is reference:
                self.engine.abort(reference.request_id)
                self._send(reference, [], is_last=True)
        return True

    def _add(self, request: Request) -> None:
        try:
            self.engine.add_request(request)
        except CairnError as error:  # since it was validated, its adapter was unloaded
            self._send(self._streams[request.request_id], [error], is_last=True)

    def _step(self) -> None:
        try:
            outputs = self.engine.step()
        except EngineError as error:
            _log.exception("a step failed")
            for request_id in error.request_ids:
                if request_id in self._streams:
                    self._send(self._streams[request_id], [error], is_last=True)
            self._num_failures += 1
            if self._num_failures == _MAX_FAILURES:
                raise
            return
        self._num_failures = 0
        by_request: dict[str, list[StepOutput]] = {}
        for output in outputs:
            by_request.setdefault(output.request_id, []).append(output)
        for request_id, items in by_request.items():
            if request_id in self._streams:
                self._hand_out(self._streams[request_id], items)

    def _hand_out(self, reference: _Reference, outputs: list[StepOutput]) -> None:
        items: list[StreamItem] = [each.error if isinstance(each, FailedOutput) else each for each in outputs]
        reference.num_open -= sum(
            isinstance(output, TokenOutput) and output.finish_reason is not None for output in outputs
        )
        has_failed = any(isinstance(item, CairnError) for item in items)
        if reference.num_open > 0 and not has_failed:
            self._send(reference, items)
            return
        self._send(reference, items if has_failed else [*items, None], is_last=True)
        now = time.monotonic()
        took, before = now - self._last_end, self._seconds_per_request
        self._seconds_per_request = took if before is None else before + _SMOOTHING * (took - before)
        self._last_end = now

    def _send(self, reference: _Reference, items: Sequence[StreamItem], *, is_last: bool = False) -> None:
        """Put into the outbox for a stream that anybody still holds; after the last items its id is free."""
        if is_last:
            with self._wake:
                del self._streams[reference.request_id]
        stream = reference.stream()
        if stream is not None:
            self._outbox.setdefault(stream._loop, []).append((stream, items))

    def _flush(self) -> None:
        """Hand over what a step brought, with one wake-up a loop, however many streams it has."""
        outbox, self._outbox = self._outbox, {}
        for loop, posts in outbox.items():
            # A loop that was closed with streams open has nobody left to read them.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, posts)
        with self._wake:
            if not self._streams:
                self._idle.set()


def _wait_for_room(
    loop: asyncio.AbstractEventLoop,
    stack: AsyncExitStack,
    room: Callable[[int], AbstractAsyncContextManager[None]],
    num_bytes: int,
) -> None:
    """Enter `room` from another thread than its loop's; it is left with the stack."""
    asyncio.run_coroutine_threadsafe(stack.enter_async_context(room(num_bytes)), loop).result()
