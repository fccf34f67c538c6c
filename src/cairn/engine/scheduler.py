"""Who computes what in the next step: continuous batching with chunked prefill, fair among tenants.

Every step has one token budget. Running sequences that decode come first, one token each; what is
left goes to prompts, cut into chunks, and then to guesses (`speculation`). Whose prompt is read and who is
admitted next, the `FairQueue` says; within a tenant the order is (priority, arrival). A sequence is admitted
when blocks for all its tokens are free. A tenant that was given much more than another adds at most
`fair_chunk` prompt tokens to a step in which the other computes, and none while the other waits for a place:
a step takes as long as its tokens, and it is time that is shared.

A tenant's share of places (`max_num_seqs`) and blocks is its weight among those who are active, or its
`kv_share`. It may use idle ones beyond that and gives them back, its last sequences preempted, as soon
as another needs them within its own share. When a decoding sequence needs a block and none is free,
whoever is furthest beyond its share gives one up, or else the last in order. Preempted sequences keep their
tokens and are computed again later (usually from the prefix cache).

Guarantees: one tenant alone has everything; every tenant has a right to one sequence, and its only one is
taken for nobody's admission; a sequence that has a right to a place and does not find it holds up all
admission behind it, so that it will; the first in order is never preempted for a decode. Blocks of an
admitted prompt are all there, so prefill never stalls half-way.
After Orca (Yu et al. 2022), Sarathi-Serve (Agrawal et al. 2024) and, for fairness, `fair_queue`.
"""

from bisect import insort
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from time import perf_counter_ns

from cairn.engine.block_manager import BlockCopy, BlockManager
from cairn.engine.fair_queue import DECODE_COST, READ_COST, FairQueue, Line, order
from cairn.engine.sequence import Drafter, Sequence, SequenceStatus

_LEAD = 16
"""Full steps that a tenant is ahead before it gives way; those who take turns differ by one or two."""


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """Compute tokens `start` to `stop` of a sequence in this step, and after them what `drafter` guessed."""

    seq: Sequence
    start: int
    stop: int
    draft: tuple[int, ...] = ()
    drafter: Drafter = "lookup"

    @property
    def is_complete(self) -> bool:
        """Whether this reaches the sequence's newest token, so that the next one can be sampled."""
        return self.stop == self.seq.num_tokens

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start + len(self.draft)


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """The work of one step."""

    items: tuple[ScheduledSequence, ...]
    num_preempted: int
    copies: tuple[BlockCopy, ...] = ()
    """What goes from block to block first, in this order."""

    @property
    def num_tokens(self) -> int:
        return sum(item.num_tokens for item in self.items)


@dataclass(slots=True)
class _Step:
    """A batch being put together."""

    budget: int
    fair_chunk: int
    """Prompt tokens left to lines that give way."""
    items: dict[Sequence, ScheduledSequence] = field(default_factory=dict)
    num_preempted: int = 0
    copies: list[BlockCopy] = field(default_factory=list)
    losers: set[Line] = field(default_factory=set)
    """Lines that gave a sequence up; what was just preempted must not come straight back."""
    is_blocked: bool = False
    """Whether somebody waits who has a right to a place: nobody is admitted behind it."""

    def put(self, item: ScheduledSequence) -> None:
        self.drop(item.seq)
        self.items[item.seq] = item
        self.budget -= item.num_tokens

    def drop(self, seq: Sequence) -> None:
        if seq in self.items:
            self.budget += self.items.pop(seq).num_tokens


class Scheduler:
    """Decides; the BlockManager accounts."""

    def __init__(
        self,
        block_manager: BlockManager,
        *,
        max_num_seqs: int,
        token_budget: int,
        fair_credit: int = 262144,
        fair_chunk: int = 32,
    ) -> None:
        self.block_manager = block_manager
        self.max_num_seqs = max_num_seqs
        self.token_budget = token_budget
        self.fair_chunk = fair_chunk
        self.queue = FairQueue(fair_credit, _LEAD * token_budget)
        self.running: list[Sequence] = []
        self.num_steps = 0
        self._is_short = False
        """Whether the last step left somebody waiting."""

    @property
    def waiting(self) -> list[Sequence]:
        """All waiting sequences, by priority and arrival."""
        return self.queue.waiting

    @property
    def has_unfinished(self) -> bool:
        return bool(self.running) or self.queue.has_waiting

    def __contains__(self, seq: Sequence) -> bool:
        line = self.queue.lines.get(seq.request.tenant)
        return line is not None and (seq in line.running or seq in line.waiting)

    def add(self, seq: Sequence) -> None:
        """Queue a sequence, new or preempted."""
        seq.status = SequenceStatus.WAITING
        self.queue.join(seq, self.num_steps)

    def schedule(self) -> ScheduledBatch:
        """The next step's work: decodes, then prompts in fair turn."""
        self.num_steps += 1
        step = _Step(self.token_budget, self.fair_chunk)
        self._make_room_for_decodes(step)
        for seq in self.running:
            if seq.is_decoding:
                step.put(_chunk(seq, 1))
        self._read_prompts(step)
        self._account(step)
        self._is_short = self.queue.has_waiting
        self.running.sort(key=order)
        assert step.items or not self.has_unfinished, "work is waiting but none can be scheduled"
        return ScheduledBatch(tuple(step.items.values()), step.num_preempted, tuple(step.copies))

    def charge_guesses(self, batch: ScheduledBatch) -> None:
        """Count what was guessed after `schedule`, right or wrong: it takes the time of tokens read."""
        for item in batch.items:
            if item.draft:
                self.queue.charge(item.seq, READ_COST * len(item.draft))
                self.queue.count(item.seq.request.tenant, len(item.draft))

    def preempt(self, seq: Sequence) -> None:
        """Take a running sequence's blocks away and queue it again; its tokens stay."""
        line = self.queue[seq]
        if seq.request.timing is not None:
            seq.request.timing.num_preemptions += 1
        self.running.remove(seq)
        line.running.remove(seq)
        self.block_manager.free(seq)
        self.add(seq)

    def finish(self, seq: Sequence) -> None:
        """Remove a sequence, running or waiting, and free its blocks."""
        if seq.status is SequenceStatus.RUNNING:
            self.running.remove(seq)
        self.queue.leave(seq)
        self.block_manager.free(seq)
        seq.status = SequenceStatus.FINISHED

    def _make_room_for_decodes(self, step: _Step) -> None:
        """Give every decoding sequence a place for its newest token, preempting where there is none."""
        for seq in tuple(self.running):
            while seq.status is SequenceStatus.RUNNING and seq.is_decoding:
                if self.block_manager.can_append(seq):
                    self.block_manager.append(seq)
                    break
                self._give_up(self._beyond_share(step) or self.running[-1], step)

    def _read_prompts(self, step: _Step) -> None:
        """Spend the budget on prompts, the line whose turn it is first."""
        heads = [(line, head) for line in self.queue.active() if (head := _head(line, step))]
        self.queue.start_step([line for line, _ in heads], is_short=self._is_short)
        first_class = min((head.request.priority for _, head in heads), default=0)
        turns = [
            (self.queue.rank(line, head, first_class, self.num_steps), place, line)
            for place, (line, head) in enumerate(heads)
        ]
        heapify(turns)
        while turns and (step.budget > 0 or self._is_full_of_decodes(step)):
            rank, place, line = heappop(turns)
            seq = _head(line, step)
            assert seq is not None, "only lines with a prompt have a turn"
            most = self._most(line, step)
            if most <= 0:
                continue
            if seq.status is SequenceStatus.WAITING and not self._admit(line, step, rank[0]):
                continue
            item = _chunk(seq, min(most, step.budget))
            step.put(item)
            if most < self.token_budget:
                step.fair_chunk -= item.num_tokens
            line.last_turn = self.num_steps
            self.queue.charge(seq, READ_COST * item.num_tokens)
            if (head := _head(line, step)) is not None:
                heappush(turns, (self.queue.rank(line, head, first_class, self.num_steps), place, line))

    def _most(self, line: Line, step: _Step) -> int:
        """Prompt tokens that a line may add: few beside those it yields to, none while one of them waits."""
        behind = [other for other in self.queue.active() if self.queue.yields(line, other)]
        if not behind or not step.items:
            return self.token_budget
        if any(other.waiting for other in behind):
            return step.fair_chunk if self.queue.is_overdue(line, self.num_steps) else 0
        computing = {self.queue[seq] for seq in step.items}
        return step.fair_chunk if any(other in computing for other in behind) else self.token_budget

    def _is_full_of_decodes(self, step: _Step) -> bool:
        """Whether the whole budget decodes, so that a prompt must take a place to be read at all."""
        return len(step.items) == self.max_num_seqs and all(seq.is_decoding for seq in step.items)

    def _admit(self, line: Line, step: _Step, priority: float) -> bool:
        """Move the first waiting sequence of a line to running, if it fits or has a right to."""
        seq = line.waiting[0]
        if step.is_blocked or line in step.losers:
            return False
        if (step.losers or not self._has_room(seq)) and not self._is_within_share(line, seq):
            return False
        while not self._has_room(seq) or step.budget == 0:
            loser = self._beyond_share(step, seq, priority)
            if loser is None:
                step.is_blocked = True
                return False
            self._give_up(loser, step)
        del line.waiting[0]
        if (copy := self.block_manager.allocate(seq)) is not None:
            step.copies.append(copy)
        seq.status = SequenceStatus.RUNNING
        timing = seq.request.timing
        if timing is not None and not timing.admitted:
            timing.admitted = perf_counter_ns()
        self.running.append(seq)
        insort(line.running, seq, key=order)
        return True

    def _has_room(self, seq: Sequence) -> bool:
        return len(self.running) < self.max_num_seqs and self.block_manager.can_allocate(seq)

    def _is_within_share(self, line: Line, seq: Sequence) -> bool:
        """Whether a line has a right to run one more sequence: its first, or one that its share holds."""
        if not line.running:
            return True
        num_seqs, num_blocks = self._share(line, self._total_weight())
        if len(line.running) + 1 > num_seqs:
            return False
        return _num_blocks(line) + self.block_manager.num_missing_blocks(seq) <= num_blocks

    def _total_weight(self) -> float:
        return sum(line.weight for line in self.queue.active())

    def _share(self, line: Line, total_weight: float) -> tuple[int, int]:
        """Places and blocks that are a line's own."""
        part = line.weight / total_weight
        num_blocks = len(self.block_manager.blocks)
        kv_part = part if line.kv_share is None else line.kv_share
        return max(1, int(self.max_num_seqs * part)), int(num_blocks * kv_part)

    def _beyond_share(
        self, step: _Step, taker: Sequence | None = None, priority: float = float("-inf")
    ) -> Sequence | None:
        """The last sequence of the line furthest beyond its share of what is short.

        Places are short when `taker` finds none; otherwise blocks. Classes above `priority` give nothing up,
        and neither do those to whom the taker yields.
        """
        is_full = taker is not None and (len(self.running) >= self.max_num_seqs or step.budget == 0)
        total_weight = self._total_weight()
        found: tuple[float, Sequence] | None = None
        for line in self.queue.active():
            givable = [seq for seq in line.running if seq.is_decoding or seq not in step.items]
            if len(line.running) < 2 or not givable or line.priority < priority:
                continue
            if taker is not None and (
                line is self.queue[taker] or self.queue.yields(self.queue[taker], line)
            ):
                continue
            num_seqs, num_blocks = self._share(line, total_weight)
            excess = len(line.running) / num_seqs if is_full else _num_blocks(line) / max(1, num_blocks)
            if excess > 1 and (found is None or excess > found[0]):
                found = excess, givable[-1]
        return found[1] if found else None

    def _give_up(self, seq: Sequence, step: _Step) -> None:
        step.drop(seq)
        step.num_preempted += 1
        step.losers.add(self.queue[seq])
        self.preempt(seq)

    def _account(self, step: _Step) -> None:
        """Count what is decoded, which prompts are as they are read, and the statistics."""
        for item in step.items.values():
            if item.seq.is_decoding:
                self.queue.charge(item.seq, DECODE_COST)
            self.queue.count(item.seq.request.tenant, item.num_tokens)


def _head(line: Line, step: _Step) -> Sequence | None:
    """A line's next prompt: one under way, or else the first that waits."""
    for seq in line.running:
        if not seq.is_decoding and seq not in step.items:
            return seq
    return line.waiting[0] if line.waiting else None


def _num_blocks(line: Line) -> int:
    """Blocks a line holds, shared ones once."""
    return len({block_id for seq in line.running for block_id in seq.block_table})


def _chunk(seq: Sequence, budget: int) -> ScheduledSequence:
    start = seq.num_computed_tokens
    return ScheduledSequence(seq, start, min(seq.num_tokens, start + budget))
