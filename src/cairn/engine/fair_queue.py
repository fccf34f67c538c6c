"""Whose turn it is: a fair queue over tenants in virtual time.

Every tenant has a line and a counter of what it was given, divided by its weight. Whose counter is lowest is
next. A line that comes back after a rest is lifted to `burst` below the lowest of those that queue: idle
time earns that much and no more, and what was given beyond it stays counted. So somebody who asks now and
then goes before somebody who has been queueing all along, until the burst is used up; then they share.

Guarantee: while two lines queue, what they are given per weight differs by at most `burst` and one step of
each. Priorities are strict classes above all this, but for one thing: a line that got nothing for
`PATIENCE` steps has one turn among the first class, or a busy class could hold another back for ever.
After the Virtual Token Counter (Sheng et al., OSDI 2024), whose lift is this one with no burst.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

from cairn.engine.sequence import Sequence, SequenceStatus

READ_COST, DECODE_COST = 1, 2
"""Of a token read in a chunk and of one decoded by itself, as in the paper; a right guess is free."""
PATIENCE = 64
"""Steps; one turn in so many costs the classes above under 2 percent."""
OTHERS = "(others)"
"""The name in the statistics of all tenants beyond the first `_MAX_NAMES`."""
_MAX_NAMES = 64
_MAX_RESTING = 1024


def order(seq: Sequence) -> tuple[int, ...]:
    """Within a tenant: by priority, then arrival; choices of a request in turn."""
    return (seq.request.priority, seq.arrival, seq.index)


class Line:
    """A tenant with something to do: who waits, who runs, and what it was given."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.weight = 1.0
        self.kv_share: float | None = None
        self.priority = 0
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.counter = float("-inf")
        self.start = 0.0
        """The counter with which it last began to queue."""
        self.present = 0.0
        """What the counter would have been without the burst."""
        self.last_turn = 0

    @property
    def is_active(self) -> bool:
        """Whether it has any sequence."""
        return bool(self.waiting or self.running)

    @property
    def is_queueing(self) -> bool:
        """Whether it has a prompt to be read."""
        return bool(self.waiting) or any(not seq.is_decoding for seq in self.running)

    @property
    def received(self) -> float:
        """What it was given per weight since it began to queue."""
        return self.counter - self.start

    @property
    def level(self) -> float:
        """Its counter, as others are measured by it: a burst is not handed on."""
        return max(self.counter, self.present)

    def charge(self, cost: float) -> None:
        """Count what it was given."""
        self.counter += cost / self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStats:
    """Where a tenant stands, and how many tokens were computed for it since the engine was made."""

    tenant: str
    num_waiting: int = 0
    num_running: int = 0
    num_computed_tokens: int = 0


class FairQueue:
    """The lines of all tenants, and who is next."""

    def __init__(self, burst: int) -> None:
        self.burst = burst
        self.lines: dict[str, Line] = {}
        self._computed: dict[str, int] = {}

    def __getitem__(self, seq: Sequence) -> Line:
        return self.lines[seq.request.tenant]

    @property
    def waiting(self) -> list[Sequence]:
        """All waiting sequences, by priority and arrival."""
        return sorted((seq for line in list(self.lines.values()) for seq in list(line.waiting)), key=order)

    @property
    def has_waiting(self) -> bool:
        return any(line.waiting for line in self.lines.values())

    def active(self) -> Iterator[Line]:
        """Lines with any sequence."""
        return (line for line in self.lines.values() if line.is_active)

    def join(self, seq: Sequence, now: int) -> None:
        """Put a sequence into its tenant's line in step `now`; the newest request says the weight."""
        request = seq.request
        assert request.weight > 0, "a tenant without weight would never be served"
        line = self.lines.setdefault(request.tenant, Line(request.tenant))
        line.weight, line.kv_share, line.priority = request.weight, request.kv_share, request.priority
        if not line.is_queueing:
            line.present = self._present(line)
            line.start = line.counter = max(line.counter, line.present - self.burst)
            line.last_turn = now
        insort(line.waiting, seq, key=order)

    def leave(self, seq: Sequence) -> None:
        """Take a sequence out of its line."""
        line = self[seq]
        (line.running if seq.status is SequenceStatus.RUNNING else line.waiting).remove(seq)
        if not line.is_active:
            self._forget()

    def rank(self, line: Line, head: Sequence, first_class: int, now: int) -> tuple[float, ...]:
        """The lowest is next."""
        is_overdue = now - line.last_turn >= PATIENCE
        priority = first_class if is_overdue else head.request.priority
        return (priority, line.counter, head.arrival, head.index)

    def count(self, tenant: str, num_tokens: int) -> None:
        """Add to the statistics."""
        name = self._name(tenant)
        self._computed[name] = self._computed.get(name, 0) + num_tokens

    def stats(self) -> tuple[TenantStats, ...]:
        """Of every tenant by name, as far as there are not too many; may be called from another thread."""
        waiting: dict[str, int] = {}
        running: dict[str, int] = {}
        computed = dict(self._computed)
        for line in list(self.lines.values()):
            name = self._name(line.tenant)
            waiting[name] = waiting.get(name, 0) + len(line.waiting)
            running[name] = running.get(name, 0) + len(line.running)
        return tuple(
            TenantStats(
                tenant=name,
                num_waiting=waiting.get(name, 0),
                num_running=running.get(name, 0),
                num_computed_tokens=computed.get(name, 0),
            )
            for name in sorted({*waiting, *computed})
        )

    def _name(self, tenant: str) -> str:
        return tenant if tenant in self._computed or len(self._computed) < _MAX_NAMES else OTHERS

    def _present(self, line: Line) -> float:
        """The counter with which a line that comes now has neither burst nor debt in its class."""
        peers = [other for other in self.active() if other is not line and other.priority == line.priority]
        queueing = [other.level for other in peers if other.is_queueing]
        return min(queueing) if queueing else max((other.level for other in peers), default=0.0)

    def _forget(self) -> None:
        """With nothing to do there is nobody to be fair to; what is remembered of the idle is bounded."""
        resting = [line for line in self.lines.values() if not line.is_active]
        if len(resting) == len(self.lines):
            self.lines.clear()
        elif len(resting) > _MAX_RESTING:
            del self.lines[min(resting, key=lambda line: line.counter).tenant]
