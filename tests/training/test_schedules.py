"""Learning-rate schedules: their shapes, and bounds that hold for any setting."""

import math
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.training import TrainConfig
from cairn.training.schedules import learning_rate, schedule_share, warmup_steps

Schedule = Literal["cosine", "wsd", "constant"]


def make(schedule: Schedule, warmup: int | None = 10, decay_share: float = 0.2) -> TrainConfig:
    return TrainConfig(
        steps=100,
        schedule=schedule,
        warmup_steps=warmup,
        decay_share=decay_share,
        final_learning_rate=0.1,
        learning_rate=2.0,
    )


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_warm_up_is_linear_and_ends_at_the_peak(schedule: Schedule) -> None:
    config = make(schedule)
    assert [learning_rate(step, 100, config) for step in range(10)] == pytest.approx(
        [2.0 * (step + 1) / 10 for step in range(10)]
    )
    assert learning_rate(10, 100, config) == pytest.approx(2.0)


def test_cosine_passes_its_middle_half_way_and_ends_at_the_final_value() -> None:
    config = make("cosine", warmup=0)
    assert learning_rate(0, 101, config) == pytest.approx(2.0)
    assert learning_rate(50, 101, config) == pytest.approx(2.0 * (1 + 0.1) / 2)
    assert learning_rate(100, 101, config) == pytest.approx(0.2)


def test_wsd_is_flat_then_falls_with_the_root_over_the_last_share() -> None:
    config = make("wsd")
    assert {schedule_share(step, 100, config) for step in range(10, 80)} == {1.0}
    assert schedule_share(80, 100, config) == pytest.approx(1.0)
    half_way = 0.1 + 0.9 * (1 - math.sqrt(0.5))
    assert schedule_share(9, 20, make("wsd", 0, 1.0)) > half_way > schedule_share(10, 20, make("wsd", 0, 1.0))
    assert schedule_share(99, 100, config) == pytest.approx(0.1)


def test_constant_stays() -> None:
    assert {schedule_share(step, 100, make("constant")) for step in range(10, 200)} == {1.0}


def test_warm_up_defaults_to_two_percent_and_never_exceeds_the_run() -> None:
    assert warmup_steps(1000, make("cosine", None)) == 20
    assert warmup_steps(10, make("cosine", None)) == 1
    assert warmup_steps(5, make("cosine", 50)) == 5


@given(
    schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    warmup=st.none() | st.integers(0, 300),
    num_steps=st.integers(1, 200),
    decay_share=st.floats(0.01, 1.0),
)
def test_shares_lie_between_zero_and_one_and_fall_after_the_warm_up(
    schedule: Schedule, warmup: int | None, num_steps: int, decay_share: float
) -> None:
    config = make(schedule, warmup, decay_share)
    shares = [schedule_share(step, num_steps, config) for step in range(num_steps + 3)]
    assert all(0 < share <= 1 for share in shares)
    after = shares[warmup_steps(num_steps, config) :]
    assert all(earlier >= later for earlier, later in pairwise(after))
