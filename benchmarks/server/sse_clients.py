"""Many streaming clients of one completions endpoint, as cheap as they can be: they share the server's
cores.

Plain sockets and no JSON while tokens come: a piece of a stream is its time and how many texts it holds.
What was generated is what the last event's usage says, so that tokens without a character of their own
count too.
"""

import asyncio
import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

_TEXT, _EMPTY = b'"text":"', b'"text":""'
_USAGE = re.compile(rb'"(completion|prompt)_tokens":\s*(\d+)')


@dataclass(slots=True)
class Stream:
    """What one client saw."""

    first_token: float = 0.0
    gaps: list[float] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What all clients of a round saw together; times in milliseconds."""

    tokens_per_second: float
    first_token_p50: float
    first_token_p99: float
    gap_p50: float
    gap_p99: float
    num_prompt_tokens: int
    num_tokens: int


def ask_all(url: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> Load:
    """Send every body at once to `url` as a stream of a client of its own, and wait for all."""
    started = time.perf_counter()
    streams = uvloop.run(_ask_all(url, bodies, headers))
    seconds = time.perf_counter() - started
    gaps = sorted(1000 * gap for stream in streams for gap in stream.gaps)
    firsts = sorted(1000 * stream.first_token for stream in streams)
    return Load(
        tokens_per_second=sum(stream.num_tokens for stream in streams) / seconds,
        first_token_p50=statistics.median(firsts),
        first_token_p99=_p99(firsts),
        gap_p50=statistics.median(gaps),
        gap_p99=_p99(gaps),
        num_prompt_tokens=sum(stream.num_prompt_tokens for stream in streams),
        num_tokens=sum(stream.num_tokens for stream in streams),
    )


async def _ask_all(url: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> list[Stream]:
    return await asyncio.gather(*(_ask(url, body, headers) for body in bodies))


async def _ask(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Stream:
    place = urlsplit(url)
    payload = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = [f"POST {place.path} HTTP/1.1", f"Host: {place.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(payload)}", "Connection: close", "", ""]
    started = last = time.perf_counter()
    writer.write("\r\n".join(lines).encode() + payload)
    found, end = Stream(), b""
    while piece := await reader.read(1 << 16):
        now = time.perf_counter()
        if num := piece.count(_TEXT) - piece.count(_EMPTY):
            if found.first_token:
                found.gaps.append(now - last)
            else:
                found.first_token = now - started
            found.gaps += [0.0] * (num - 1)
            last = now
        end = (end + piece)[-4096:]
    writer.close()
    usage = {name: int(count) for name, count in _USAGE.findall(end)}
    if b"completion" not in usage:
        raise SystemExit(f"{url} did not finish: {end[-1000:].decode(errors='replace')}")
    found.num_prompt_tokens, found.num_tokens = usage[b"prompt"], usage[b"completion"]
    return found


def _p99(values: Sequence[float]) -> float:
    return values[min(len(values) - 1, int(0.99 * len(values)))]
