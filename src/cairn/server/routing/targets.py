"""What is known of a target while the server runs: requests under way, outcomes, times, its breaker."""

from collections import deque
from dataclasses import dataclass

from cairn.server.routing.breaker import Breaker, BreakerState, Pass
from cairn.server.routing.config import BreakerConfig
from cairn.server.routing.watch import Outcome, Watch

_REMEMBERED = 200
"""Requests from which the error rate and the times are made."""
_LONGEST_REST = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHealth:
    """How a target is doing."""

    state: BreakerState
    wait_seconds: float
    """Until it may be asked again."""
    outstanding: int
    num_requests: int
    num_failures: int
    error_rate: float | None
    """Of the last 200 requests; None: none yet."""
    p50_seconds: float | None
    """To the first of an answer, of the last 200."""
    p99_seconds: float | None
    last_error: str
    last_error_at: float | None


class Target:
    """The live side of a target; routes that name the same one share it."""

    def __init__(self, name: str, config: BreakerConfig) -> None:
        self.name = name
        self.breaker = Breaker(config)
        self.outstanding = 0
        self.num_requests = self.num_failures = 0
        self.last_error = ""
        self.last_error_at: float | None = None
        self._outcomes: deque[bool] = deque(maxlen=_REMEMBERED)
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def enter(self, now: float, watch: Watch | None = None) -> "Lease":
        """Begin a request, which its breaker allows."""
        return Lease(self, self.breaker.enter(now), now, watch)

    def remember(self, *, is_good: bool) -> None:
        """Count an outcome."""
        self.num_requests += 1
        self.num_failures += not is_good
        self._outcomes.append(is_good)

    def took(self, seconds: float) -> None:
        """Count the time to the first of an answer."""
        self._seconds.append(seconds)

    def health(self, now: float) -> TargetHealth:
        """How it is doing."""
        seconds = sorted(self._seconds)
        return TargetHealth(
            state=self.breaker.state(now),
            wait_seconds=self.breaker.wait(now),
            outstanding=self.outstanding,
            num_requests=self.num_requests,
            num_failures=self.num_failures,
            error_rate=self._outcomes.count(False) / len(self._outcomes) if self._outcomes else None,
            p50_seconds=seconds[len(seconds) // 2] if seconds else None,
            p99_seconds=seconds[(len(seconds) * 99) // 100] if seconds else None,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
        )


class Lease:
    """One request at one target. Exactly one way of leaving counts: the first."""

    def __init__(self, target: Target, entered: Pass, now: float, watch: Watch | None = None) -> None:
        self.watch = watch
        self._target = target
        self._entered = entered
        self._since = now
        self._is_over = False
        target.outstanding += 1

    def began(self, now: float) -> None:
        """The first of an answer is here."""
        self._target.took(now - self._since)
        if self.watch is not None:
            self.watch.began()

    def succeed(self) -> None:
        """The answer is whole."""
        if self._leave("ok"):
            self._target.remember(is_good=True)
            self._target.breaker.succeeded(self._entered)

    def fail(self, now: float, wall_time: float, error: str, *, retry_after: float | None = None) -> None:
        """The target failed; with `retry_after` it is only full, and is left alone for so long."""
        if not self._leave("failed"):
            return
        target = self._target
        target.remember(is_good=False)
        target.last_error, target.last_error_at = error, wall_time
        if retry_after is None:
            target.breaker.failed(self._entered, now)
        else:
            target.breaker.left(self._entered)
            target.breaker.rest(now + min(retry_after, _LONGEST_REST))

    def leave(self) -> None:
        """The request ended and says nothing about the target."""
        if self._leave("left"):
            self._target.breaker.left(self._entered)

    def _leave(self, outcome: Outcome) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self._target.outstanding -= 1
        if self.watch is not None:
            self.watch.ended(outcome)
        return True
