"""The breaker and the counts of a target, as state machines against a plain model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cairn.server.routing.breaker import Breaker
from cairn.server.routing.config import BreakerConfig
from cairn.server.routing.targets import Lease, Target

CONFIG = BreakerConfig(failures=3, open_seconds=10, max_open_seconds=35)


def _open(breaker: Breaker, now: float) -> None:
    for _ in range(CONFIG.failures):
        breaker.failed(breaker.enter(now), now)


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(2):
        breaker.failed(breaker.enter(0), 0)
    breaker.succeeded(breaker.enter(0))
    for _ in range(2):
        breaker.failed(breaker.enter(0), 0)
    assert breaker.state(0) == "closed"
    breaker.failed(breaker.enter(0), 0)
    assert breaker.state(0) == "open"
    assert (breaker.allows(9.9), breaker.wait(4)) == (False, 6)


def test_one_probe_at_a_time_decides() -> None:
    breaker = Breaker(CONFIG)
    _open(breaker, 0)
    probe = breaker.enter(10)
    assert not breaker.allows(10)
    breaker.left(probe)  # its caller went away: nothing is known, the next one may try
    probe = breaker.enter(11)
    breaker.failed(probe, 12)
    assert breaker.state(31.9) == "open"  # twice as long
    breaker.failed(breaker.enter(32), 32)
    assert breaker.wait(32) == 35  # and no longer than the most
    breaker.succeeded(breaker.enter(67))
    assert breaker.state(67) == "closed"
    _open(breaker, 70)
    assert breaker.wait(70) == 10  # well again: as at first


def test_what_was_sent_before_it_opened_says_nothing_after() -> None:
    breaker = Breaker(CONFIG)
    early = [breaker.enter(0) for _ in range(3)]
    _open(breaker, 1)
    breaker.succeeded(early[0])
    assert breaker.state(2) == "open"
    breaker.failed(early[1], 8)
    assert breaker.wait(8) == 3
    probe = breaker.enter(11)
    breaker.left(early[2])
    assert not breaker.allows(11), "the probe is still under way"
    breaker.succeeded(probe)
    assert breaker.state(11) == "closed"


def test_one_that_asked_to_be_left_alone_is() -> None:
    breaker = Breaker(CONFIG)
    breaker.rest(5)
    breaker.rest(3)
    assert not breaker.allows(4)
    assert breaker.wait(4) == 1
    assert breaker.allows(5)


class TargetMachine(RuleBasedStateMachine):
    """Requests that come and end in any order and way, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.target = Target("a", CONFIG)
        self.leases: list[Lease] = []
        self.num_counted = 0

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        was = self.target.breaker.state(self.now)
        if not self.target.breaker.allows(self.now):
            return
        assert was != "open"
        self.leases.append(self.target.enter(self.now))
        if was == "half_open":
            assert not self.target.breaker.allows(self.now), "one probe at a time"

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["succeed", "fail", "full", "leave"]), again=st.booleans())
    def end(self, data: st.DataObject, how: str, again: bool) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        if how == "succeed":
            lease.succeed()
        elif how == "leave":
            lease.leave()
        else:
            lease.fail(self.now, 0.0, "down", retry_after=2.0 if how == "full" else None)
        self.num_counted += how != "leave"
        if again:  # a second end of the same request changes nothing
            lease.leave()
            lease.succeed()
            lease.fail(self.now, 0.0, "down")

    @invariant()
    def counts_are_those_of_what_is_under_way(self) -> None:
        assert self.target.outstanding == len(self.leases)
        assert self.target.num_requests == self.num_counted
        assert 0 <= self.target.num_failures <= self.num_counted

    @invariant()
    def waiting_and_allowing_agree(self) -> None:
        breaker = self.target.breaker
        if breaker.wait(self.now) > 0:
            assert not breaker.allows(self.now)
        if breaker.state(self.now) == "open":
            assert breaker.wait(self.now) > 0

    def teardown(self) -> None:
        for lease in self.leases:
            lease.leave()
        assert self.target.outstanding == 0
        # Whatever happened, a target that nobody asks is asked again in the end.
        assert self.target.breaker.allows(self.now + CONFIG.max_open_seconds + 300)


TestTarget = TargetMachine.TestCase
TestTarget.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_health_says_what_happened() -> None:
    target = Target("a", CONFIG)
    assert (target.health(0).error_rate, target.health(0).p50_seconds) == (None, None)
    for now in range(4):
        lease = target.enter(now)
        lease.began(now + 0.5)
        lease.succeed()
    target.enter(9).fail(9, 1234.0, "it broke")
    health = target.health(9)
    assert health.error_rate == pytest.approx(0.2)
    assert (health.p50_seconds, health.num_requests, health.num_failures) == (0.5, 5, 1)
    assert (health.last_error, health.last_error_at, health.state) == ("it broke", 1234.0, "closed")
