"""Who computes what in the next step: continuous batching with chunked prefill.

Every step has one token budget. Running sequences that decode come first, one token each; what is
left goes to prompts, in order, cut into chunks, and then to guesses (`speculation`). A sequence is admitted
when blocks for all its tokens are free; when a decoding one needs a block and none is free, the last in order
is preempted: its blocks are freed and it is computed again later (usually from the prefix cache).

The order is (priority, arrival): first come, first served within a priority. The order is one
function, and the only thing a fairer policy has to replace.

Guarantees: nothing starves within a priority, because the first in order is never preempted for
another and admission stops at the first that does not fit; blocks of an admitted prompt are all
there, so prefill never stalls half-way.
After Orca (Yu et al. 2022) and Sarathi-Serve (Agrawal et al. 2024).
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

from cairn.engine.block_manager import BlockManager
from cairn.engine.sequence import Drafter, Sequence, SequenceStatus

Order = Callable[[Sequence], tuple[int, ...]]


def first_come_first_served(seq: Sequence) -> tuple[int, ...]:
    """By priority, then arrival; choices of a request in turn."""
    return (seq.request.priority, seq.arrival, seq.index)


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


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """The work of one step."""

    items: tuple[ScheduledSequence, ...]
    num_preempted: int

    @property
    def num_tokens(self) -> int:
        return sum(item.stop - item.start + len(item.draft) for item in self.items)


class Scheduler:
    """Decides; the BlockManager accounts."""

    def __init__(
        self,
        block_manager: BlockManager,
        *,
        max_num_seqs: int,
        token_budget: int,
        order: Order = first_come_first_served,
    ) -> None:
        self.block_manager = block_manager
        self.max_num_seqs = max_num_seqs
        self.token_budget = token_budget
        self.order = order
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    @property
    def has_unfinished(self) -> bool:
        return bool(self.waiting or self.running)

    def __contains__(self, seq: Sequence) -> bool:
        return seq in self.running or seq in self.waiting

    def add(self, seq: Sequence) -> None:
        """Queue a sequence, new or preempted."""
        seq.status = SequenceStatus.WAITING
        insort(self.waiting, seq, key=self.order)

    def schedule(self) -> ScheduledBatch:
        """The next step's work: decodes, then prompts under way, then new ones."""
        num_preempted = self._make_room_for_decodes()
        items = [_chunk(seq, 1) for seq in self.running if seq.is_decoding]
        budget = self.token_budget - len(items)
        for seq in self.running:
            if not seq.is_decoding and budget > 0:
                items.append(_chunk(seq, budget))
                budget -= items[-1].stop - items[-1].start
        # What was just preempted must not come straight back for the blocks it gave up.
        while num_preempted == 0 and budget > 0 and self._admit():
            items.append(_chunk(self.running[-1], budget))
            budget -= items[-1].stop - items[-1].start
        self.running.sort(key=self.order)
        assert items or not self.has_unfinished, "work is waiting but none can be scheduled"
        return ScheduledBatch(tuple(items), num_preempted)

    def preempt(self, seq: Sequence) -> None:
        """Take a running sequence's blocks away and queue it again; its tokens stay."""
        self.running.remove(seq)
        self.block_manager.free(seq)
        self.add(seq)

    def finish(self, seq: Sequence) -> None:
        """Remove a sequence, running or waiting, and free its blocks."""
        (self.running if seq.status is SequenceStatus.RUNNING else self.waiting).remove(seq)
        self.block_manager.free(seq)
        seq.status = SequenceStatus.FINISHED

    def _make_room_for_decodes(self) -> int:
        """Give every decoding sequence a place for its newest token, preempting from the end."""
        num_preempted = 0
        i = 0
        while i < len(self.running):
            seq = self.running[i]
            if not seq.is_decoding:
                i += 1
            elif self.block_manager.can_append(seq):
                self.block_manager.append(seq)
                i += 1
            else:
                # `running` is in order, so the victim is `seq` itself or not looked at yet.
                self.preempt(self.running[-1])
                num_preempted += 1
        return num_preempted

    def _admit(self) -> bool:
        """Move the first waiting sequence to running, if it fits."""
        if not self.waiting or len(self.running) >= self.max_num_seqs:
            return False
        seq = self.waiting[0]
        if not self.block_manager.can_allocate(seq):
            return False
        del self.waiting[0]
        self.block_manager.allocate(seq)
        seq.status = SequenceStatus.RUNNING
        self.running.append(seq)
        return True


def _chunk(seq: Sequence, budget: int) -> ScheduledSequence:
    start = seq.num_computed_tokens
    return ScheduledSequence(seq, start, min(seq.num_tokens, start + budget))
