"""Heads on an encoder in training: what their losses are, that the base rests, and that a run resumes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cairn.core import ConfigError
from cairn.data.examples import Example, ExampleBatch, ExampleSet
from cairn.models.adapted_encoder import AdaptedEncoder, adaptable_encoder
from cairn.training import TrainConfig, Trainer
from cairn.training.contrast import MEAN_SHARE, SHARPNESS, ContrastObjective
from cairn.training.objectives import ObjectiveLoss
from cairn.training.span import SpanObjective
from tests.models.tiny_encoders import VOCAB, tiny_encoder

CONFIG = TrainConfig(
    steps=6, batch_tokens=64, learning_rate=0.01, log_every=1, checkpoint_every_steps=2, threads=1
)


def network(task: Any) -> AdaptedEncoder:
    return adaptable_encoder(tiny_encoder("bert")[1], task, rank=2, alpha=4.0, max_tokens=64, seed=3)


def questions(count: int = 12) -> ExampleSet:
    """A question of three tokens and a passage; the answer is where token 7 stands, if it does."""
    rng = np.random.default_rng(4)
    examples = []
    for place in range(count):
        ids = rng.integers(10, VOCAB, 14).tolist()
        answer = (0, 0) if place % 4 == 3 else (6, 7)
        ids[answer[0]] = 7
        examples.append(Example([(ids, [0] * 4 + [1] * 10)], [4, *answer]))
    return ExampleSet.of(examples)


def pairs(count: int = 8) -> ExampleSet:
    rng = np.random.default_rng(5)
    examples = []
    for place in range(count):
        texts = [rng.integers(10, VOCAB, length).tolist() for length in (4, 9, 7)]
        examples.append(Example([(text, [0] * len(text)) for text in texts], [place // 2]))
    return ExampleSet.of(examples)


@torch.no_grad()
def rows_of(model: AdaptedEncoder, batch: ExampleBatch) -> list[torch.Tensor]:
    bounds = batch.cu_seqlens.tolist()
    rows = model(torch.from_numpy(batch.input_ids), bounds, torch.from_numpy(batch.types))
    return list(rows.split(np.diff(bounds).tolist()))


@torch.no_grad()
def test_the_span_loss_is_over_the_places_allowed() -> None:
    model, batch = network("reading"), questions().batch(0, tokens=64, seed=0)
    expected = 0.0
    for rows, (context, *ends) in zip(rows_of(model, batch), batch.labels.tolist(), strict=True):
        places = [0, *range(context, len(rows) - 1)]
        for column, right in enumerate(ends):
            shares = torch.softmax(rows[places, column], 0)
            expected -= float(torch.log(shares[places.index(right)])) / 2
    objective = SpanObjective()
    loss = objective.loss(model, batch, CONFIG)
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)
    assert objective.num_targets(batch) == len(batch.labels) == 4


@torch.no_grad()
def test_the_contrast_is_with_all_other_passages_of_the_batch() -> None:
    weights = np.linspace(1, 3, VOCAB, dtype=np.float32)
    model, batch = network("reranking"), pairs(4).batch(0, tokens=200, seed=0)
    texts = rows_of(model, batch)
    tokens = np.split(batch.input_ids, batch.cu_seqlens[1:-1])
    queries, numbers = texts[::3], batch.labels[:, 0].tolist()
    passages = [text for place, text in enumerate(texts) if place % 3]
    unit = torch.nn.functional.normalize
    expected = 0.0
    for place, query in enumerate(queries):
        weight = torch.from_numpy(weights[tokens[3 * place][1:-1]])
        scores = []
        for passage in passages:
            meeting = (unit(query[1:-1], dim=-1) @ unit(passage, dim=-1).T).amax(1)
            mean = unit(query.mean(0), dim=0) @ unit(passage.mean(0), dim=0)
            scores.append(SHARPNESS * ((meeting * weight).sum() / weight.sum() + MEAN_SHARE * mean))
        others = [  # not the same passage under another query
            each for each in range(len(passages)) if each % 2 or numbers[each // 2] != numbers[place]
        ]
        found = torch.stack([scores[2 * place], *(scores[each] for each in others)])
        expected -= float(torch.log_softmax(found, 0)[0])
    loss = ContrastObjective(weights).loss(model, batch, CONFIG)
    assert float(loss.total) == pytest.approx(expected, rel=1e-4)


class Unplugged(SpanObjective):
    """Ends in the fifth step."""

    calls = 0

    def loss(self, model: AdaptedEncoder, batch: ExampleBatch, config: TrainConfig) -> ObjectiveLoss:
        self.calls += 1
        if self.calls == 5:
            raise RuntimeError("the plug was pulled")
        return super().loss(model, batch, config)


def test_a_head_learns_while_its_base_rests_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def trained(folder: str, objective: SpanObjective) -> AdaptedEncoder:
        model = network("reading")
        Trainer(model, questions(), CONFIG, run_folder=tmp_path / folder, objective=objective).fit()
        return model

    before = {name: weight.clone() for name, weight in network("reading").named_parameters()}
    whole = trained("whole", SpanObjective())
    with pytest.raises(RuntimeError, match="pulled"):
        trained("halves", Unplugged())
    halves = dict(trained("halves", SpanObjective()).named_parameters())
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name
        assert torch.equal(weight, halves[name]), name


def test_examples_of_the_other_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context, start and end"):
        Trainer(network("reading"), pairs(), CONFIG, run_folder=tmp_path, objective=SpanObjective())
    objective = ContrastObjective(np.ones(VOCAB, np.float32))
    with pytest.raises(ConfigError, match="number of the right passage"):
        Trainer(network("reranking"), questions(), CONFIG, run_folder=tmp_path, objective=objective)
