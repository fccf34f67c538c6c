"""Bits per byte of held-out documents under a decoder, every token predicted exactly once.

Documents longer than the context are read in windows that overlap by half, and only the new
half of each is scored, so that (but for a document's beginning) every prediction has at least
half a context behind it. The end token of each document is predicted and paid for; bytes are
those of the text. Bits per byte does not depend on the tokenizer, so it compares with
compressors and other models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cairn.core import Progress, Silent
from cairn.models import Decoder, PackedAttention

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """Total of a scored text."""

    bits: float
    num_bytes: int
    num_tokens: int

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.num_bytes

    @property
    def loss(self) -> float:
        """Nats per token, as training reports it."""
        return self.bits * math.log(2) / self.num_tokens


@dataclass(frozen=True, slots=True)
class _Window:
    ids: Ids
    """Tokens the model reads; the prediction of ids[i + 1] is made at i."""
    first: int
    """First index of `ids` that is scored as a target (at least 1)."""


def score_documents(
    model: Decoder,
    documents: Sequence[Ids],
    *,
    num_bytes: int,
    start_token_id: int,
    context: int,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> Score:
    """Score documents of token ids ([T] each), every one put after `start_token_id`.

    `num_bytes` is the length of their text in UTF-8, `context` the most tokens a prediction is made from.
    Computed where the model's weights are; `batch_tokens` bounds the memory, also that of the logits.
    """
    windows = [window for document in documents for window in _windows(document, start_token_id, context)]
    bits, targets = 0.0, 0
    with (progress or Silent()).task("held-out text", len(windows)) as task, torch.inference_mode():
        for batch in _batches(windows, batch_tokens):
            bits += _score_batch(model, batch)
            targets += sum(len(window.ids) - window.first for window in batch)
            task.advance(len(batch))
    return Score(bits, num_bytes, targets)


def _windows(document: Ids, start_token_id: int, context: int) -> Iterator[_Window]:
    ids = np.concatenate([[start_token_id], document])
    end = min(len(ids), context + 1)
    yield _Window(ids[:end], 1)
    stride = max(context // 2, 1)
    while end < len(ids):
        new_end = min(end + stride, len(ids))
        start = max(new_end - context - 1, 0)
        yield _Window(ids[start:new_end], end - start)
        end = new_end


def _batches(windows: Sequence[_Window], batch_tokens: int) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    size = 0
    for window in windows:
        if batch and size + len(window.ids) > batch_tokens:
            yield batch
            batch, size = [], 0
        batch.append(window)
        size += len(window.ids)
    if batch:
        yield batch


def _score_batch(model: Decoder, batch: list[_Window]) -> float:
    """Bits of the scored targets of some windows, packed into one forward pass."""
    device = model.output_weight.device
    inputs = torch.from_numpy(np.concatenate([window.ids[:-1] for window in batch])).to(device)
    lengths = [len(window.ids) - 1 for window in batch]
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    hidden = model(inputs, positions, PackedAttention(boundaries))
    scored = torch.cat([_scored(window, start) for window, start in zip(batch, boundaries, strict=False)])
    targets = torch.from_numpy(np.concatenate([window.ids[window.first :] for window in batch])).to(device)
    nats = torch.nn.functional.cross_entropy(model.logits(hidden[scored]), targets, reduction="sum")
    return float(nats) / math.log(2)


def _scored(window: _Window, start: int) -> torch.Tensor:
    """Rows of the batch at which a window that begins at row `start` predicts what is scored."""
    return torch.arange(start + window.first - 1, start + len(window.ids) - 1)
