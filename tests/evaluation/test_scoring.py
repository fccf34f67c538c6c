"""Bits per byte against a score computed token by token."""

import math

import numpy as np
import pytest
import torch

from cairn.evaluation.scoring import score_documents
from cairn.models import Decoder, DecoderConfig, PackedAttention

CONTEXT = 16


@pytest.fixture(scope="module")
def model() -> Decoder:
    values = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
    }
    decoder = Decoder(DecoderConfig.from_hf(values))
    decoder.init_weights(3)
    return decoder


def bits_of(model: Decoder, ids: list[int], place: int) -> float:
    """Bits of ids[place] given everything before it, one forward pass for it alone."""
    history = torch.tensor(ids[:place])
    with torch.inference_mode():
        hidden = model(history, torch.arange(place), PackedAttention([0, place]))
        return -float(model.logits(hidden[-1:]).log_softmax(-1)[0, ids[place]]) / math.log(2)


def test_short_documents_are_scored_with_all_that_came_before(model: Decoder) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, 50, length) for length in (1, 5, CONTEXT)]
    score = score_documents(model, documents, num_bytes=100, start_token_id=0, context=CONTEXT)
    expected = sum(
        bits_of(model, [0, *document.tolist()], place + 1)
        for document in documents
        for place in range(len(document))
    )
    assert score.num_tokens == 1 + 5 + CONTEXT
    assert score.bits == pytest.approx(expected, rel=1e-4)
    assert score.bits_per_byte == pytest.approx(expected / 100, rel=1e-4)
    assert score.loss == pytest.approx(expected * math.log(2) / score.num_tokens, rel=1e-4)


@pytest.mark.parametrize("length", [17, 24, 25, 40, 41])
def test_every_token_of_a_long_document_is_scored_once(model: Decoder, length: int) -> None:
    document = np.random.default_rng(length).integers(1, 50, length)
    score = score_documents(model, [document], num_bytes=1, start_token_id=0, context=CONTEXT)
    assert score.num_tokens == length


def test_batching_changes_nothing(model: Decoder) -> None:
    rng = np.random.default_rng(1)
    documents = [rng.integers(1, 50, length) for length in (3, 30, 7, 50)]
    whole = score_documents(model, documents, num_bytes=1, start_token_id=0, context=CONTEXT)
    single = score_documents(model, documents, num_bytes=1, start_token_id=0, context=CONTEXT, batch_tokens=1)
    assert single.bits == pytest.approx(whole.bits, rel=1e-5)
