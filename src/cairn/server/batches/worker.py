"""Works batches off: a few requests at once, each owner's in turn, behind all that somebody waits for."""

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, CairnError, IntegrityError, NotFoundError
from cairn.jobs import Job, JobState, Result, queue
from cairn.server.batches.lines import Line, body_of, read_lines
from cairn.server.batches.objects import LineError
from cairn.server.batches.outcome import close_batch, refuse_batch
from cairn.server.files.attaching import CONTENT
from cairn.server.state import ServerState
from cairn.server.within import Answer, Asked, call

logger = logging.getLogger("cairn.server")

KIND = "batch"
_MOST_OPEN = 64
_BUSY = (429, 503, 507)
"""Not the request's fault: it is made again."""
_PAUSES = (1.0, 60.0)
_NO_OWNER = LineError(code="no_owner", message="whoever made this batch may not ask any more")


def key_json(caller: Principal) -> dict[str, Any]:
    """The key that a batch is made with: it narrows what its requests may do, as long as there are any."""
    return {
        "key_id": caller.key_id,
        "scopes": None if caller.scopes is None else sorted(caller.scopes),
        "models": None if caller.models is None else sorted(caller.models),
    }


@dataclass(slots=True)
class _Open:
    """A batch that is worked on."""

    job: Job
    path: Path
    lines: list[Line]
    todo: deque[int]
    principal: Principal
    running: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)
    not_before: float = 0.0
    """When there may be room for its requests again, by the monotonic clock."""

    @property
    def is_done(self) -> bool:
        return not self.todo and not self.running


class BatchWorker:
    """One for a server, on its event loop."""

    def __init__(self, state: ServerState, app: ASGIApp) -> None:
        self._state, self._app = state, app
        self._name = secrets.token_hex(8)
        self._open: dict[str, _Open] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._look_at = 0.0  # when the database is asked next, by the monotonic clock

    def wake(self) -> None:
        """There is something new: a batch, or a wish to end one. May be called from any thread."""
        self._look_at = 0.0
        self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Until cancelled. What is under way then is left to whoever comes next."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self._go_on()
                except CairnError as error:
                    logger.warning("batches wait: %s", error.sentence)
                except Exception:
                    logger.exception("batches wait")
                pauses = [batch.not_before for batch in self._open.values() if batch.todo]
                now = time.monotonic()
                soonest = min((at for at in (self._look_at, *pauses) if at > now), default=now)
                try:
                    async with asyncio.timeout(soonest - now):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for batch in self._open.values():
                await _stop(batch)
            await asyncio.to_thread(queue.release, self._state.registry.database, self._name)

    async def _go_on(self) -> None:
        """Look into the database when it is time to, end what is done, and fill the places."""
        if (now := time.monotonic()) >= self._look_at:
            seconds = self._state.config.batch_hold_seconds
            self._look_at = now + seconds / 3
            await self._look(seconds)
        for batch in [each for each in self._open.values() if each.is_done]:
            await self._close(batch, "completed")
        self._fill()

    async def _look(self, seconds: float) -> None:
        """Hold what is open, begin what is new, and end what is cancelled or late."""
        database = self._state.registry.database
        held = await asyncio.to_thread(
            queue.hold, database, self._name, KIND, seconds=seconds, most=_MOST_OPEN
        )
        for job_id in self._open.keys() - {job.job_id for job in held}:
            await _stop(self._open.pop(job_id))  # another took it over while this process stood still
        for job in held:
            if job.job_id not in self._open and (batch := await self._begin(job)) is not None:
                self._open[job.job_id] = batch
            if batch := self._open.get(job.job_id):
                batch.job = job
                await self._end_if_due(batch, await asyncio.to_thread(self._principal, job))

    async def _begin(self, job: Job) -> _Open | None:
        """Read the input; None where the batch ends with that."""
        state = self._state
        try:
            artifact = await asyncio.to_thread(state.registry.get, job.spec["artifact"])
        except (NotFoundError, IntegrityError) as error:
            gone = LineError(code="no_input", message=f"its file is lost: {error.message}")
            await asyncio.to_thread(refuse_batch, state.registry, job, [gone])
            return None
        path = artifact.folder / CONTENT
        lines, errors = await asyncio.to_thread(
            read_lines, path, job.spec["endpoint"], state.config.max_body_bytes
        )
        principal = await asyncio.to_thread(self._principal, job)
        if principal is None:
            errors = [_NO_OWNER]
        if errors or principal is None:
            await asyncio.to_thread(refuse_batch, state.registry, job, errors)
            return None
        await asyncio.to_thread(queue.start, state.registry.database, job.job_id, len(lines))
        done = await asyncio.to_thread(self._recorded, job)
        todo = deque(queue.remaining(len(lines), done))
        return _Open(job, path, lines, todo, principal)

    def _principal(self, job: Job) -> Principal | None:
        """On whose behalf its requests are made; None where they may not ask any more."""
        key = job.spec["key"]
        try:
            owner = self._state.identity.principal_of(job.owner)
        except (AuthenticationError, NotFoundError):
            return None
        return replace(
            owner,
            key_id=key["key_id"],
            scopes=None if key["scopes"] is None else frozenset(key["scopes"]),
            models=None if key["models"] is None else frozenset(key["models"]),
            is_background=True,
        )

    def _recorded(self, job: Job) -> set[int]:
        with self._state.registry.database.session(read_only=True) as session:
            return queue.recorded(session, job.job_id)

    async def _end_if_due(self, batch: _Open, principal: Principal | None) -> None:
        if principal is None:
            await _stop(batch)
            await asyncio.to_thread(refuse_batch, self._state.registry, batch.job, [_NO_OWNER])
            del self._open[batch.job.job_id]
            return
        batch.principal = principal
        is_cancelled = batch.job.cancelled_at is not None
        if is_cancelled or time.time() > batch.job.expires_at:
            await _stop(batch)
            await self._close(batch, "cancelled" if is_cancelled else "expired")

    async def _close(self, batch: _Open, state: JobState) -> None:
        job_id = batch.job.job_id
        await asyncio.to_thread(queue.finishing, self._state.registry.database, job_id)
        await asyncio.to_thread(close_batch, self._state.registry, batch.job, batch.lines, state)
        del self._open[job_id]

    def _fill(self) -> None:
        """Give free places to whose owner has the fewest."""
        while sum(len(batch.running) for batch in self._open.values()) < self._state.config.batch_requests:
            now = time.monotonic()
            waiting = [each for each in self._open.values() if each.todo and each.not_before <= now]
            if not waiting:
                return
            batch = min(waiting, key=self._num_running_of)
            number = batch.todo.popleft()
            batch.running[number] = asyncio.create_task(self._make(batch, number))

    def _num_running_of(self, batch: _Open) -> int:
        same = (each for each in self._open.values() if each.job.owner == batch.job.owner)
        return sum(len(each.running) for each in same)

    async def _make(self, batch: _Open, number: int) -> None:
        """Make one request and keep its answer. A process edge: a failure here is told in the log."""
        try:
            line = batch.lines[number]
            body = await asyncio.to_thread(body_of, batch.path, line)
            asked = Asked(path=batch.job.spec["endpoint"], body=body, principal=batch.principal)
            answer = await call(self._app, asked)
            if answer.status in _BUSY:
                batch.todo.appendleft(number)
                batch.not_before = time.monotonic() + _pause(answer)
                return
            result = Result(number, _told(line, asked, answer), is_failure=answer.status != 200)
            database = self._state.registry.database
            await asyncio.to_thread(queue.record, database, batch.job.job_id, result)
        except Exception:
            logger.exception("a request of %s waits", batch.job.job_id)
            batch.todo.append(number)
            batch.not_before = time.monotonic() + _PAUSES[0]  # a full disk is not asked again at once
        finally:
            batch.running.pop(number, None)
            self._changed.set()


async def _stop(batch: _Open) -> None:
    """End what is under way; it has no result and is made again, or never."""
    tasks = list(batch.running.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _pause(answer: Answer) -> float:
    try:
        asked = float(answer.headers.get("retry-after", ""))
    except ValueError:
        asked = 0.0
    return min(max(asked, _PAUSES[0]), _PAUSES[1])


def _told(line: Line, asked: Asked, answer: Answer) -> str:
    """A line of the output, as OpenAI writes it."""
    response = {
        "status_code": answer.status,
        "request_id": asked.request_id,
        "body": json.loads(answer.body or b"null"),
    }
    told = {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": line.custom_id,
        "response": response,
        "error": None,
    }
    return json.dumps(told)
