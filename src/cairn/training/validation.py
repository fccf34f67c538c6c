"""Held-out loss and bits per byte."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cairn.training.config import TrainConfig
from cairn.training.objectives import AnyObjective, Data, Network


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss in nats per target, and bits per byte of text where that means something."""

    loss: float
    bits_per_byte: float | None


@torch.no_grad()
def validate(
    model: Network,
    dataset: Data,
    objective: AnyObjective,
    config: TrainConfig,
    *,
    max_document: int,
    stop: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Each held-out token once, up to `config.eval_tokens`; None when `stop` says so before the end."""
    nats, num_targets, num_tokens, num_bytes = 0.0, 0, 0, 0
    limit = config.eval_tokens or dataset.num_tokens
    for batch in dataset.sequential(config.micro_tokens, max_document=max_document):
        if stop():
            return None
        nats += objective.loss(model, batch, config).nats.item()
        num_targets += objective.num_targets(batch)
        num_tokens += len(batch.input_ids)
        num_bytes += batch.num_bytes or 0
        if num_tokens >= limit:
            break
    has_bytes = objective.measures_text and num_bytes > 0
    bits = nats / math.log(2) / num_bytes if has_bytes else None
    return Validation(nats / max(1, num_targets), bits)
