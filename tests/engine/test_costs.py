"""What guesses cost, what chance they have, and how far it pays to go."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.engine.costs import Costs, Pace


def observed(steps: list[tuple[int, float]]) -> Costs:
    costs = Costs()
    for num_tokens, seconds in steps:
        costs.observe(num_tokens, seconds)
    return costs


def test_a_line_is_found() -> None:
    costs = observed([(1 + i % 9, 0.004 + 0.001 * (1 + i % 9)) for i in range(200)])
    assert costs.per_token == pytest.approx(0.001, rel=0.02)
    assert costs.seconds(1) == pytest.approx(0.005, rel=0.02)
    assert costs.seconds(20) == pytest.approx(0.024, rel=0.05)


def test_a_step_that_was_held_up_hardly_counts() -> None:
    steady = [(1 + i % 9, 0.004 + 0.001 * (1 + i % 9)) for i in range(100)]
    costs = observed([*steady, (3, 30.0), *steady[:20]])
    assert costs.seconds(1) == pytest.approx(0.005, rel=0.3)


def test_it_follows_a_machine_that_changes() -> None:
    costs = observed([(1 + i % 5, 0.001) for i in range(100)])
    assert costs.per_token < 1e-5
    for i in range(400):
        costs.observe(1 + i % 5, 0.01 * (1 + i % 5))
    assert costs.per_token == pytest.approx(0.01, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(1e-6, 10)), max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_costs_are_sane_whatever_was_seen(steps: list[tuple[int, float]]) -> None:
    """A token never costs less than nothing, nor more than its share of the mean step."""
    costs = observed(steps)
    assert costs.per_token >= 0
    for num in (1, 2, 16, 300):
        assert costs.seconds(num) > -1e-9
        assert costs.per_token * num <= costs.seconds(num) * (1 + 1e-6) + 1e-12


def test_guesses_go_further_after_hits_and_rest_after_misses() -> None:
    pace, price = Pace(), 1 / 16
    assert pace.length(price) == 4
    pace.learn(4, 4)
    assert pace.length(price) > 12
    lengths = []
    while length := pace.length(price):
        lengths.append(length)
        pace.learn(length, 0)
    assert lengths == sorted(lengths, reverse=True)
    assert sum(lengths) < 100
    for rest in (8, 16, 32):
        waits = [pace.length(price) for _ in range(rest)]
        assert waits == [0] * (rest - 1) + [1]
        pace.learn(1, 0)
        while pace.length(price):
            pace.learn(1, 0)


def test_a_right_guess_after_a_rest_wakes_it() -> None:
    pace, price = Pace(0.01), 0.25
    while not pace.length(price):
        pass
    pace.learn(1, 1)
    assert pace.length(price) >= 8


@pytest.mark.parametrize("price", [0.02, 0.25, 0.6, 0.9])
def test_what_never_hits_costs_next_to_nothing(price: float) -> None:
    pace = Pace()
    num_guessed = 0
    for _ in range(2000):
        length = pace.length(price)
        num_guessed += length
        if length:
            pace.learn(length, 0)
    assert num_guessed * price < 0.02 * 2000


@pytest.mark.parametrize(("chance", "price"), [(0.5, 0.7), (0.9, 0.97), (0.3, 0.9)])
def test_nothing_is_guessed_that_does_not_pay(chance: float, price: float) -> None:
    """But one now and then, to see whether that has changed."""
    pace, rng = Pace(chance), random.Random(1)
    num_guessed = 0
    for _ in range(2000):
        length = pace.length(price)
        num_guessed += length
        if length:
            hits = [rng.random() < chance for _ in range(length)]
            pace.learn(length, [*hits, False].index(False))
    assert num_guessed < 300


def test_guesses_without_any_worth_are_not_even_tried() -> None:
    pace = Pace()
    assert [pace.length(1.0) for _ in range(300)] == [0] * 300
    assert pace.length(0.1) > 0
