"""A small model that guesses what the large one will say.

It reads the same block tables as the large model, into a cache of its own of equally many blocks: a block
holds the same tokens for both, so preemption and shared beginnings need no second book. What it has not read
yet (a prompt, tokens that another way of guessing brought) it reads before it guesses, at most a step's
budget at a time. Guesses of all sequences are computed together, one call a place.

It chooses by the sequence's own sampling parameters and random numbers, under its grammar: where the two
distributions agree, so do the two choices, drawn ones too. The guesses stand in the sequence only while it
goes on from them.

Speculative decoding: Leviathan et al. 2023; Chen et al. 2023.
"""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

from cairn.engine.constraint import Allowed, Masks, Matcher
from cairn.engine.costs import Costs
from cairn.engine.runner import Logits, ModelRunner, prepare
from cairn.engine.sampler import Sampler
from cairn.engine.scheduler import ScheduledBatch, ScheduledSequence
from cairn.engine.sequence import Sequence

Guesses = dict[Sequence, tuple[int, ...]]


class DraftModel:
    """Proposes tokens for decoding sequences whose block tables have room for them."""

    def __init__(self, runner: ModelRunner, *, num_blocks: int, block_size: int, token_budget: int) -> None:
        runner.allocate_kv_cache(num_blocks, block_size)
        self.runner = runner
        self.costs = Costs()
        self._block_size = block_size
        self._token_budget = token_budget
        self._sampler = Sampler()
        self._masks = Masks(runner.vocab_size)
        self._content: dict[int, bytes] = {}
        """Hashes of the full blocks it has read: a hash stands for all tokens up to the block's end."""

    def propose(self, most: Mapping[Sequence, int]) -> Guesses:
        """Up to `most[seq]` tokens for each sequence; none while it still has to read."""
        lengths = {seq: seq.num_tokens for seq in most}
        try:
            logits, going = self._run(self._unread(list(most)))
            matchers = {seq: seq.matcher.fork() for seq in going if seq.matcher}
            while going := self._choose(logits, going, matchers):
                going = [seq for seq in going if seq.num_tokens - lengths[seq] < most[seq]]
                logits, going = self._run(
                    [ScheduledSequence(seq, seq.num_tokens - 1, seq.num_tokens) for seq in going]
                )
            return {seq: tuple(seq.token_ids[length:]) for seq, length in lengths.items()}
        finally:
            for seq, length in lengths.items():
                del seq.token_ids[length:]

    def num_free(self, seq: Sequence) -> int:
        """Places after the sequence's newest token that its own context has."""
        return self.runner.max_position - seq.num_tokens

    def clear_blocks(self, block_ids: list[int]) -> None:
        """Forget what these blocks hold, after a failure."""
        self.runner.clear_blocks(block_ids)
        for block_id in block_ids:
            self._content.pop(block_id, None)

    def _choose(
        self, logits: Logits | None, seqs: list[Sequence], matchers: dict[Sequence, Matcher]
    ) -> list[Sequence]:
        """Add a guess to each sequence (row i of the logits is the i-th's); those that go on after it."""
        allowed: list[Allowed | None] = [
            self._masks.mask(matchers[seq], seq.end_token_ids) if seq in matchers else None for seq in seqs
        ]
        rows = [i for i, mask in enumerate(allowed) if mask is None or mask.any()]
        if logits is None or not rows:
            return []
        chosen = [seqs[i] for i in rows]
        sampled = self._sampler.sample(logits, rows, chosen, [allowed[i] for i in rows])
        going = []
        for seq, guess in zip(chosen, sampled, strict=True):
            # A token that ends the sequence saves no step by being guessed.
            if guess.token_id in seq.end_token_ids:
                continue
            if seq in matchers:
                matchers[seq].advance(guess.token_id)
                if matchers[seq].is_complete:
                    continue
            seq.token_ids.append(guess.token_id)
            going.append(seq)
        return going

    def _unread(self, seqs: list[Sequence]) -> list[ScheduledSequence]:
        """What to read so that the next token of each can be guessed; long texts in several steps."""
        items: list[ScheduledSequence] = []
        budget = self._token_budget
        taken: set[int] = set()
        for seq in seqs:
            start = self._num_read(seq)
            stop = min(seq.num_tokens, start + budget)
            blocks = set(seq.block_table[start // self._block_size : -(-stop // self._block_size)])
            # Of two that share a block, one reads it now and the other finds it read.
            if stop > start and not blocks & taken:
                taken |= blocks
                budget -= stop - start
                items.append(ScheduledSequence(seq, start, stop))
        return items

    def _num_read(self, seq: Sequence) -> int:
        """How many tokens from the first on are in the cache; never the newest, whose logits are needed."""
        num, size = seq.num_draft_tokens, self._block_size
        for i in range(num // size, len(seq.block_hashes)):
            if self._content.get(seq.block_table[i]) != seq.block_hashes[i]:
                break
            num = (i + 1) * size
        return min(num, seq.num_tokens - 1)

    def _run(self, items: list[ScheduledSequence]) -> tuple[Logits | None, list[Sequence]]:
        """Compute tokens; the logits of the sequences that are read to their end, and these."""
        if not items:
            return None, []
        # Adapters are made for the large model; the small one guesses without.
        step = replace(prepare(ScheduledBatch(tuple(items), 0), self._block_size), adapters=())
        started = perf_counter()
        logits = self.runner.run(step)
        if not step.prompt_spans:
            logits.argmax()
            self.costs.observe(step.num_tokens, perf_counter() - started)
        for item in items:
            self._note(item)
        return logits, [row.seq for row in step.logit_rows]

    def _note(self, item: ScheduledSequence) -> None:
        """Keep account of what the cache holds after tokens were computed."""
        seq, size = item.seq, self._block_size
        seq.num_draft_tokens = item.stop
        for i in range(item.start // size, -(-item.stop // size)):
            self._content.pop(seq.block_table[i], None)
        # A block's hash is made when the large model has filled it, which may be a step later.
        num_full = min(item.stop // size, len(seq.block_hashes))
        for i in range(max(item.start // size - 1, 0), num_full):
            self._content[seq.block_table[i]] = seq.block_hashes[i]
