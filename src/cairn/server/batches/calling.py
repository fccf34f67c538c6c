"""A request to this server from within: the same route, checks and errors, without a socket."""

import asyncio
import secrets
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Scope

from cairn.core.chat import Principal
from cairn.server.auth import PRINCIPAL


@dataclass(slots=True)
class Answer:
    """What came back."""

    request_id: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def call(app: ASGIApp, path: str, body: bytes, principal: Principal) -> Answer:
    """Post a body to a path, as somebody. Cancelling it is a client's leaving."""
    answer = Answer(f"req_{secrets.token_hex(12)}")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": None,
        "request_id": answer.request_id,
        PRINCIPAL: principal,
    }
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # it does not leave
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer
