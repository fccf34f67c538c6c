"""The Trainer: that it learns, what it reports, and what it does when numbers go wrong."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cairn.core import ConfigError
from cairn.data import Batch
from cairn.models import Decoder, PackedAttention
from cairn.training import NextToken, SupervisedFineTuning, TrainConfig, Trainer, TrainingDivergedError
from cairn.training.checkpoints import checkpoint_folders, load_checkpoint
from cairn.training.objectives import ObjectiveLoss
from tests.training import tiny

FLOOR = 0.25
CONTRACT = {
    "step",
    "time",
    "split",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "utilisation",
}


@pytest.mark.parametrize(("optimizer", "steps"), [("adamw", 240), ("muon", 100)])
def test_a_tiny_model_learns_a_tiny_text_by_heart(tmp_path: Path, optimizer: str, steps: int) -> None:
    """The quality floor. Uniform guessing costs 5.5 nats a byte, the letters' frequencies about 2.8."""
    data = tiny.dataset(tmp_path / "data", num_documents=4, length=100)
    config = tiny.config(steps=steps, batch_tokens=400, optimizer=optimizer, learning_rate=2e-2, log_every=20)
    result = Trainer(tiny.model(), data, config, run_folder=tmp_path / "run", validation=data).fit()
    assert result.validation_loss is not None
    assert result.validation_loss < FLOOR
    assert result.bits_per_byte is not None
    assert result.bits_per_byte < FLOOR / math.log(2)


def test_bfloat16_learns_as_well_as_float32(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    losses = [
        Trainer(
            tiny.model(),
            data,
            tiny.config(steps=25, dtype=dtype),
            run_folder=tmp_path / dtype,
            validation=data,
        )
        .fit()
        .validation_loss
        for dtype in ("float32", "bfloat16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_metrics_are_what_the_page_reads(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    config = tiny.config(steps=7, log_every=2, eval_every=3)
    result = Trainer(tiny.model(), data, config, run_folder=tmp_path / "run", validation=data).fit()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    validation = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in train] == [2, 4, 6, 7]
    assert [line["step"] for line in validation] == [3, 6, 7]
    assert all(set(line) == CONTRACT for line in train)
    assert all(set(line) == CONTRACT | {"bits_per_byte"} for line in validation)
    assert [line["tokens"] for line in train] == [1024, 2048, 3072, 3584]
    assert (result.steps, result.tokens, result.skipped_steps) == (7, 3584, 0)
    assert result.validation_loss == validation[-1]["loss"]
    assert result.utilisation is not None
    assert 0 < result.utilisation < 1
    assert result.tokens_per_second > 0
    assert result.peak_memory_bytes > 10**7
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_bits_per_byte_are_nats_over_bytes_of_text(tmp_path: Path) -> None:
    # Documents that fill whole batches: none is cut, so none is read in two pieces.
    data = tiny.dataset(tmp_path / "data", num_documents=12, length=64)
    model = tiny.model()
    trainer = Trainer(model, data, tiny.config(steps=1), run_folder=tmp_path / "run", validation=data)
    trainer.fit()
    nats = 0.0
    for place in range(data.num_documents):
        ids, _ = data.document(place)
        hidden = model(torch.from_numpy(ids), torch.arange(len(ids)), PackedAttention([0, len(ids)]))
        logits, targets = model.logits(hidden)[:-1].detach(), torch.from_numpy(ids[1:])
        nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    assert trainer.state.bits_per_byte == pytest.approx(nats / math.log(2) / data.num_bytes, rel=1e-5)


def test_evaluation_can_be_limited(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=20)
    seen: list[int] = []

    class Counting(NextToken):
        def loss(self, model: Decoder, batch: Batch, config: TrainConfig) -> ObjectiveLoss:
            if not torch.is_grad_enabled():
                seen.append(len(batch.input_ids))
            return super().loss(model, batch, config)

    config = tiny.config(steps=1, eval_tokens=600)
    Trainer(
        tiny.model(), data, config, run_folder=tmp_path / "run", validation=data, objective=Counting()
    ).fit()
    assert seen == [512, 512]


def test_fine_tuning_learns_only_what_the_mask_names(tmp_path: Path) -> None:
    data = tiny.masked_dataset(tmp_path / "data")
    config = tiny.config(steps=30)
    result = Trainer(
        tiny.model(),
        data,
        config,
        run_folder=tmp_path / "run",
        validation=data,
        objective=SupervisedFineTuning(),
    ).fit()
    assert result.bits_per_byte is None
    assert result.validation_loss is not None
    assert result.validation_loss < 3.5


def test_fine_tuning_without_a_mask_is_refused(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=4)
    with pytest.raises(ConfigError, match="needs data with a loss mask"):
        Trainer(
            tiny.model(), data, tiny.config(), run_folder=tmp_path / "run", objective=SupervisedFineTuning()
        )


class Poisoned(NextToken):
    """Next-token whose loss or gradient is not finite at some forward passes."""

    def __init__(self, at: set[int], *, gradient_only: bool = False) -> None:
        self._at, self._gradient_only, self._calls = at, gradient_only, 0

    def loss(self, model: Decoder, batch: Batch, config: TrainConfig) -> ObjectiveLoss:
        self._calls += 1
        loss = super().loss(model, batch, config)
        if self._calls not in self._at:
            return loss
        if self._gradient_only:
            return ObjectiveLoss(loss.total * float("inf"), loss.nats)
        return ObjectiveLoss(loss.total * float("nan"), loss.nats * float("nan"))


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_step_that_is_not_finite_is_skipped(tmp_path: Path, gradient_only: bool) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    model = tiny.model()
    objective = Poisoned({3, 5}, gradient_only=gradient_only)
    result = Trainer(model, data, tiny.config(), run_folder=tmp_path / "run", objective=objective).fit()
    assert (result.steps, result.skipped_steps) == (8, 2)
    assert math.isfinite(result.final_loss)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        assert math.isfinite(json.loads(line)["loss"])


def test_too_many_skipped_steps_end_the_run_with_a_remedy(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)
    config = tiny.config(steps=30, max_skipped_steps=3, checkpoint_every_steps=1)
    objective = Poisoned({2, 5, 6, 7, 8})
    with pytest.raises(TrainingDivergedError, match="stopped at step 7 of 30: 3 steps in a row") as raised:
        Trainer(tiny.model(), data, config, run_folder=tmp_path / "run", objective=objective).fit()
    assert "lower learning_rate" in raised.value.remedy
    newest = load_checkpoint(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])
    assert all(torch.isfinite(tensor).all() for tensor in newest.model.values())


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)

    class Breaking(NextToken):
        def loss(self, model: Decoder, batch: Batch, config: TrainConfig) -> ObjectiveLoss:
            loss = super().loss(model, batch, config)
            # After this forward pass, so that loss and gradient of the last step are still finite.
            model.norm.weight.data[0] = float("nan")
            return loss

    config = tiny.config(steps=1)
    with pytest.raises(TrainingDivergedError, match=r"norm.weight are not finite"):
        Trainer(tiny.model(), data, config, run_folder=tmp_path / "run", objective=Breaking()).fit()
    folders = checkpoint_folders(tmp_path / "run" / "checkpoints")
    assert [folder.name for folder in folders] == ["step-00000000"]


def test_experts_are_balanced_by_their_own_loss(tmp_path: Path) -> None:
    data = tiny.dataset(tmp_path / "data", num_documents=10)

    def imbalance(weight: float) -> float:
        model = experts()
        config = tiny.config(steps=25, aux_loss=weight, learning_rate=1e-2)
        Trainer(model, data, config, run_folder=tmp_path / f"run-{weight}").fit()
        batch = data.batch(0, tokens=1024, seed=1, max_document=128)
        ids, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.positions)
        model(ids, positions, PackedAttention(batch.cu_seqlens.tolist()))
        return model.aux_loss().item()

    assert imbalance(1.0) < imbalance(0.0)


def experts() -> Decoder:
    """The tiny model with four experts, two of them for each token."""
    values: dict[str, Any] = {
        "model_type": "mixtral",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "router_aux_loss_coef": 0.02,
        "tie_word_embeddings": False,
    }
    return tiny.model(**values)
