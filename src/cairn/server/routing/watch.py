"""Attempts at targets, seen from outside: a span each, and counters by route and target.

Names come from the routes' file, so there are no more labels than somebody has written down; beyond 64 pairs
all count as `other`.
"""

from collections.abc import Iterable
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cairn.core.errors import CairnError
from cairn.server.routing.breaker import BreakerState
from cairn.telemetry import Span

Outcome = Literal["ok", "failed", "refused", "left"]
"""`refused`: the request was wrong, not the target; `left`: the caller left before the end."""
_PAIR = ("route", "target")
_MOST_PAIRS = 64
_OTHER = "other"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STATES: tuple[BreakerState, ...] = ("closed", "half_open", "open")


class RouteMetrics:
    """What routes and their targets do, in Prometheus' words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"cairn_route_{name}", text, (*_PAIR, *more), registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"cairn_route_{name}", text, _PAIR, buckets=_SECONDS, registry=registry)

        self.attempts = counter("attempts", "Requests to targets, by how they ended", "outcome")
        self.errors = counter("errors", "Failures of targets, by their kind", "kind")
        self.retries = counter("retries", "Requests to a target after another attempt had failed")
        self.fallbacks = counter("fallbacks", "Answers by another target than the first in line")
        self.first_seconds = histogram("first_seconds", "Time until a target begins to answer")
        self.seconds = histogram("seconds", "Time until a target has answered")
        self.breaker = Gauge(
            "cairn_route_breaker",
            "1 for the state of a target's breaker",
            ("target", "state"),
            registry=registry,
        )
        self.outstanding = Gauge(
            "cairn_route_outstanding", "Requests that a target answers now", ("target",), registry=registry
        )
        self._numbers: dict[tuple[str, str], TargetNumbers] = {}

    def numbers(self, route: str, target: str) -> "TargetNumbers":
        """Those of one target of one route."""
        found = self._numbers.get((route, target))
        if found is None:
            if len(self._numbers) >= _MOST_PAIRS and (route, target) != (_OTHER, _OTHER):
                return self.numbers(_OTHER, _OTHER)
            found = self._numbers[route, target] = TargetNumbers(self, route, target)
        return found

    def observe(self, targets: Iterable[tuple[str, BreakerState, int]]) -> None:
        """Set what is known of targets now: name, state of the breaker, requests under way."""
        self.breaker.clear()
        self.outstanding.clear()
        for name, state, outstanding in targets:
            for each in _STATES:
                self.breaker.labels(name, each).set(each == state)
            self.outstanding.labels(name).set(outstanding)


class TargetNumbers:
    """The numbers of one target of one route, found once."""

    def __init__(self, metrics: RouteMetrics, route: str, target: str) -> None:
        self.ok = metrics.attempts.labels(route, target, "ok")
        self.retries = metrics.retries.labels(route, target)
        self.fallbacks = metrics.fallbacks.labels(route, target)
        self.first_seconds = metrics.first_seconds.labels(route, target)
        self.seconds = metrics.seconds.labels(route, target)
        self._metrics, self._names = metrics, (route, target)

    def ended(self, outcome: Outcome) -> None:
        """Count an attempt that ended otherwise than well."""
        self._metrics.attempts.labels(*self._names, outcome).inc()

    def failed(self, kind: str) -> None:
        """Count a failure by its stable code."""
        self._metrics.errors.labels(*self._names, kind).inc()


class Watch:
    """One attempt at a target."""

    def __init__(self, numbers: TargetNumbers, span: Span) -> None:
        self.span = span
        self._numbers = numbers
        self._started = perf_counter()
        self._error: CairnError | None = None

    def began(self) -> None:
        """The first of an answer is here."""
        seconds = perf_counter() - self._started
        self._numbers.first_seconds.observe(seconds)
        self.span.set("gen_ai.response.time_to_first_chunk", seconds)

    def blame(self, error: CairnError) -> None:
        """What it fails with, if it fails."""
        self._error = error

    def ended(self, outcome: Outcome) -> None:
        """How it went."""
        numbers, error = self._numbers, self._error
        if outcome == "ok":
            numbers.ok.inc()
            numbers.seconds.observe(perf_counter() - self._started)
        elif outcome == "left" and error is not None:
            numbers.ended("refused")
        else:
            numbers.ended(outcome)
        if outcome == "failed":
            numbers.failed(error.code if error is not None else "unknown")
        self.span.end(error)
