"""One step ahead of the host: a decode step starts before anybody has looked at the tokens of the one before.

A step that only continues sequences needs their newest tokens, and where the device has drawn them it can
take them from there. So the engine launches such a step, then reads what the step before brought, and hands
that out while the device computes. Until a token is known, `PENDING` stands in its place.

A sequence that turns out to have ended was computed once too often: that token is never shown, and what was
written for it lies behind the sequence's last token in a block that was never registered; whoever takes the
block next writes later on the same device.

Only for steps of plain decode tokens (`can_launch`); everything else waits for the flight to land. Launched
steps are not timed and nothing is guessed in them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cairn.engine.block_manager import BlockManager
from cairn.engine.runner import IntArray, ModelInput, ModelRunner, prepare
from cairn.engine.sampler import NOT_FINITE, Sampled, can_draw
from cairn.engine.scheduler import ScheduledBatch, ScheduledSequence
from cairn.engine.sequence import Sequence, SequenceStatus, TokenOutput
from cairn.engine.speculation import Speculation

PENDING = -1

Arrival = Callable[[], IntArray]
"""Waits for a step's tokens [rows]; below 0 where logits were not finite."""


@runtime_checkable
class AheadRunner(Protocol):
    """A runner that draws tokens itself and starts a step from those of the one before."""

    @property
    def can_launch(self) -> bool: ...

    def launch(self, model_input: ModelInput, seqs: list[Sequence], sources: IntArray) -> Arrival:
        """Start a step of decode tokens, each the newest of its sequence, and draw their successors.

        `sources` [rows]: which row of the last launch drew the token of this row; -1: it is in `model_input`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that was launched: its sequences in order of rows, how far each was computed, its tokens."""

    places: dict[Sequence, int]
    arrive: Arrival


class Ahead:
    """The flight under way, and whether another may follow it."""

    def __init__(
        self, runner: ModelRunner, block_manager: BlockManager, speculation: Speculation, block_size: int
    ) -> None:
        self._runner = runner if isinstance(runner, AheadRunner) and runner.can_launch else None
        self._block_manager, self._speculation, self._block_size = block_manager, speculation, block_size
        self.flight: Flight | None = None
        self._landing: Flight | None = None

    @property
    def must_land(self) -> bool:
        """Whether a token under way ends its sequence whatever it is: no step is made for that one."""
        return self.flight is not None and any(
            seq.num_new_tokens >= seq.max_new_tokens for seq in self.flight.places
        )

    def can_launch(self, batch: ScheduledBatch) -> bool:
        """Whether a batch only continues sequences whose tokens the device draws, and nobody guesses."""
        return (
            self._runner is not None
            and all(_is_plain(item) for item in batch.items)
            and self._speculation.rests([item.seq for item in batch.items])
        )

    def launch(self, batch: ScheduledBatch) -> Flight | None:
        """Start a batch; the flight before it, which is to land now."""
        assert self._runner is not None, "can_launch was not asked"
        last, model_input = self.flight, prepare(batch, self._block_size)
        seqs = [row.seq for row in model_input.logit_rows]
        rows = {} if last is None else {seq: row for row, seq in enumerate(last.places)}
        sources = np.array([rows.get(seq, -1) for seq in seqs], np.int64)
        arrive = self._runner.launch(model_input, seqs, sources)
        self._speculation.rest(seqs)
        for item in batch.items:
            item.seq.num_computed_tokens = item.stop
            item.seq.token_ids.append(PENDING)
        self.flight = Flight({seq: seq.num_computed_tokens for seq in seqs}, arrive)
        return last

    def land(self, flight: Flight, append: Callable[[Sequence, Sampled], TokenOutput]) -> list[TokenOutput]:
        """Wait for a flight's tokens and append them; sequences that have ended get none."""
        self._landing = flight
        following = {} if self.flight is None or self.flight is flight else self.flight.places
        tokens = flight.arrive()
        assert (tokens >= 0).all(), NOT_FINITE
        outputs = []
        for (seq, stop), token_id in zip(flight.places.items(), tokens.tolist(), strict=True):
            if seq.is_finished:
                continue
            is_followed = seq in following
            del seq.token_ids[stop:]
            if seq.status is SequenceStatus.RUNNING:
                seq.num_computed_tokens = stop
                self._block_manager.register(seq)
            outputs.append(append(seq, Sampled(token_id)))
            if is_followed and not seq.is_finished:
                seq.token_ids.append(PENDING)
                if seq.status is SequenceStatus.RUNNING:
                    seq.num_computed_tokens = stop + 1
        self._landing = None
        if self.flight is flight or all(seq.is_finished for seq in following):
            self.flight = None
        return outputs

    def drop(self) -> list[Sequence]:
        """Forget what is under way after a failure; the sequences that were in it."""
        flights, self.flight, self._landing = (self._landing, self.flight), None, None
        return [seq for flight in flights if flight for seq in flight.places if not seq.is_finished]


def _is_plain(item: ScheduledSequence) -> bool:
    seq = item.seq
    is_next = item.stop - item.start == 1 and item.is_complete and seq.is_prompt_finished
    return is_next and item.start >= seq.num_prompt_tokens and seq.adapter is None and can_draw(seq)
