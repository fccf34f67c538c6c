"""Bits per byte against a score computed token by token."""

import copy
import math

import numpy as np
import pytest
import torch

from cairn.evaluation.scoring import _windows, score_documents
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


@pytest.mark.parametrize("length", [1, 15, 16, 17, 24, 25, 40, 41])
def test_every_token_is_scored_once_with_half_a_context_behind_it(length: int) -> None:
    document = np.arange(1, length + 1)
    windows = list(_windows(document, 0, CONTEXT))
    assert np.concatenate([window.ids[window.first :] for window in windows]).tolist() == document.tolist()
    assert all(len(window.ids) <= CONTEXT + 1 for window in windows)
    assert all(window.first >= CONTEXT // 2 for window in windows[1:])


def test_a_long_document_costs_what_its_windows_do(model: Decoder) -> None:
    document = np.random.default_rng(2).integers(1, 50, 41)
    score = score_documents(model, [document], num_bytes=1, start_token_id=0, context=CONTEXT)
    expected = sum(
        bits_of(model, window.ids.tolist(), place)
        for window in _windows(document, 0, CONTEXT)
        for place in range(window.first, len(window.ids))
    )
    assert score.num_tokens == 41
    assert score.bits == pytest.approx(expected, rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_a_gpu_is_scored_there(model: Decoder) -> None:
    document = np.random.default_rng(3).integers(1, 50, 30)
    on_cpu, on_gpu = (
        score_documents(each, [document], num_bytes=1, start_token_id=0, context=CONTEXT)
        for each in (model, copy.deepcopy(model).cuda())
    )
    assert on_gpu.bits == pytest.approx(on_cpu.bits, rel=1e-3)


def test_batching_changes_nothing(model: Decoder) -> None:
    rng = np.random.default_rng(1)
    documents = [rng.integers(1, 50, length) for length in (3, 30, 7, 50)]
    whole = score_documents(model, documents, num_bytes=1, start_token_id=0, context=CONTEXT)
    single = score_documents(model, documents, num_bytes=1, start_token_id=0, context=CONTEXT, batch_tokens=1)
    assert single.bits == pytest.approx(whole.bits, rel=1e-5)
