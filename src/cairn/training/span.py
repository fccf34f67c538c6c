"""Reading: where in a passage the answer to a question begins and ends, or that it is not there.

An example is one text, `[CLS] question [SEP] passage [SEP]`, and three numbers: the first token of the
passage, and first and last token of the answer, both 0 (the `[CLS]`) where the passage holds none, as for
SQuAD 2.0 (Devlin et al. 2019). Scored by the mean cross-entropy of both ends over the places allowed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cairn.core import ConfigError
from cairn.data.examples import ExampleBatch, ExampleSet
from cairn.models.adapted_encoder import AdaptedEncoder
from cairn.training.config import TrainConfig
from cairn.training.objectives import ObjectiveLoss


class SpanObjective:
    """Find the answer."""

    name = "span"
    measures_text = False

    def check(self, dataset: ExampleSet) -> None:
        if dataset.num_labels != 3:
            raise ConfigError("reading needs examples with context, start and end")

    def num_targets(self, batch: ExampleBatch) -> int:
        return len(batch.labels)

    def loss(self, model: AdaptedEncoder, batch: ExampleBatch, config: TrainConfig) -> ObjectiveLoss:
        rows = encode(model, batch)
        labels = torch.from_numpy(batch.labels).to(rows.device)
        lengths = torch.from_numpy(batch.cu_seqlens).diff().to(rows.device)
        logits = torch.nn.utils.rnn.pad_sequence(rows.split(lengths.tolist()), batch_first=True)
        places = torch.arange(logits.shape[1], device=rows.device)
        # The [CLS] says "not here"; the question and the last [SEP] are no answers.
        allowed = (places >= labels[:, :1]) & (places < lengths[:, None] - 1) | (places == 0)
        logits = logits.masked_fill(~allowed[:, :, None], float("-inf"))
        total = F.cross_entropy(logits[..., 0], labels[:, 1], reduction="sum")
        total = (total + F.cross_entropy(logits[..., 1], labels[:, 2], reduction="sum")) / 2
        return ObjectiveLoss(total, total.detach())


def encode(model: AdaptedEncoder, batch: ExampleBatch) -> Tensor:
    """The rows of all tokens of a batch [T, out_width], in float32 whatever the network computes in."""
    ids, types = (torch.from_numpy(each).to(model.device) for each in (batch.input_ids, batch.types))
    rows: Tensor = model(ids, batch.cu_seqlens.tolist(), types)
    return rows.float()
