"""A request to this server from within: the same route, checks and errors, without a socket."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

from cairn.core.chat import Principal
from cairn.core.ids import random_hex
from cairn.server.auth import PRINCIPAL

_QUEUED = 64
"""Messages of an answer that wait for their reader; then whoever writes them waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request: a body for a path, by somebody known (`principal`) or by who the headers say."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    client: tuple[str, int] | None = None
    principal: Principal | None = None
    request_id: str = field(default_factory=lambda: f"req_{random_hex(24)}")

    def scope(self) -> Scope:
        """As an application is called with it."""
        own = {"content-type": "application/json", "content-length": str(len(self.body)), "host": "localhost"}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": quote(self.path).encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in {**self.headers, **own}.items()],
            "client": self.client,
            "server": None,
            "request_id": self.request_id,
        }
        return scope if self.principal is None else {**scope, PRINCIPAL: self.principal}


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def add(self, message: Message) -> None:
        """Put the next message in its place."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")


async def call(app: ASGIApp, asked: Asked) -> Answer:
    """The whole answer. Cancelling it is a client's leaving."""
    answer = Answer()

    async def send(message: Message) -> None:
        answer.add(message)

    await app(asked.scope(), _Body(asked.body), send)
    return answer


async def answered(app: ASGIApp, asked: Asked) -> AsyncGenerator[Message, None]:
    """The messages of an answer as they come. Closing it is a client's leaving; who writes waits for it."""
    queue: asyncio.Queue[Message | Exception | None] = asyncio.Queue(_QUEUED)

    async def work() -> None:
        try:
            await app(asked.scope(), _Body(asked.body), queue.put)
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 (raised again below, in the reader's task)
            await queue.put(error)

    working = asyncio.create_task(work())
    try:
        while (message := await queue.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


class _Body:
    """Gives a body once; who asks does not leave of themselves."""

    def __init__(self, body: bytes) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def __call__(self) -> Message:
        if self._messages:
            return self._messages.pop()
        await asyncio.Event().wait()
        raise AssertionError
