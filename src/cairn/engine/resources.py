"""What an engine takes of its machine: the context, the blocks of the KV pool, the draft model beside it."""

from cairn.core import UnsupportedModelError
from cairn.engine.config import EngineConfig
from cairn.engine.draft_model import DraftModel
from cairn.engine.runner import ModelRunner

_POOL_SHARE = 0.5
"""Of the memory that is free once the weights are in, the part that the KV pool takes at most."""


def context_length(runner: ModelRunner, config: EngineConfig) -> int:
    """Longest sequence, prompt and output."""
    return min(runner.max_position, config.max_model_len or runner.max_position)


def pool_size(runners: list[ModelRunner], config: EngineConfig) -> int:
    """Blocks of the KV pool: as configured, or what full contexts need as far as memory is free."""
    if config.num_blocks is not None:
        return config.num_blocks
    block_bytes = sum(runner.bytes_per_block(config.block_size) for runner in runners)
    pool_bytes = config.kv_cache_bytes
    if pool_bytes is None:
        blocks_per_seq = -(-context_length(runners[0], config) // config.block_size)
        needed = config.max_num_seqs * blocks_per_seq * block_bytes
        pool_bytes = min(needed, int(_POOL_SHARE * runners[0].free_bytes()))
    return max(1, pool_bytes // block_bytes)


def draft_model(
    runner: ModelRunner, draft: ModelRunner | None, num_blocks: int, config: EngineConfig
) -> DraftModel | None:
    """The draft model over as many blocks; `UnsupportedModelError` for another vocabulary."""
    if draft is None:
        return None
    if draft.vocab_size != runner.vocab_size:
        raise UnsupportedModelError(
            f"the draft model has {draft.vocab_size} tokens, the model {runner.vocab_size}",
            remedy="choose a draft model of the same vocabulary",
        )
    return DraftModel(
        draft, num_blocks=num_blocks, block_size=config.block_size, token_budget=config.token_budget
    )
