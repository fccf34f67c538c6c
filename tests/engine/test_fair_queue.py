"""Fairness of the scheduler: turns, shares, priorities; and that one tenant alone notices nothing of it."""

from bisect import insort
from collections import Counter
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.engine.block_manager import BlockManager
from cairn.engine.fair_queue import OTHERS, PATIENCE, order
from cairn.engine.scheduler import ScheduledBatch, Scheduler
from cairn.engine.sequence import Sequence, SequenceStatus
from tests.engine.simulation import compute, make_scheduler, make_sequence

_SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def _tenants(batch: ScheduledBatch) -> Counter[str]:
    """Tokens of each tenant in a step."""
    found: Counter[str] = Counter()
    for item in batch.items:
        found[item.seq.request.tenant] += item.num_tokens
    return found


Sizes = list[tuple[int, int]]
sizes = st.lists(st.tuples(st.integers(1, 120), st.integers(1, 20)), min_size=1, max_size=12)


# --- one tenant alone ---------------------------------------------------------------------------


class _InOrder:
    """First come, first served, as plainly as can be said: what one tenant alone must get."""

    def __init__(self, manager: BlockManager, max_num_seqs: int, token_budget: int) -> None:
        self.manager, self.max_num_seqs, self.token_budget = manager, max_num_seqs, token_budget
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def add(self, seq: Sequence) -> None:
        insort(self.waiting, seq, key=order)

    def finish(self, seq: Sequence) -> None:
        self.running.remove(seq)
        self.manager.free(seq)

    def step(self) -> dict[int, tuple[int, int]]:
        preempted = self._make_room()
        work = {
            seq.arrival: (seq.num_computed_tokens, seq.num_tokens) for seq in self.running if seq.is_decoding
        }
        left = self.token_budget - len(work)
        for seq in self.running:
            if not seq.is_decoding:
                left -= self._read(seq, left, work)
        while not preempted and left > 0 and self.waiting and len(self.running) < self.max_num_seqs:
            if not self.manager.can_allocate(self.waiting[0]):
                break
            seq = self.waiting.pop(0)
            self.manager.allocate(seq)
            self.running.append(seq)
            left -= self._read(seq, left, work)
        self.running.sort(key=order)
        return work

    def _make_room(self) -> bool:
        preempted = False
        for seq in list(self.running):
            while seq in self.running and seq.is_decoding:
                if self.manager.can_append(seq):
                    self.manager.append(seq)
                    break
                last = self.running.pop()
                self.manager.free(last)
                self.add(last)
                preempted = True
        return preempted

    def _read(self, seq: Sequence, most: int, work: dict[int, tuple[int, int]]) -> int:
        num = min(most, seq.num_uncomputed_tokens)
        if num > 0:
            work[seq.arrival] = (seq.num_computed_tokens, seq.num_computed_tokens + num)
        return num


@_SETTINGS
@given(
    sizes,
    st.lists(st.integers(0, 6), min_size=12, max_size=12),
    st.lists(st.integers(0, 1), min_size=12, max_size=12),
    st.integers(12, 60),
    st.integers(1, 6),
    st.integers(6, 64),
)
def test_one_tenant_alone_is_served_as_it_comes(
    requests: Sizes, gaps: list[int], priorities: list[int], num_blocks: int, num_seqs: int, budget: int
) -> None:
    scheduler = make_scheduler(num_blocks, prefix_cache=False, max_num_seqs=num_seqs, token_budget=budget)
    plain = _InOrder(BlockManager(num_blocks, 16, prefix_cache=False), num_seqs, budget)
    due = [sum(gaps[: i + 1]) for i in range(len(requests))]
    copies: dict[int, Sequence] = {}
    step = 0
    while step <= due[-1] or scheduler.has_unfinished:
        for i, (num_prompt, num_new) in enumerate(requests):
            if due[i] == step:
                copies[i] = make_sequence(i, num_prompt, num_new, tenant="x", priority=priorities[i])
                plain.add(copies[i])
                scheduler.add(make_sequence(i, num_prompt, num_new, tenant="x", priority=priorities[i]))
        work = plain.step()
        batch = scheduler.schedule() if scheduler.has_unfinished else ScheduledBatch((), 0)
        assert {item.seq.arrival: (item.start, item.stop) for item in batch.items} == work
        compute(scheduler, batch)
        for i, (_, stop) in work.items():
            seq = copies[i]
            seq.num_computed_tokens = stop
            if stop == seq.num_tokens:
                seq.token_ids.append(0)
                if seq.num_new_tokens >= seq.max_new_tokens:
                    plain.finish(seq)
        step += 1


# --- many tenants -------------------------------------------------------------------------------


@st.composite
def crowds(draw: st.DrawFn) -> list[Sequence]:
    """Requests of a few tenants, with weights, priorities and KV shares of their own."""
    kind = st.tuples(
        st.sampled_from([1.0, 0.5, 3.0]), st.sampled_from([0, 0, 1]), st.sampled_from([None, None, 0.2, 1.0])
    )
    kinds = draw(st.lists(kind, min_size=1, max_size=4))
    found = []
    for i, (num_prompt, num_new) in enumerate(draw(sizes)):
        k = draw(st.integers(0, len(kinds) - 1))
        weight, priority, kv_share = kinds[k]
        found.append(
            make_sequence(
                i, num_prompt, num_new, tenant=f"t{k}", weight=weight, priority=priority, kv_share=kv_share
            )
        )
    return found


@_SETTINGS
@given(crowds(), st.integers(12, 60), st.integers(1, 6), st.integers(6, 64), st.integers(0, 4))
def test_work_is_never_left_and_everybody_is_served(
    seqs: list[Sequence], num_blocks: int, num_seqs: int, budget: int, pace: int
) -> None:
    """The budget is spent unless a place, blocks or prompts are wanting; and all come to their end."""
    scheduler = make_scheduler(num_blocks, max_num_seqs=num_seqs, token_budget=budget, fair_chunk=budget)
    todo = list(seqs)
    num_steps = 0
    while todo or scheduler.has_unfinished:
        if todo and (num_steps % (pace + 1) == 0 or not scheduler.has_unfinished):
            scheduler.add(todo.pop(0))
        batch = scheduler.schedule()
        assert 0 < batch.num_tokens <= budget
        assert len(scheduler.running) <= num_seqs
        if batch.num_tokens < budget and not batch.num_preempted:
            done = {item.seq for item in batch.items if item.is_complete}
            assert done == set(scheduler.running), "a prompt was left although there was budget"
            assert all(
                len(scheduler.running) == num_seqs or not scheduler.block_manager.can_allocate(seq)
                for line in scheduler.queue.active()
                for seq in line.waiting[:1]
            ) or _somebody_has_a_right(scheduler), "somebody waits although there was room"
        compute(scheduler, batch)
        num_steps += 1
        assert num_steps < 20_000, "no end in sight"
    assert all(seq.status is SequenceStatus.FINISHED for seq in seqs)
    assert scheduler.block_manager.num_used_blocks == 0
    assert not list(scheduler.queue.active())


def _somebody_has_a_right(scheduler: Scheduler) -> bool:
    """Whether a head within its share does not fit: then those behind it wait too."""
    return any(
        scheduler._is_within_share(line, line.waiting[0])
        and not scheduler.block_manager.can_allocate(line.waiting[0])
        for line in scheduler.queue.active()
        if line.waiting
    )


@_SETTINGS
@given(
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), min_size=2, max_size=4),
    st.lists(st.integers(1, 700), min_size=5, max_size=20),
    st.integers(0, 30),
    st.integers(0, 3000),
)
def test_what_queueing_tenants_get_is_as_their_weights(
    weights: list[float], lengths: list[int], late: int, credit: int
) -> None:
    """In every stretch in which two queue, service per weight differs by the credit and a step of each."""
    budget = 64
    scheduler = make_scheduler(
        4096, max_num_seqs=budget, token_budget=budget, fair_credit=credit, fair_chunk=budget
    )

    def here(step: int) -> list[tuple[str, float]]:
        return [(f"t{i}", weight) for i, weight in enumerate(weights) if step >= i * late]

    given: Counter[str] = Counter()
    least: dict[tuple[str, str], float] = {}
    arrival = 0
    for step in range(200):
        # They come one after the other; from then on each always has more waiting than a step holds.
        for name, weight in here(step):
            while sum(seq.num_tokens for seq in scheduler.waiting if seq.request.tenant == name) < budget:
                num_prompt = lengths[arrival % len(lengths)]
                scheduler.add(make_sequence(arrival, num_prompt, tenant=name, weight=weight))
                arrival += 1
        batch = scheduler.schedule()
        given.update(_tenants(batch))
        compute(scheduler, batch)
        for (one, weight), (other, its) in permutations(here(step), 2):
            # Beyond the least lead there was: what the stretch since then gave one more than the other.
            lead = given[one] / weight - given[other] / its
            least[one, other] = min(least.get((one, other), lead), lead)
            assert lead - least[one, other] <= credit + 2 * budget * (1 / weight + 1 / its)


def _beside_busy(*known: str, credit: int) -> Scheduler:
    """Somebody has been queueing for 60 steps of 100 tokens; `known` asked for a token before that."""
    scheduler = make_scheduler(token_budget=100, fair_credit=credit, fair_chunk=100)
    for i, name in enumerate(known):
        scheduler.add(make_sequence(i, 1, tenant=name))
    for i in range(100, 200):
        scheduler.add(make_sequence(i, 100, tenant="busy"))
    _given(scheduler, 60)
    return scheduler


def _given(scheduler: Scheduler, num_steps: int) -> Counter[str]:
    """Tokens of each tenant in so many steps."""
    found: Counter[str] = Counter()
    for _ in range(num_steps):
        batch = scheduler.schedule()
        found += _tenants(batch)
        compute(scheduler, batch)
    return found


def test_what_was_left_to_others_is_credit_up_to_a_limit() -> None:
    scheduler = _beside_busy("light", credit=300)
    for i in range(200, 220):
        scheduler.add(make_sequence(i, 100, tenant="light"))
    assert _given(scheduler, 3) == {"light": 300}
    later = _given(scheduler, 6)
    assert abs(later["light"] - later["busy"]) <= 200


def test_who_was_never_there_has_no_credit() -> None:
    scheduler = _beside_busy(credit=300)
    for i in range(200, 220):
        scheduler.add(make_sequence(i, 100, tenant="new"))
    assert _given(scheduler, 8) == {"busy": 400, "new": 400}


def test_credit_goes_before_those_who_queue_and_not_before_other_credit() -> None:
    scheduler = _beside_busy("one", "other", credit=1000)
    for i in range(200, 212):
        scheduler.add(make_sequence(i, 100, tenant="one" if i % 2 else "other"))
    assert _given(scheduler, 8) == {"one": 400, "other": 400}


def test_what_nobody_else_wanted_is_not_counted() -> None:
    """One request after the other, alone on the machine: credit beside whoever comes then and floods it."""
    scheduler = make_scheduler(token_budget=100, fair_credit=1000, fair_chunk=100)
    for i in range(8):
        scheduler.add(make_sequence(i, 60, 5, tenant="calm"))
        while scheduler.has_unfinished:
            compute(scheduler, scheduler.schedule())
    for i in range(10, 60):
        scheduler.add(make_sequence(i, 100, tenant="flood" if i < 40 else "calm"))
    # 8 times 60 tokens read and 4 decoded, which count twice: 544 before the flood, to the end of a step.
    assert _given(scheduler, 6) == {"calm": 600}
    assert _given(scheduler, 7) == {"calm": 300, "flood": 400}


def test_what_was_given_is_not_forgotten_by_pausing() -> None:
    """Asking one thing after the other is no way to be served more than one's share."""
    scheduler = make_scheduler(token_budget=100, fair_credit=0, fair_chunk=100)
    for i in range(200):
        scheduler.add(make_sequence(i, 100, tenant="queueing"))
    given: Counter[str] = Counter()
    for step in range(100):
        if "pausing" not in scheduler.queue.lines or not scheduler.queue.lines["pausing"].is_active:
            scheduler.add(make_sequence(200 + step, 300, tenant="pausing"))
        batch = scheduler.schedule()
        given.update(_tenants(batch))
        compute(scheduler, batch)
    assert abs(given["pausing"] - given["queueing"]) <= 400


def test_prompts_give_way_to_those_who_decode() -> None:
    """Somebody who floods the queue with prompts does not stretch the steps in which others write."""
    scheduler = _beside_busy("light", credit=10_000)
    scheduler.fair_chunk = 10
    scheduler.add(make_sequence(200, 50, 5, tenant="light"))
    for num_light in (50, 1, 1, 1, 1):
        batch = scheduler.schedule()
        assert _tenants(batch) == {"light": num_light, "busy": 10}
        compute(scheduler, batch)
    assert scheduler.schedule().num_tokens == 100


def test_prompts_wait_while_others_with_credit_wait_for_a_place() -> None:
    scheduler = _beside_busy("light", credit=10_000)
    scheduler.fair_chunk = 10
    for i in range(200, 220):
        scheduler.add(make_sequence(i, 5, 100, tenant="light"))
    assert _given(scheduler, PATIENCE - 1)["busy"] == 0, "busy reads while others wait"
    assert sum(seq.request.tenant == "light" for seq in scheduler.running) >= 15
    assert 0 < _given(scheduler, 1)["busy"] <= 10, "nothing for so many steps, and no turn"


# --- places and blocks --------------------------------------------------------------------------


def _flooded(num_blocks: int = 64, *, kv_share: float | None = None) -> Scheduler:
    """Sixteen sequences of a flood decode in all places; each holds 4 blocks of 16."""
    scheduler = make_scheduler(num_blocks, max_num_seqs=16, token_budget=2048)
    for i in range(20):
        scheduler.add(make_sequence(i, 60, 1000, tenant="flood", kv_share=kv_share))
    compute(scheduler, scheduler.schedule())
    assert len(scheduler.running) == 16
    return scheduler


def test_idle_places_may_be_used_and_are_given_back_at_once() -> None:
    scheduler = _flooded(1000)
    for i in range(20, 32):
        scheduler.add(make_sequence(i, 10, 1000, tenant="victim"))
    batch = scheduler.schedule()
    running = Counter(seq.request.tenant for seq in scheduler.running)
    assert running == {"flood": 8, "victim": 8}
    assert batch.num_preempted == 8
    # The oldest of the flood go on; who was preempted does not push back.
    assert [seq.arrival for seq in scheduler.running if seq.request.tenant == "flood"] == list(range(8))
    compute(scheduler, batch)
    assert scheduler.schedule().num_preempted == 0


def test_places_are_as_the_weights() -> None:
    scheduler = _flooded(1000)
    for i in range(20, 40):
        scheduler.add(make_sequence(i, 10, 1000, tenant="victim", weight=3))
    scheduler.schedule()
    assert Counter(seq.request.tenant for seq in scheduler.running) == {"flood": 4, "victim": 12}


@_SETTINGS
@given(st.integers(1, 32), st.integers(0, 20))
def test_blocks_within_a_share_are_given_back_at_once(num_needed: int, num_steps: int) -> None:
    """Who needs blocks within its share has them in the step in which it comes, and keeps them."""
    scheduler = _flooded(64)
    for _ in range(num_steps):
        compute(scheduler, scheduler.schedule())
    victim = make_sequence(20, num_needed * 16, 2, tenant="victim")
    scheduler.add(victim)
    batch = scheduler.schedule()
    assert victim in [item.seq for item in batch.items]
    compute(scheduler, batch)
    if victim.num_prompt_tokens < 32 * 16:
        assert victim in [item.seq for item in scheduler.schedule().items]


def test_a_kv_share_of_its_own() -> None:
    scheduler = _flooded(64, kv_share=0.9)
    first, second = (make_sequence(i, 60, 100, tenant="victim", kv_share=0.1) for i in (20, 21))
    scheduler.add(first)
    scheduler.add(second)
    scheduler.schedule()
    # 6 blocks are its own: the first sequence is a right, a second one would be beyond them.
    assert [seq for seq in scheduler.running if seq.request.tenant == "victim"] == [first]


def test_in_need_of_a_block_the_over_served_give_way() -> None:
    scheduler = make_scheduler(40, max_num_seqs=16, token_budget=2048)
    for i in range(9):
        scheduler.add(make_sequence(i, 63, 100, tenant="flood"))
    scheduler.add(make_sequence(9, 63, 100, tenant="victim"))
    compute(scheduler, scheduler.schedule())
    preempted = 0
    for _ in range(3):
        batch = scheduler.schedule()
        preempted += batch.num_preempted
        compute(scheduler, batch)
    assert preempted > 0
    assert {seq.request.tenant for seq in scheduler.waiting} == {"flood"}


# --- priorities ---------------------------------------------------------------------------------


def test_classes_are_strict_but_for_one_turn_in_many() -> None:
    scheduler = make_scheduler(token_budget=100, fair_credit=0, fair_chunk=100)
    num_added = 0
    low = make_sequence(10_000, 150, 1, tenant="low", priority=1)
    scheduler.add(low)
    steps_of_low = []
    for step in range(3 * PATIENCE):
        while "high" not in scheduler.queue.lines or len(scheduler.queue.lines["high"].waiting) < 3:
            scheduler.add(make_sequence(num_added, 100, tenant="high", priority=0))
            num_added += 1
        batch = scheduler.schedule()
        if any(item.seq is low for item in batch.items):
            steps_of_low.append(step + 1)
        compute(scheduler, batch)
    assert steps_of_low == [PATIENCE, 2 * PATIENCE]
    assert low.status is SequenceStatus.FINISHED


# --- statistics ---------------------------------------------------------------------------------


def test_statistics_name_the_first_tenants_and_add_up_the_rest() -> None:
    scheduler = make_scheduler(max_num_seqs=16, token_budget=2048)
    for i in range(200):
        scheduler.add(make_sequence(i, 10, tenant=f"t{i:03}"))
    while scheduler.has_unfinished:
        compute(scheduler, scheduler.schedule())
    found = scheduler.queue.stats()
    assert len(found) == 65
    assert sum(each.num_computed_tokens for each in found) == 2000
    assert next(each for each in found if each.tenant == OTHERS).num_computed_tokens == 1360
    assert all(each.num_waiting == each.num_running == 0 for each in found)
