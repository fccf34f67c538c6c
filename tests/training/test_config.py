"""TrainConfig: lengths, micro batches, and what may change between a run and its resumption."""

import pytest

from cairn.core import ConfigError, parse_config
from cairn.training import TrainConfig


@pytest.mark.parametrize("values", [{}, {"steps": 5, "tokens": 100}, {"tokens": 1, "epochs": 1.0}])
def test_exactly_one_length_is_given(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="exactly one of steps, tokens and epochs"):
        parse_config(TrainConfig, values, source="test")


def test_the_number_of_steps_follows_from_whichever_length_is_given() -> None:
    assert TrainConfig(steps=7).num_steps(10**6) == 7
    assert TrainConfig(tokens=1000, batch_tokens=300).num_steps(10**6) == 4
    assert TrainConfig(epochs=1.5, batch_tokens=300).num_steps(1000) == 5
    assert TrainConfig(epochs=0.001, batch_tokens=300).num_steps(1000) == 1


def test_the_batch_is_made_of_whole_micro_batches() -> None:
    assert TrainConfig(steps=1, batch_tokens=512, micro_batch_tokens=128).num_micro_batches == 4
    assert TrainConfig(steps=1, batch_tokens=512).num_micro_batches == 1
    with pytest.raises(ConfigError, match="batch_tokens 512 is no multiple of micro_batch_tokens 100"):
        parse_config(TrainConfig, {"steps": 1, "batch_tokens": 512, "micro_batch_tokens": 100}, source="test")


def test_what_does_not_shape_the_result_is_no_difference() -> None:
    config = TrainConfig(steps=5)
    free = TrainConfig(steps=5, eval_every=3, keep_checkpoints=9, threads=1)
    assert free.differences(config.model_dump(mode="json")) == []
    changed = TrainConfig(steps=5, learning_rate=0.5, threads=2)
    assert changed.differences(config.model_dump(mode="json")) == ["learning_rate: 0.001 -> 0.5"]


def test_the_config_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, cairn.training; cairn.training.TrainConfig(steps=1); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
