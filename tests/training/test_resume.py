"""A run killed or interrupted at any moment and started again ends with the same bytes."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cairn.core import ConfigError, IntegrityError, StorageError
from cairn.data import Batch
from cairn.models import Decoder, weight_files
from cairn.training import NextToken, TrainConfig, Trainer, checkpoints
from cairn.training.objectives import ObjectiveLoss
from tests.training import tiny
from tests.training.killed_run import SHARES

ROOT = Path(__file__).parents[2]


def outcome(run: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The last checkpoint's tensors as bytes, and the metrics without what clocks measured."""
    last = checkpoints.checkpoint_folders(run / "checkpoints")[-1]
    tensors = {name: (last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = {"time", "tokens_per_second", "utilisation"}
    return tensors, [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def test_killed_anywhere_it_ends_bit_identical(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.killed_run", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    straight = outcome(tmp_path / "straight")
    killed = sorted(tmp_path.glob("killed-*"))
    assert len(killed) == len(SHARES)
    for run in killed:
        assert outcome(run) == straight, run.name
        assert not list(run.glob("checkpoints/.writing-*"))


class Signalling(NextToken):
    """Next-token, but sends this process a signal during a given forward pass."""

    def __init__(self, number: signal.Signals, at: int) -> None:
        self._number, self._at, self._calls = number, at, 0

    def loss(self, model: Decoder, batch: Batch, config: TrainConfig) -> ObjectiveLoss:
        self._calls += 1
        if self._calls == self._at:
            os.kill(os.getpid(), self._number)
        return super().loss(model, batch, config)


@pytest.mark.parametrize(
    ("number", "at"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 6), (signal.SIGINT, 9), (signal.SIGTERM, 12)],
)
def test_a_signal_writes_a_checkpoint_and_stops(tmp_path: Path, number: signal.Signals, at: int) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    config = tiny.config(steps=6, micro_batch_tokens=256, eval_every=2)

    def trainer(run: str, objective: NextToken) -> Trainer:
        folder = tmp_path / run
        return Trainer(tiny.model(), data, config, run_folder=folder, validation=data, objective=objective)

    straight = trainer("straight", NextToken()).fit()
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match=f"{number.name} at step"):
        trainer("stopped", Signalling(number, at)).fit()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = trainer("stopped", NextToken()).fit()
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")
    assert (resumed.final_loss, resumed.validation_loss) == (straight.final_loss, straight.validation_loss)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    first = Trainer(tiny.model(), data, tiny.config(), run_folder=tmp_path / "run", validation=data).fit()
    before = outcome(tmp_path / "run")
    model = tiny.model(seed=5)
    again = Trainer(model, data, tiny.config(), run_folder=tmp_path / "run", validation=data).fit()
    assert outcome(tmp_path / "run") == before
    assert (again.steps, again.final_loss, again.bits_per_byte) == (8, first.final_loss, first.bits_per_byte)


def test_a_full_disk_stops_the_run_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    config = tiny.config(steps=6, checkpoint_every_steps=2)
    Trainer(tiny.model(), data, config, run_folder=tmp_path / "straight").fit()
    trainer = Trainer(tiny.model(), data, config, run_folder=tmp_path / "full")
    real = weight_files.raw_bytes
    writes = iter(range(10**6))

    def full(tensor: Any) -> bytes | memoryview:
        if next(writes) == 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(tensor)

    monkeypatch.setattr(weight_files, "raw_bytes", full)
    with pytest.raises(StorageError, match="cannot write the checkpoint of step 4"):
        trainer.fit()
    assert trainer.fit().steps == 6
    assert outcome(tmp_path / "full") == outcome(tmp_path / "straight")


def test_a_damaged_last_checkpoint_costs_only_the_steps_since_the_one_before(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    config = tiny.config(steps=6, checkpoint_every_steps=2)
    Trainer(tiny.model(), data, config, run_folder=tmp_path / "run").fit()
    before = outcome(tmp_path / "run")
    last = checkpoints.checkpoint_folders(tmp_path / "run" / "checkpoints")[-1] / "model.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    said: list[str] = []
    Trainer(tiny.model(), data, config, run_folder=tmp_path / "run", progress=Saying(said)).fit()
    assert "is not what was written; going back" in said[0]
    assert said[1] == "resumed at step 4 of 6"
    assert outcome(tmp_path / "run") == before
    for path in checkpoints.checkpoint_folders(tmp_path / "run" / "checkpoints"):
        (path / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match="every checkpoint"):
        Trainer(tiny.model(), data, config, run_folder=tmp_path / "run").fit()


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    other = tiny.dataset(tmp_path / "other", num_documents=11)
    run = tmp_path / "run"
    Trainer(tiny.model(), data, tiny.config(), run_folder=run).fit()
    with pytest.raises(ConfigError, match=r"another run \(learning_rate: 0.003 -> 0.1\)") as raised:
        Trainer(tiny.model(), data, tiny.config(learning_rate=0.1), run_folder=run).fit()
    assert "new run folder" in raised.value.remedy
    with pytest.raises(ConfigError, match="data: sha256"):
        Trainer(tiny.model(), other, tiny.config(), run_folder=run).fit()
    with pytest.raises(ConfigError, match="model: sha256"):
        Trainer(tiny.model(hidden_size=16), data, tiny.config(), run_folder=run).fit()


class Saying:
    """A progress that keeps what was said."""

    def __init__(self, said: list[str]) -> None:
        from cairn.core import Silent

        self._said = said
        self.task = Silent().task

    def say(self, text: str) -> None:
        self._said.append(text)
