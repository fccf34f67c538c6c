"""Repetition and distinct-n."""

import pytest

from cairn.evaluation import diversity, repetition


def test_a_loop_is_repetition() -> None:
    assert repetition("and then he said " * 10) > 0.8
    assert repetition("no four words of this line occur in it twice at all") == 0.0


def test_distinct_counts_over_all_texts() -> None:
    result = diversity(["a b a b", "a b"])
    assert result.distinct_1 == pytest.approx(2 / 6)
    assert result.distinct_2 == pytest.approx(2 / 4)


def test_nothing_is_not_repetitive() -> None:
    assert diversity([]).repetition == 0.0
    assert diversity(["one"]).distinct_2 == 1.0
