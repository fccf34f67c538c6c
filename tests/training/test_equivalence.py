"""Runs that are equal by design share one recorded trajectory of losses.

Each is compared with the recording: no step may be off by more than MAX_ERROR, and the mean signed
difference may not exceed MAX_DRIFT, because an error that always points one way is a mistake
even when it is small (the idea is that of TRL's invariant tests). The recording is of float32 on one
thread; `CAIRN_RECORD_TRAJECTORIES=1` writes it anew, which a change meant to keep numerics never needs.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cairn.training import NextToken, Trainer
from cairn.training.config import TrainConfig
from cairn.training.objectives import ObjectiveLoss
from tests.training import tiny

RECORDING = Path(__file__).parent / "trajectories" / "next_token.json"
MAX_ERROR = 5e-4
MAX_DRIFT = 1e-4
STEPS = 14

# Documents of 64 tokens: a batch is 8 of them, however it is divided.
DESIGNS: dict[str, dict[str, Any]] = {
    "batch of 8": {},
    "4 x 2": {"micro_batch_tokens": 256},
    "one document a call": {"micro_batch_tokens": 64},
    "checkpointed activations": {"checkpoint_activations": True},
    "one chunk of logits": {"loss_chunk_tokens": 10**6},
    "small chunks of logits": {"loss_chunk_tokens": 7},
    "resumed": {"checkpoint_every_steps": 5},
}


class Stopping(NextToken):
    """Next-token that fails at its eighth forward pass."""

    calls = 0

    def loss(self, *arguments: Any) -> ObjectiveLoss:
        self.calls += 1
        if self.calls == 8:
            raise RuntimeError("pulled the plug")
        return super().loss(*arguments)


def trajectory(folder: Path, config: TrainConfig, *, is_stopped: bool = False) -> list[float]:
    data = tiny.dataset(folder / "data", num_documents=48, length=64)
    if is_stopped:
        with pytest.raises(RuntimeError, match="pulled the plug"):
            Trainer(tiny.model(), data, config, run_folder=folder / "run", objective=Stopping()).fit()
    Trainer(tiny.model(), data, config, run_folder=folder / "run").fit()
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("design", DESIGNS)
def test_equal_designs_follow_the_recorded_trajectory(tmp_path: Path, design: str) -> None:
    config = tiny.config(steps=STEPS, max_document=64, **DESIGNS[design])
    found = trajectory(tmp_path, config, is_stopped=design == "resumed")
    if design == "batch of 8" and os.environ.get("CAIRN_RECORD_TRAJECTORIES"):
        RECORDING.write_text(json.dumps([round(loss, 7) for loss in found], indent=1) + "\n")
    recorded = json.loads(RECORDING.read_text())
    assert len(found) == len(recorded) == STEPS
    differences = [ours - theirs for ours, theirs in zip(found, recorded, strict=True)]
    assert max(map(abs, differences)) < MAX_ERROR
    assert abs(sum(differences) / STEPS) < MAX_DRIFT
    assert recorded[-1] < recorded[0] - 1
