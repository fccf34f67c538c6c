import pytest

from cairn.core.chat import SamplingParams
from cairn.engine.adapters import LoadedAdapter
from cairn.engine.block_manager import BlockCopy, BlockManager
from cairn.engine.sequence import Request, Sequence
from tests.engine.fake_runner import FakeAdapter


def _seq(*token_ids: int, prompt_logprobs: int | None = None) -> Sequence:
    request = Request("r", token_ids, SamplingParams(prompt_logprobs=prompt_logprobs))
    return Sequence(request, index=0, seed=0, arrival=0, max_len=100)


def _computed(manager: BlockManager, *token_ids: int) -> Sequence:
    """A sequence that has been admitted and computed."""
    seq = _seq(*token_ids)
    manager.allocate(seq)
    seq.num_computed_tokens = seq.num_tokens
    manager.register(seq)
    return seq


def test_equal_beginnings_share_full_blocks() -> None:
    manager = BlockManager(8, 4)
    first = _computed(manager, *range(10))
    second = _seq(0, 1, 2, 3, 4, 5, 6, 7, 99)
    manager.allocate(second)
    assert second.block_table[:2] == first.block_table[:2]
    assert second.num_computed_tokens == second.num_cached_tokens == 8
    assert [manager.blocks[b].ref_count for b in first.block_table] == [2, 2, 1]
    assert manager.num_used_blocks == 4


def test_blocks_are_shared_only_once_computed() -> None:
    manager = BlockManager(8, 4)
    first = _seq(*range(9))
    manager.allocate(first)
    second = _seq(*range(9))
    manager.allocate(second)
    assert second.num_computed_tokens == 0
    first.num_computed_tokens = 5
    manager.register(first)
    third = _seq(*range(9))
    manager.allocate(third)
    assert third.num_computed_tokens == 4


@pytest.mark.parametrize("num_tokens", [4, 8, 12])
def test_full_hit_leaves_the_last_token_to_compute(num_tokens: int) -> None:
    """A prompt of k blocks shares k - 1 and copies the last: its last logits have to come from somewhere."""
    manager = BlockManager(8, 4)
    first = _computed(manager, *range(num_tokens))
    again = _seq(*range(num_tokens))
    assert manager.allocate(again) == (first.block_table[-1], again.block_table[-1])
    assert again.num_computed_tokens == num_tokens - 1
    assert again.block_table[:-1] == first.block_table[:-1]
    assert again.block_table[-1] != first.block_table[-1]


def test_a_prompt_that_leaves_a_cached_block_midway_copies_the_best_one() -> None:
    manager = BlockManager(16, 4)
    _computed(manager, 0, 1, 2, 3, 4, 9, 9, 9)
    best = _computed(manager, 0, 1, 2, 3, 4, 5, 6, 9)
    _computed(manager, 0, 1, 2, 3, 7, 7, 7, 7)
    seq = _seq(0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert manager.allocate(seq) == BlockCopy(best.block_table[1], seq.block_table[1])
    assert seq.num_computed_tokens == seq.num_cached_tokens == 7
    nothing_alike = _seq(0, 1, 2, 3, 8, 8)
    assert manager.allocate(nothing_alike) is None
    assert nothing_alike.num_computed_tokens == 4


def test_what_is_copied_may_be_taken_for_the_copy_itself() -> None:
    manager = BlockManager(2, 4)
    manager.free(_computed(manager, 0, 1, 2, 3, 4, 5, 6, 7))
    seq = _seq(0, 1, 2, 3, 4, 5)
    copy = manager.allocate(seq)
    assert copy == (seq.block_table[1], seq.block_table[1])
    assert seq.num_computed_tokens == 5
    manager.free(seq)
    assert manager.allocate(_seq(0, 1, 2, 3, 4, 5, 8, 8)) is None, "its block holds something else by now"


def test_another_beginning_or_salt_has_no_followers() -> None:
    manager = BlockManager(16, 4)
    _computed(manager, 0, 1, 2, 3, 4, 5, 6, 7)
    assert manager.allocate(_seq(9, 1, 2, 3, 4, 5, 6)) is None
    salted = _seq(0, 1, 2)
    salted.adapter = LoadedAdapter(FakeAdapter("an adapter"))
    assert manager.allocate(salted) is None
    assert manager.allocate(_seq(0, 1, 2, prompt_logprobs=1)) is None
    others = Request("r", (0, 1, 2), SamplingParams(), tenant="another")
    assert manager.allocate(Sequence(others, index=0, seed=0, arrival=0, max_len=100)) is None
    plain = _seq(0, 1, 2)
    assert manager.allocate(plain) is not None
    assert plain.num_computed_tokens == 2


def test_a_block_is_found_only_after_its_own_beginning() -> None:
    manager = BlockManager(8, 2)
    _computed(manager, 1, 2, 3, 4, 5)
    other = _seq(9, 9, 3, 4, 5)
    manager.allocate(other)
    assert other.num_computed_tokens == 0


def test_generated_blocks_serve_the_same_sequence_and_no_prompt() -> None:
    manager = BlockManager(8, 2)
    seq = _seq(1, 2, 3)
    seq.token_ids += [4, 5, 6, 7]
    manager.allocate(seq)
    seq.num_computed_tokens = 6
    manager.register(seq)
    manager.free(seq)
    as_prompt = _seq(1, 2, 3, 4, 5, 6, 7)
    manager.allocate(as_prompt)
    assert as_prompt.num_computed_tokens == 3, "a block of its prompt, and of the next the token that was"
    manager.free(as_prompt)
    manager.allocate(seq)
    assert seq.num_computed_tokens == 6


def test_least_recently_freed_goes_first_and_tails_before_heads() -> None:
    manager = BlockManager(4, 2)
    old, new = _computed(manager, 1, 2, 3, 4), _computed(manager, 5, 6, 7, 8)
    head, tail = old.block_table
    manager.free(old)
    manager.free(new)
    taker = _seq(9, 9)
    manager.allocate(taker)
    assert taker.block_table == [tail]
    assert manager.blocks[head].block_hash is not None


def test_blocks_without_content_go_before_cached_ones() -> None:
    manager = BlockManager(3, 2)
    cached, partial = _computed(manager, 1, 2), _computed(manager, 3)
    empty = partial.block_table[0]
    manager.free(cached)
    manager.free(partial)
    takers = [_seq(9), _seq(9), _seq(9)]
    for taker in takers:
        manager.allocate(taker)
    assert takers[0].block_table == [empty]
    assert takers[2].block_table != [empty]
    assert manager.num_cached_blocks == 0


def test_reused_blocks_cannot_be_evicted_by_their_own_allocation() -> None:
    manager = BlockManager(3, 2)
    manager.free(_computed(manager, 1, 2, 3, 4, 5))
    again = _seq(1, 2, 3, 4, 6)
    assert manager.can_allocate(again)
    manager.allocate(again)
    assert again.num_computed_tokens == 4
    assert manager.num_free_blocks == 0


def test_can_allocate_does_not_count_free_hits_twice() -> None:
    manager = BlockManager(3, 2)
    manager.free(_computed(manager, 1, 2, 3, 4))
    assert not manager.can_allocate(_seq(1, 2, 3, 4, 5, 6, 7))
    assert manager.can_allocate(_seq(1, 2, 3, 4, 5, 6))


def test_append_takes_a_block_only_when_the_last_one_is_full() -> None:
    manager = BlockManager(2, 2)
    seq = _computed(manager, 1, 2)
    for num_blocks, token_id in ((2, 3), (2, 4)):
        seq.token_ids.append(token_id)
        assert manager.can_append(seq)
        manager.append(seq)
        assert len(seq.block_table) == num_blocks
    seq.token_ids.append(5)
    assert not manager.can_append(seq)


def test_equal_hash_with_other_tokens_is_no_hit() -> None:
    manager = BlockManager(4, 2)
    seq = _computed(manager, 1, 2, 3)
    manager.blocks[seq.block_table[0]].token_ids = (7, 7)
    again = _seq(1, 2, 3)
    manager.allocate(again)
    assert again.num_computed_tokens == 0


def test_prompt_logprobs_need_every_token_computed() -> None:
    manager = BlockManager(8, 2)
    _computed(manager, 1, 2, 3)
    scored = _seq(1, 2, 3, prompt_logprobs=0)
    manager.allocate(scored)
    assert scored.num_computed_tokens == 0


def test_without_prefix_cache_nothing_is_found() -> None:
    manager = BlockManager(8, 2, prefix_cache=False)
    _computed(manager, 1, 2, 3)
    again = _seq(1, 2, 3)
    manager.allocate(again)
    assert again.num_computed_tokens == 0
    assert manager.num_cached_blocks == 0
