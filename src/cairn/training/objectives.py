"""Objectives: what a batch is scored by.

An objective turns a micro batch into a sum over its targets; the Trainer divides by the number of
targets of the whole step, so that how a step is split into micro batches does not change it.
Next-token and supervised fine-tuning are here; others (reward, DPO) meet the same protocol.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from cairn.core import ConfigError
from cairn.data import Batch, PackedDataset
from cairn.data.examples import ExampleBatch, ExampleSet
from cairn.data.packing import IGNORED
from cairn.models import Decoder, PackedAttention
from cairn.models.adapted_encoder import AdaptedEncoder
from cairn.training.config import TrainConfig
from cairn.training.loss import LossOptions, chunked_cross_entropy


@dataclass(frozen=True, slots=True)
class ObjectiveLoss:
    """Scalars summed over the targets of a micro batch."""

    total: Tensor
    """What is differentiated, penalties included."""
    nats: Tensor
    """What is reported."""


Network = Decoder | AdaptedEncoder
"""What the Trainer trains."""
Data = PackedDataset | ExampleSet
"""What it trains on."""
N = TypeVar("N", bound=Network, contravariant=True)
D = TypeVar("D", bound=Data, contravariant=True)
B = TypeVar("B", bound=Batch | ExampleBatch, contravariant=True)


class Objective(Protocol[N, D, B]):
    """What the Trainer asks of an objective for a network, a sort of data and its batches."""

    name: str
    measures_text: bool
    """Whether nats over all targets and bytes of text give bits per byte."""

    def check(self, dataset: D) -> None:
        """Raise ConfigError when this data cannot serve the objective."""
        ...

    def num_targets(self, batch: B) -> int:
        """What the sums of `loss` are divided by."""
        ...

    def loss(self, model: N, batch: B, config: TrainConfig) -> ObjectiveLoss:
        """The batch's loss; the model's weights say on which device."""
        ...


AnyObjective = Objective[Any, Any, Any]


class NextToken:
    """Predict every token from those before it in its document."""

    name = "next-token"
    measures_text = True

    def check(self, dataset: PackedDataset) -> None:
        if dataset.num_tokens <= dataset.num_documents:
            raise ConfigError(
                f"nothing to predict: {dataset.num_tokens} tokens in {dataset.num_documents} documents",
                remedy="give documents of at least two tokens",
            )

    def num_targets(self, batch: Batch) -> int:
        return int((batch.labels != IGNORED).sum())

    def loss(self, model: Decoder, batch: Batch, config: TrainConfig) -> ObjectiveLoss:
        device = model.output_weight.device
        input_ids, labels, positions = (
            torch.from_numpy(array).to(device) for array in (batch.input_ids, batch.labels, batch.positions)
        )
        hidden = model(input_ids, positions, PackedAttention(batch.cu_seqlens.tolist()))
        options = LossOptions(
            softcap=model.config.logit_softcap, z_loss=config.z_loss, chunk_tokens=config.loss_chunk_tokens
        )
        total, nats = chunked_cross_entropy(hidden, model.output_weight, labels, options)
        weight = model.config.router_aux_loss_coef if config.aux_loss is None else config.aux_loss
        if weight and any(layer.experts for layer in model.config.layers):
            total = total + weight * self.num_targets(batch) * model.aux_loss()
        return ObjectiveLoss(total, nats)


class SupervisedFineTuning(NextToken):
    """Predict only the tokens that the data's loss mask names: the assistant's turns."""

    name = "sft"
    measures_text = False

    def check(self, dataset: PackedDataset) -> None:
        if not dataset.index.has_mask:
            raise ConfigError(
                "supervised fine-tuning needs data with a loss mask, this has none",
                remedy="pack it from conversations (render_for_training), or train with next-token",
            )
        if not dataset.index.num_trained_tokens:
            raise ConfigError(
                "the loss mask of this data leaves no token to train on",
                remedy="check that the conversations have assistant turns",
            )
