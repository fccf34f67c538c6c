"""Whose turn it is: a fair queue over tenants in virtual time.

Every tenant has a line and a counter of what it was given, divided by its weight. Whose counter is lowest is
next. Two rules make that fair over minutes and not only from one step to the next:

- Only what is taken from others counts: work is charged while several lines have prompts to read or somebody
  is left waiting. Otherwise it moves the `present`, the counter with which a newcomer begins.
- Who asks for less than its share falls behind the present by what it left to others, by at most `credit`. It
  goes before those with less credit until that is used up; then they share. Who queues all the time is
  the present itself and earns nothing.

Guarantee: while two lines queue, what they are given per weight differs by at most `credit` and one step of
each. Priorities are strict classes above all this. One guard: a line that got nothing for `PATIENCE` steps
has one turn before all others, or they could hold it back until its clients time out.
After the Virtual Token Counter (Sheng et al., OSDI 2024), which knows no credit.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cairn.engine.sequence import Request, Sequence, SequenceStatus

READ_COST, DECODE_COST = 1, 2
"""Of a token read in a chunk, or guessed, whether right or wrong; and of one decoded, as in the paper."""
PATIENCE = 64
"""Steps; one turn in so many costs the others under 2 percent."""
OTHERS = "(others)"
"""The name in the statistics of all tenants beyond the first `_MAX_NAMES`."""
_MAX_NAMES = 64
_MAX_LINES = 1024


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
        self.counter = 0.0
        self.last_turn = 0

    @property
    def is_active(self) -> bool:
        """Whether it has any sequence."""
        return bool(self.waiting or self.running)

    @property
    def is_queueing(self) -> bool:
        """Whether it has a prompt to be read."""
        return bool(self.waiting) or any(not seq.is_decoding for seq in self.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStats:
    """Where a tenant stands, and how many tokens were computed for it since the engine was made."""

    tenant: str
    num_waiting: int = 0
    num_running: int = 0
    num_computed_tokens: int = 0


class FairQueue:
    """The lines of all tenants, and who is next."""

    def __init__(self, credit: int, lead: int) -> None:
        self.credit, self.lead = credit, lead
        self.lines: dict[str, Line] = {}
        self._present: defaultdict[int, float] = defaultdict(float)
        self._computed: dict[str, int] = {}
        self._is_contended = False

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
        line = self._line(request)
        if not line.is_queueing:
            line.counter = max(line.counter, self._present[line.priority] - self.credit)
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
        if self.is_overdue(line, now):
            return (first_class, 0, line.counter, head.arrival, head.index)
        return (head.request.priority, 1, line.counter, head.arrival, head.index)

    def is_overdue(self, line: Line, now: int) -> bool:
        """Whether a line that queues got nothing for long."""
        return now - line.last_turn >= PATIENCE

    def yields(self, line: Line, other: Line) -> bool:
        """Whether a line was given so much more than another that it makes room for it."""
        is_ahead = (line.counter - other.counter) * line.weight > self.lead
        return is_ahead and line.priority >= other.priority

    def start_step(self, queueing: Collection[Line], *, is_short: bool) -> None:
        """Bring the present up to who queues; `is_short`: whether the step before left somebody waiting."""
        self._is_contended = is_short or len(queueing) > 1
        for priority in {line.priority for line in queueing}:
            least = min(line.counter for line in queueing if line.priority == priority)
            self._present[priority] = max(self._present[priority], least)

    def charge(self, seq: Sequence, cost: float) -> None:
        """Count what a sequence was given, unless nobody else wanted it."""
        line = self[seq]
        if self._is_contended:
            line.counter += cost / line.weight
        else:
            self._present[line.priority] += cost / line.weight

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

    def _line(self, request: Request) -> Line:
        """The line of a request's tenant, new or as it was, with the weight that the request says."""
        line = self.lines.get(request.tenant)
        if line is None:
            line = self.lines[request.tenant] = Line(request.tenant)
            line.counter = self._present[request.priority]
        elif line.priority != request.priority:
            line.counter += self._present[request.priority] - self._present[line.priority]
        line.weight, line.kv_share, line.priority = request.weight, request.kv_share, request.priority
        return line

    def _forget(self) -> None:
        """What is remembered of those who rest is bounded; who has most credit stays."""
        if len(self.lines) > _MAX_LINES:
            resting = [line for line in self.lines.values() if not line.is_active]
            del self.lines[max(resting, key=lambda line: line.counter - self._present[line.priority]).tenant]
