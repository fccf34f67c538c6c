"""The circuit breaker of one target: pure, with the time handed in.

closed: requests pass. After `failures` in a row it is open and none do. When its time is up one request at a
time tries (half-open): the first that succeeds closes it, one that fails opens it for twice as long. What
was sent before it opened says nothing about it afterwards.
"""

from dataclasses import dataclass
from typing import Literal

from cairn.server.routing.config import BreakerConfig

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Pass:
    """What lets one request through; its outcome is told with it."""

    period: int
    is_probe: bool


class Breaker:
    """Counts what a target makes of its requests, and says whether it may have another."""

    def __init__(self, config: BreakerConfig) -> None:
        self.config = config
        self._num_failures = 0
        self._num_openings = 0
        self._period = 0
        self._until = 0.0
        self._resting_until = 0.0
        self._is_open = False
        self._is_probing = False

    def state(self, now: float) -> BreakerState:
        """What it is at a time."""
        if not self._is_open:
            return "closed"
        return "open" if now < self._until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether a request would be let through."""
        if now < self._resting_until:
            return False
        state = self.state(now)
        return state == "closed" or (state == "half_open" and not self._is_probing)

    def wait(self, now: float) -> float:
        """Seconds until a request may be let through; 0 where one is, or a probe is under way."""
        return max(0.0, self._resting_until - now, self._until - now if self._is_open else 0.0)

    def enter(self, now: float) -> Pass:
        """Let a request through, which `allows` has said it may."""
        assert self.allows(now), "asked before"
        is_probe = self.state(now) == "half_open"
        self._is_probing = self._is_probing or is_probe
        return Pass(self._period, is_probe)

    def succeeded(self, entered: Pass) -> None:
        """A request was answered."""
        self._leave(entered)
        if entered.period != self._period:
            return
        self._num_failures = 0
        if entered.is_probe:
            self._is_open, self._num_openings = False, 0
            self._period += 1

    def failed(self, entered: Pass, now: float) -> None:
        """A request failed, and it was the target's fault."""
        self._leave(entered)
        if entered.period != self._period:
            return
        self._num_failures += 1
        if entered.is_probe or self._num_failures >= self.config.failures:
            seconds = self.config.open_seconds * 2.0 ** min(self._num_openings, 60)
            self._until = now + min(seconds, self.config.max_open_seconds)
            self._is_open, self._num_failures = True, 0
            self._num_openings += 1
            self._period += 1

    def left(self, entered: Pass) -> None:
        """A request ended and says nothing about the target: its caller left, or was wrong."""
        self._leave(entered)

    def rest(self, until: float) -> None:
        """The target asked to be left alone until then."""
        self._resting_until = max(self._resting_until, until)

    def _leave(self, entered: Pass) -> None:
        if entered.is_probe and entered.period == self._period:
            self._is_probing = False
