"""The engine without an engine: no cache, no batch, one sequence at a time. The oracle of the tests."""

import numpy as np

from cairn.engine.engine import Engine
from cairn.engine.sampler import choose
from cairn.engine.sequence import Request, Sequence, StepOutput, TokenOutput
from tests.engine.fake_runner import naive_logits

Choices = dict[int, list[int]]


def naive_generate(request: Request, max_len: int) -> tuple[Choices, dict[int, str]]:
    """Token ids and finish reason of every choice."""
    tokens: Choices = {}
    reasons: dict[int, str] = {}
    for index in range(request.sampling.n):
        seed = request.sampling.seed
        seq = Sequence(request, index=index, seed=0 if seed is None else seed, arrival=0, max_len=max_len)
        reason = "length" if seq.max_new_tokens == 0 else None
        while reason is None:
            scores = naive_logits(seq.token_ids, request.adapter)[np.newaxis]
            reason, _ = seq.append_token(int(choose(scores, [seq])[0]))
        tokens[index] = seq.token_ids[seq.num_prompt_tokens :]
        reasons[index] = reason
    return tokens, reasons


class Collector:
    """Gathers an engine's outputs by request and choice."""

    def __init__(self) -> None:
        self.tokens: dict[str, Choices] = {}
        self.reasons: dict[str, dict[int, str]] = {}

    def take(self, outputs: list[StepOutput]) -> None:
        for output in outputs:
            if not isinstance(output, TokenOutput):
                continue
            choices = self.tokens.setdefault(output.request_id, {})
            tokens = choices.setdefault(output.index, [])
            reasons = self.reasons.setdefault(output.request_id, {})
            assert output.index not in reasons, "a token after the end"
            if output.token_id is not None:
                tokens.append(output.token_id)
            if output.finish_reason is not None:
                reasons[output.index] = output.finish_reason


def run_all(engine: Engine, requests: list[Request]) -> Collector:
    """Add all requests at once and step until nothing is left."""
    collector = Collector()
    for request in requests:
        engine.add_request(request)
    while engine.has_unfinished:
        collector.take(engine.step())
    return collector


def check_accounts(engine: Engine) -> None:
    """Every block is free or owned, counted once per owner; computed blocks are findable under their hash."""
    manager = engine.block_manager
    owners = [0] * len(manager.blocks)
    for seq in (*engine.scheduler.running, *engine.scheduler.waiting):
        assert len(set(seq.block_table)) == len(seq.block_table)
        for block_id in seq.block_table:
            owners[block_id] += 1
    assert owners == [block.ref_count for block in manager.blocks]
    free = set(manager._free)
    assert free == {block_id for block_id, num in enumerate(owners) if num == 0}
    for block_hash, block in manager._cached.items():
        assert block.block_hash == block_hash
    hashed = [block for block in manager.blocks if block.block_hash is not None]
    assert len(hashed) == manager.num_cached_blocks
    assert all(not seq.block_table for seq in engine.scheduler.waiting)
    assert len(engine.scheduler.running) <= engine.config.max_num_seqs
