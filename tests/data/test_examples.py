"""Examples: batches of whole ones, each once an epoch, the same for the same step."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import ConfigError, IntegrityError
from cairn.data.examples import Example, ExampleSet

TEXT = st.lists(st.integers(0, 50), min_size=1, max_size=6)
EXAMPLES = st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=12)


def example_set(examples: list[list[list[int]]]) -> ExampleSet:
    return ExampleSet.of(
        Example([(text, [place] * len(text)) for text in texts], [place, len(texts)])
        for place, texts in enumerate(examples)
    )


@settings(deadline=None)
@given(EXAMPLES, st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_shows_every_example_once_and_whole(
    examples: list[list[list[int]]], tokens: int, seed: int
) -> None:
    made = example_set(examples)
    seen: list[int] = []
    step = 0
    while len(seen) < len(examples):
        batch = made.batch(step, tokens=tokens, seed=seed)
        texts = np.split(batch.input_ids, batch.cu_seqlens[1:-1])
        for (place, count), first in zip(batch.labels.tolist(), batch.example_bounds.tolist(), strict=False):
            assert [text.tolist() for text in texts[first : first + count]] == examples[place]
            seen.append(place)
        assert len(batch.input_ids) <= tokens or len(batch.labels) == 1
        step += 1
    assert sorted(seen) == list(range(len(examples)))


def test_micro_batches_are_the_batches_between(tmp_path: Path) -> None:
    made = example_set([[[place] * 4] for place in range(9)])
    plain = [made.batch(step, tokens=8, seed=1).labels[:, 0].tolist() for step in range(6)]
    pairs = [
        made.batch(step, tokens=8, seed=1, micro=micro, num_micro=2).labels[:, 0].tolist()
        for step in range(3)
        for micro in range(2)
    ]
    assert plain == pairs
    order = [each.labels[:, 0].tolist() for each in made.sequential(8)]
    assert order == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8],
    ]
    made.save(tmp_path / "set.npz")
    again = ExampleSet.open(tmp_path / "set.npz")
    assert again.digest == made.digest
    assert again.batch(1, tokens=8, seed=1).labels[:, 0].tolist() == plain[1]
    assert example_set([[[1]]]).digest != made.digest


def test_what_holds_no_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no examples"):
        ExampleSet.of([])
    (tmp_path / "set.npz").write_bytes(b"no archive")
    with pytest.raises(IntegrityError, match="damaged"):
        ExampleSet.open(tmp_path / "set.npz")
