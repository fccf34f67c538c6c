"""Counting requests and tokens in windows of a minute, an hour or a day, with the `limits` library.

A window begins with the first request that counts in it. What a request will take is reserved before it is
answered, for all its rules or for none, and put right afterwards. Counts are kept in memory, by a clock that
never jumps, or in Redis for several servers (`CAIRN_REDIS_URL`). While Redis does not answer, requests
that are limited are refused, or counted by each server alone, as `redis_failure` says; it is asked
again after a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
)
from limits.aio.storage import RedisStorage, Storage
from limits.errors import ConfigurationError, StorageError

from cairn.core.errors import ConfigError, MissingExtraError, UnavailableError
from cairn.server.usage.errors import RateLimitedError
from cairn.server.usage.rules import Applied

logger = logging.getLogger("cairn.server")

_ITEMS: dict[str, type[RateLimitItem]] = {
    "minute": RateLimitItemPerMinute,
    "hour": RateLimitItemPerHour,
    "day": RateLimitItemPerDay,
}
_REDIS_SECONDS = 1.0
"""Longest wait for Redis, and time until it is asked again after it failed."""
_PRUNE_AT = 10_000


class MemoryCounts(Storage):
    """Counters that end with their windows; of one event loop."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._held: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; the first of a window begins it."""
        now = self._clock()
        count, end = self._held.get(key, (0, 0.0))
        if end <= now:
            if len(self._held) >= _PRUNE_AT:
                self._held = {name: held for name, held in self._held.items() if held[1] > now}
            count, end = 0, now + expiry
        self._held[key] = (count + amount, end)
        return count + amount

    async def get(self, key: str) -> int:
        """What was counted in the window that runs."""
        count, end = self._held.get(key, (0, 0.0))
        return count if end > self._clock() else 0

    async def get_expiry(self, key: str) -> float:
        """When the window ends, as Redis says it: by the wall clock."""
        _, end = self._held.get(key, (0, 0.0))
        return time.time() + max(0.0, end - self._clock())

    async def check(self) -> bool:
        """Memory is always there."""
        return True

    async def reset(self) -> int | None:
        """Forget all."""
        num = len(self._held)
        self._held.clear()
        return num

    async def clear(self, key: str) -> None:
        """Forget one."""
        self._held.pop(key, None)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants of a rule's window, and how that window stands with it."""

    applied: Applied
    cost: int
    count: int = 0
    seconds_left: float = 0.0

    @property
    def left(self) -> int:
        """How much may still be used."""
        return max(0, self.applied.rule.amount - self.count)


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was reserved, and where it was counted."""

    storage: Storage
    claims: tuple[Claim, ...]
    at: float


class Windows:
    """The windows of all rules about requests and tokens."""

    def __init__(
        self,
        redis_url: str = "",
        *,
        redis_failure: Literal["refuse", "allow"] = "refuse",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._memory = MemoryCounts(clock)
        self._redis = _redis(redis_url) if redis_url else None
        self._where = _without_password(redis_url)
        self._redis_failure = redis_failure
        self._asked_again_at = 0.0
        self._is_down = False

    async def reserve(self, claims: Sequence[Claim]) -> Reserved:
        """Count what a request will take in all its windows, or in none and raise `RateLimitedError`."""
        now = self._clock()
        if self._redis is None or (self._is_down and now < self._asked_again_at):
            return await self._reserve_here(claims, now)
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                reserved = await _reserve(self._redis, claims, now)
        except (StorageError, TimeoutError) as error:
            self._note_down(error, now)
            return await self._reserve_here(claims, now)
        if self._is_down:
            self._is_down = False
            logger.warning("Redis at %s answers again: limits are counted there", self._where)
        return reserved

    async def settle(self, reserved: Reserved, costs: Sequence[int]) -> None:
        """Put right what was reserved; `costs` are what the claims took in truth."""
        elapsed = self._clock() - reserved.at
        changes = [
            (_item(claim), claim, cost - claim.cost)
            for claim, cost in zip(reserved.claims, costs, strict=True)
            # What a window that is over has counted does not matter any more.
            if cost != claim.cost and elapsed < claim.seconds_left
        ]
        if not changes:
            return
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await asyncio.gather(
                    *(
                        reserved.storage.incr(_key(claim), item.get_expiry(), amount=change)
                        for item, claim, change in changes
                    )
                )
        except (StorageError, TimeoutError) as error:
            # The reservation stands: too much is counted, never too little, until the window ends.
            self._note_down(error, self._clock())

    async def peek(self, claims: Sequence[Claim]) -> list[Claim]:
        """How windows stand, without counting."""
        storage = self._memory if self._redis is None else self._redis
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                counts = await asyncio.gather(*(storage.get(_key(claim)) for claim in claims))
                ends = await asyncio.gather(*(storage.get_expiry(_key(claim)) for claim in claims))
        except (StorageError, TimeoutError) as error:
            raise self._refusal() from error
        now = time.time()
        return [
            Claim(claim.applied, claim.cost, count, max(0.0, end - now))
            for claim, count, end in zip(claims, counts, ends, strict=True)
        ]

    async def close(self) -> None:
        """Let the connections go."""
        if self._redis is not None:
            await self._redis.bridge.get_connection().aclose()  # type: ignore[attr-defined]  # redis.asyncio's

    async def _reserve_here(self, claims: Sequence[Claim], now: float) -> Reserved:
        if self._redis is not None and self._redis_failure == "refuse":
            raise self._refusal()
        return await _reserve(self._memory, claims, now)

    def _note_down(self, error: Exception, now: float) -> None:
        self._asked_again_at = now + _REDIS_SECONDS
        if not self._is_down:
            self._is_down = True
            remedy = "refused" if self._redis_failure == "refuse" else "counted by this server alone"
            logger.error(
                "Redis at %s does not answer (%s): requests that are limited are %s",
                self._where,
                error or "no answer in time",
                remedy,
            )

    def _refusal(self) -> UnavailableError:
        return UnavailableError(
            f"limits cannot be counted: Redis at {self._where} does not answer",
            remedy="try again shortly",
            retry_after=_REDIS_SECONDS,
        )


async def _reserve(storage: Storage, claims: Sequence[Claim], now: float) -> Reserved:
    counts = await asyncio.gather(
        *(storage.incr(_key(claim), _item(claim).get_expiry(), amount=claim.cost) for claim in claims)
    )
    ends = await asyncio.gather(*(storage.get_expiry(_key(claim)) for claim in claims))
    wall = time.time()
    held = tuple(
        Claim(claim.applied, claim.cost, count, max(0.0, end - wall))
        for claim, count, end in zip(claims, counts, ends, strict=True)
    )
    over = [claim for claim in held if claim.count > claim.applied.rule.amount]
    if not over:
        return Reserved(storage, held, now)
    await asyncio.gather(
        *(storage.incr(_key(claim), _item(claim).get_expiry(), amount=-claim.cost) for claim in held)
    )
    standing = [
        Claim(claim.applied, claim.cost, claim.count - claim.cost, claim.seconds_left) for claim in held
    ]
    raise _refused(max(over, key=lambda claim: claim.seconds_left), standing)


def _refused(worst: Claim, standing: Sequence[Claim]) -> RateLimitedError:
    rule = worst.applied.rule
    headers = rate_headers(standing)
    used = worst.count - worst.cost
    if worst.cost > rule.amount:
        headers["x-should-retry"] = "false"
        message = (
            f"this request may take {worst.cost:,} {rule.metric}, {worst.applied.who} may use "
            f"{rule.amount:,} per {rule.window}"
        )
        remedy = "send less, or ask for fewer with max_tokens"
    else:
        message = (
            f"limit reached for {worst.applied.who}: {used:,} of {rule.amount:,} {rule.metric} per "
            f"{rule.window} are used, this request may take {worst.cost:,}"
        )
        remedy = f"try again in {duration(worst.seconds_left)}"
    return RateLimitedError(message, remedy=remedy, retry_after=worst.seconds_left, headers=headers)


def rate_headers(claims: Sequence[Claim]) -> dict[str, str]:
    """OpenAI's headers: of requests and of tokens each the window with the smallest share left."""
    headers = {}
    for metric in ("requests", "tokens"):
        of_metric = [claim for claim in claims if claim.applied.rule.metric == metric]
        if not of_metric:
            continue
        tightest = min(of_metric, key=lambda claim: claim.left / max(1, claim.applied.rule.amount))
        headers[f"x-ratelimit-limit-{metric}"] = str(tightest.applied.rule.amount)
        headers[f"x-ratelimit-remaining-{metric}"] = str(tightest.left)
        headers[f"x-ratelimit-reset-{metric}"] = duration(tightest.seconds_left)
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: `1h2m3s`, `6m0s`, `1s`, `120ms`."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _item(claim: Claim) -> RateLimitItem:
    rule = claim.applied.rule
    return _ITEMS[rule.window](rule.amount, namespace="cairn")


def _key(claim: Claim) -> str:
    return _item(claim).key_for(claim.applied.subject)


def _redis(url: str) -> RedisStorage:
    if not url.startswith(("redis://", "rediss://", "redis+unix://")):
        raise ConfigError(
            f"CAIRN_REDIS_URL is {_without_password(url)!r}",
            remedy="allowed: redis://[:PASSWORD@]HOST:PORT/DB",
        )
    try:
        return RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="cairn",
            socket_connect_timeout=_REDIS_SECONDS,
        )
    except ConfigurationError:
        raise MissingExtraError("counting limits in Redis", "redis") from None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
