"""Reranking: which passage answers a query, told by how well the query's words meet the passage's.

An example is a query and passages, the first the right one; its number names the right passage, so that equal
passages of a batch are not set against each other. A pair's score is the mean, weighted by how telling they
are, over the query's tokens of the greatest cosine with a token of the passage (late interaction, Khattab &
Zaharia 2020), plus a share of the cosine of the mean rows, which the base was made for. Every query is scored
against every passage of the batch, by cross-entropy.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from cairn.core import ConfigError
from cairn.data.examples import ExampleBatch, ExampleSet
from cairn.models.adapted_encoder import AdaptedEncoder
from cairn.training.config import TrainConfig
from cairn.training.objectives import ObjectiveLoss
from cairn.training.span import encode

SHARPNESS, MEAN_SHARE = 20.0, 0.2
"""What scores are multiplied by, and the weight of the mean rows' cosine, in training."""


class ContrastObjective:
    """Tell the right passage from all others of the batch."""

    name = "contrast"
    measures_text = False

    def __init__(self, token_weights: NDArray[np.float32]) -> None:
        self._token_weights = token_weights

    def check(self, dataset: ExampleSet) -> None:
        if dataset.num_labels != 1:
            raise ConfigError("reranking needs examples with the number of the right passage")

    def num_targets(self, batch: ExampleBatch) -> int:
        return len(batch.labels)

    def loss(self, model: AdaptedEncoder, batch: ExampleBatch, config: TrainConfig) -> ObjectiveLoss:
        rows = encode(model, batch)
        lengths = np.diff(batch.cu_seqlens).tolist()
        firsts = batch.example_bounds[:-1].tolist()
        weights = torch.from_numpy(self._token_weights[batch.input_ids]).to(rows.device).split(lengths)
        texts = rows.split(lengths)
        passages = [text for place, text in enumerate(texts) if place not in set(firsts)]
        queries = [texts[first] for first in firsts]
        scores = SHARPNESS * pair_scores(queries, [weights[first] for first in firsts], passages)
        # The right passage of a query is the text after it; no earlier query is among the passages.
        right = torch.tensor([first - place for place, first in enumerate(firsts)], device=rows.device)
        labels = torch.from_numpy(batch.labels[:, 0]).to(rows.device)
        numbers = torch.full((len(passages),), -1, device=rows.device).index_copy(0, right, labels)
        places = torch.arange(len(passages), device=rows.device)
        is_same = (numbers[None] == labels[:, None]) & (places[None] != right[:, None])
        total = F.cross_entropy(scores.masked_fill(is_same, float("-inf")), right, reduction="sum")
        return ObjectiveLoss(total, total.detach())


def pair_scores(queries: Sequence[Tensor], weights: Sequence[Tensor], passages: Sequence[Tensor]) -> Tensor:
    """[queries, passages] from the rows of each text and the weights of the queries' tokens."""
    asked, read = (
        F.normalize(torch.stack([text.mean(0) for text in texts]), dim=-1) for texts in (queries, passages)
    )
    padded = pad_sequence([F.normalize(text, dim=-1) for text in passages], batch_first=True)
    is_text = pad_sequence(
        [torch.ones_like(text[:, 0], dtype=torch.bool) for text in passages], batch_first=True
    )
    found = []
    for query, weight in zip(queries, weights, strict=True):
        # Without [CLS] and [SEP], which meet those of every passage.
        meetings = torch.einsum("qd,ptd->qpt", F.normalize(query[1:-1], dim=-1), padded)
        greatest = meetings.masked_fill(~is_text, -1.0).amax(-1)
        found.append((greatest * weight[1:-1, None]).sum(0) / weight[1:-1].sum())
    return torch.stack(found) + MEAN_SHARE * (asked @ read.T)
