from cairn.core.chat import SamplingParams
from cairn.engine.block_manager import BlockManager
from cairn.engine.scheduler import ScheduledBatch, Scheduler
from cairn.engine.sequence import Request, Sequence


def _seq(num_prompt: int, arrival: int, priority: int = 0) -> Sequence:
    request = Request(f"r{arrival}", tuple(range(num_prompt)), SamplingParams(), priority=priority)
    return Sequence(request, index=0, seed=0, arrival=arrival, max_len=1000)


def _scheduler(
    num_blocks: int = 100, *, block_size: int = 4, max_num_seqs: int = 8, token_budget: int = 16
) -> Scheduler:
    manager = BlockManager(num_blocks, block_size, prefix_cache=False)
    return Scheduler(manager, max_num_seqs=max_num_seqs, token_budget=token_budget)


def _apply(batch: ScheduledBatch) -> list[tuple[str, int, int]]:
    """Pretend the batch was computed; what it held."""
    work = [(item.seq.request.request_id, item.start, item.stop) for item in batch.items]
    for item in batch.items:
        item.seq.num_computed_tokens = item.stop
        if item.is_complete:
            item.seq.token_ids.append(0)
    return work


def test_long_prompts_are_cut_to_the_budget() -> None:
    scheduler = _scheduler()
    scheduler.add(_seq(40, 0))
    work = [_apply(scheduler.schedule()) for _ in range(4)]
    assert work == [[("r0", 0, 16)], [("r0", 16, 32)], [("r0", 32, 40)], [("r0", 40, 41)]]


def test_decodes_come_first_and_prompts_share_what_is_left() -> None:
    scheduler = _scheduler()
    scheduler.add(_seq(3, 0))
    _apply(scheduler.schedule())
    scheduler.add(_seq(10, 1))
    scheduler.add(_seq(10, 2))
    assert _apply(scheduler.schedule()) == [("r0", 3, 4), ("r1", 0, 10), ("r2", 0, 5)]
    assert _apply(scheduler.schedule()) == [("r0", 4, 5), ("r1", 10, 11), ("r2", 5, 10)]


def test_no_more_than_max_num_seqs_run() -> None:
    scheduler = _scheduler(max_num_seqs=2)
    for arrival in range(3):
        scheduler.add(_seq(2, arrival))
    assert len(scheduler.schedule().items) == 2
    assert [seq.arrival for seq in scheduler.waiting] == [2]


def test_lower_priority_numbers_and_earlier_arrivals_are_admitted_first() -> None:
    scheduler = _scheduler(token_budget=8)
    for arrival, priority in ((0, 1), (1, 0), (2, 0)):
        scheduler.add(_seq(4, arrival, priority))
    assert [item.seq.arrival for item in scheduler.schedule().items] == [1, 2]


def test_the_last_in_order_is_preempted_and_comes_back() -> None:
    scheduler = _scheduler(num_blocks=2)
    first, second = _seq(4, 0), _seq(4, 1)
    scheduler.add(first)
    scheduler.add(second)
    _apply(scheduler.schedule())
    batch = scheduler.schedule()
    assert batch.num_preempted == 1
    assert _apply(batch) == [("r0", 4, 5)]
    assert scheduler.waiting == [second]
    assert second.block_table == []
    scheduler.finish(first)
    # All its tokens at once, the generated one among them.
    assert _apply(scheduler.schedule()) == [("r1", 0, 5)]


def test_a_prompt_that_does_not_fit_holds_back_those_behind_it() -> None:
    scheduler = _scheduler(num_blocks=4)
    for arrival, num_prompt in enumerate((9, 8, 1)):
        scheduler.add(_seq(num_prompt, arrival))
    assert [item.seq.arrival for item in scheduler.schedule().items] == [0]


def test_what_was_just_preempted_is_not_admitted_in_the_same_step() -> None:
    scheduler = _scheduler(num_blocks=3)
    for arrival in range(3):
        scheduler.add(_seq(4, arrival))
    _apply(scheduler.schedule())
    batch = scheduler.schedule()
    assert [item.seq.arrival for item in batch.items] == [0]
    assert [seq.arrival for seq in scheduler.waiting] == [1, 2]


def test_aborting_half_a_prefill_frees_everything() -> None:
    scheduler = _scheduler()
    seq = _seq(40, 0)
    scheduler.add(seq)
    _apply(scheduler.schedule())
    scheduler.finish(seq)
    assert scheduler.block_manager.num_used_blocks == 0
    assert not scheduler.has_unfinished
