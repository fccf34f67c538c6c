"""Server-sent events: bytes as they come, whole `data` fields out."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from pydantic_core import from_json

from cairn.core.chat import ChatEvent
from cairn.providers.remote.errors import UpstreamGarbageError

_MOST_EVENT_BYTES = 4_000_000


class EventParser:
    """Splits a stream into its events' data; comments and other fields are passed over."""

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0

    def push(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in this chunk. `ValueError`: one is too long."""
        found: list[bytes] = []
        lines = (self._line + chunk).split(b"\n")
        self._line = lines.pop()
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._size += len(line)
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if len(self._line) + self._size > _MOST_EVENT_BYTES:
            raise ValueError(f"an event is longer than {_MOST_EVENT_BYTES} bytes")
        return found


async def json_events(provider: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a stream, up to its end or `[DONE]`."""
    parser = EventParser()
    async for chunk in chunks:
        try:
            events = parser.push(chunk)
        except ValueError as error:
            raise UpstreamGarbageError(f"provider {provider!r}: {error}") from None
        for data in events:
            if data == b"[DONE]":
                return
            yield json_object(provider, data)


def shaped(provider: str, events: Iterator[ChatEvent]) -> list[ChatEvent]:
    """The events that an answer is read as; `UpstreamGarbageError` where it is of another shape."""
    try:
        return list(events)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UpstreamGarbageError(
            f"provider {provider!r} sent an answer of another shape: {error!r}"
        ) from None


def json_object(provider: str, data: bytes) -> dict[str, Any]:
    """A JSON object, or `UpstreamGarbageError`."""
    try:
        value = from_json(data)
    except ValueError as error:
        raise UpstreamGarbageError(f"provider {provider!r} sent no valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UpstreamGarbageError(
            f"provider {provider!r} sent {json.dumps(value)[:40]} where an object belongs"
        )
    return value
