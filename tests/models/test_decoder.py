"""The whole network: causality, packing, batch invariance, recomputation, initialisation."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cairn.models import Decoder, DecoderConfig, PackedAttention
from tests.models.tiny import TINY, tiny_config, tiny_decoder, tokens


@torch.no_grad()
def hidden(model: Decoder, input_ids: Tensor, positions: Tensor, bounds: list[int]) -> Tensor:
    out: Tensor = model(input_ids, positions, PackedAttention(bounds))
    return out


MODELS = {name: tiny_decoder(name) for name in ("llama", "mistral", "gemma2", "mixtral")}


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(sorted(MODELS)), changed=st.integers(0, 29))
def test_a_token_changes_nothing_before_it_nor_in_other_documents(name: str, changed: int) -> None:
    model = MODELS[name]
    input_ids, positions, bounds = tokens([8, 13, 9])
    before = hidden(model, input_ids, positions, bounds)
    input_ids[changed] = (input_ids[changed] + 1) % 97
    after = hidden(model, input_ids, positions, bounds)
    end = next(bound for bound in bounds if bound > changed)
    assert torch.equal(before[:changed], after[:changed])
    assert torch.equal(before[end:], after[end:])
    assert not torch.equal(before[changed], after[changed])


@torch.no_grad()
def test_a_window_ends_the_influence() -> None:
    model = tiny_decoder("mistral", num_hidden_layers=1, sliding_window=4)
    input_ids, positions, bounds = tokens([12])
    before = hidden(model, input_ids, positions, bounds)
    input_ids[2] = (input_ids[2] + 1) % 97
    after = hidden(model, input_ids, positions, bounds)
    changed = [bool((before[row] != after[row]).any()) for row in range(12)]
    assert changed == [2 <= row < 2 + 4 for row in range(12)]


@pytest.mark.parametrize("name", TINY)
def test_packed_equals_alone_bit_for_bit(name: str) -> None:
    model = tiny_decoder(name)
    input_ids, positions, bounds = tokens([1, 30, 2, 3, 17])
    with torch.no_grad():
        together = model.logits(hidden(model, input_ids, positions, bounds))
        for start, end in pairwise(bounds):
            alone = hidden(model, input_ids[start:end], positions[start:end], [0, end - start])
            assert torch.equal(model.logits(alone), together[start:end])


def test_positions_are_taken_as_given() -> None:
    model = tiny_decoder("llama")
    input_ids, positions, bounds = tokens([10])
    shifted = hidden(model, input_ids, positions + 50, bounds)
    # Rotations are relative, so a shift of all positions changes nothing but rounding ...
    torch.testing.assert_close(shifted, hidden(model, input_ids, positions, bounds), atol=1e-4, rtol=1e-4)
    # ... and learned positions are absolute.
    learned = tiny_decoder("gpt2")
    moved = hidden(learned, input_ids, positions + 50, bounds)
    assert not torch.allclose(moved, hidden(learned, input_ids, positions, bounds), atol=1e-2)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "qwen2_moe", "olmo2"])
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    input_ids, positions, bounds = tokens([11, 20])
    gradients = []
    for is_recomputed in (False, True):
        model = tiny_decoder(name)
        model.checkpoint_activations = is_recomputed
        out = model.logits(model(input_ids, positions, PackedAttention(bounds)))
        (out.square().mean() + model.aux_loss()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_logits_are_float32_and_capped() -> None:
    model = tiny_decoder("gemma2").bfloat16()
    input_ids, positions, bounds = tokens([9])
    out = model.logits(hidden(model, input_ids, positions, bounds))
    assert out.dtype == torch.float32
    assert out.shape == (9, 97)
    assert out.abs().max() <= 2.0


def test_tied_weights_are_one() -> None:
    tied, untied = tiny_decoder("qwen2"), tiny_decoder("llama")
    assert tied.output_weight is tied.embedding
    assert untied.output_weight is not untied.embedding


def test_dense_models_have_no_auxiliary_loss() -> None:
    model = tiny_decoder("llama")
    hidden(model, *tokens([5]))
    assert model.aux_loss().item() == 0.0


def test_a_balanced_router_loses_its_number_of_choices() -> None:
    model = tiny_decoder("mixtral")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "router" in name:
                parameter.zero_()
    hidden(model, *tokens([64]))
    assert model.aux_loss().item() == pytest.approx(2.0)


def test_weights_follow_from_the_seed_alone() -> None:
    config = tiny_config("qwen2_moe")
    first, second, other = Decoder(config), Decoder(config), Decoder(config)
    other.init_weights(1)
    for (name, one), two, three in zip(
        first.named_parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(one, two), name
        assert "norm" in name or name.endswith("bias") or not torch.equal(one, three), name
    wide = Decoder(config).bfloat16()
    wide.init_weights(0)
    assert torch.equal(wide.embedding, first.embedding.bfloat16())


def test_initial_deviations() -> None:
    config = DecoderConfig.from_hf({**TINY["llama"], "hidden_size": 128, "num_hidden_layers": 8})
    deviations = {name: parameter.std().item() for name, parameter in Decoder(config).named_parameters()}
    assert deviations["layers.0.attention.qkv.weight"] == pytest.approx(0.02, rel=0.05)
    assert deviations["layers.0.mlp.output.weight"] == pytest.approx(0.02 / 4, rel=0.05)
    assert deviations["layers.7.attention.output.weight"] == pytest.approx(0.02 / 4, rel=0.05)
    assert deviations["layers.0.mlp_norm.weight"] == 0.0
