"""Checkpoints of random weights are checkpoints: the network loads them, and they have the size they say."""

from pathlib import Path

import pytest
import torch

from cairn.models import DecoderConfig, load_decoder
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint


@pytest.mark.parametrize(("name", "millions"), [("8m", 8.3), ("135m", 134.5), ("420m", 419.5)])
def test_shapes_have_the_size_of_their_name(name: str, millions: float) -> None:
    assert DecoderConfig.from_hf(SHAPES[name]).shape().num_params / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_the_network_loads_it(tmp_path: Path, tied: bool) -> None:
    values = SHAPES["8m"] | {"num_hidden_layers": 2, "tie_word_embeddings": tied}
    write_random_checkpoint(tmp_path, values)
    model = load_decoder(tmp_path)
    assert model.config == DecoderConfig.from_hf(values)
    embedding = model.output_weight.detach()
    assert embedding.std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.equal(embedding, embedding.bfloat16().float())
