"""Counts of a shape against the decoder's own."""

from dataclasses import replace

import pytest

from cairn.compute import ModelShape, kv_cache_bytes, training_memory, weight_bytes
from cairn.compute.flops import attention_flops, forward_flops, muon_flops, training_flops
from cairn.compute.memory import activation_bytes

LLAMA = ModelShape(
    vocab_size=1000,
    hidden_size=64,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=160,
)


def test_parameters_are_those_of_the_network() -> None:
    from cairn.models import Decoder, DecoderConfig

    values = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    config = DecoderConfig.from_hf(values)
    counted = sum(parameter.numel() for parameter in Decoder(config).parameters())
    assert config.shape().num_params == counted
    # The formula leaves out the norms: two a layer and one at the end.
    assert LLAMA.num_params == counted - 64 * 7


def test_training_is_six_flops_a_weight_and_token_plus_attention() -> None:
    without_attention = training_flops(LLAMA, 128) - 3 * attention_flops(LLAMA, 128)
    assert without_attention == 6 * LLAMA.num_params
    assert attention_flops(LLAMA, 1) == 3 * 4 * 64


def test_checkpointing_costs_one_more_forward_pass_of_the_layers() -> None:
    extra = training_flops(LLAMA, 64, checkpoint_activations=True) - training_flops(LLAMA, 64)
    assert extra == forward_flops(LLAMA, 64) - 2 * LLAMA.embedding_params


@pytest.mark.parametrize("window", [1, 5, 31, 32, 100])
def test_visible_keys_are_counted_exactly(window: int) -> None:
    context = 32
    shape = ModelShape(
        vocab_size=8,
        hidden_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=8,
        windows=(window,),
    )
    counted = sum(min(query + 1, window) for query in range(context)) / context
    assert shape.visible(0, context) == pytest.approx(counted)


def test_experts_count_for_memory_whole_and_for_flops_as_chosen() -> None:
    dense = ModelShape(
        vocab_size=100,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=32,
    )
    sparse = replace(dense, num_experts=8, num_experts_per_token=2)
    router = 2 * 16 * 8
    assert sparse.num_params == dense.num_params + 2 * 7 * dense.expert_params + router
    assert sparse.matmul_params == dense.matmul_params + 2 * dense.expert_params + router


def test_memory_by_part() -> None:
    adamw = training_memory(LLAMA, micro_batch_tokens=512, optimizer="adamw")
    muon = training_memory(LLAMA, micro_batch_tokens=512, optimizer="muon")
    assert adamw.optimizer == 8 * LLAMA.num_params
    assert muon.optimizer == 4 * LLAMA.num_params + 4 * LLAMA.embedding_params
    assert adamw.total == sum(
        (adamw.weights, adamw.gradients, adamw.optimizer, adamw.activations, adamw.logits, adamw.runtime)
    )
    chunked = training_memory(LLAMA, micro_batch_tokens=512, loss_chunk_tokens=64)
    assert chunked.logits * 8 == adamw.logits


def test_checkpointing_saves_activations() -> None:
    plain = activation_bytes(LLAMA, 1024, "float32")
    assert activation_bytes(LLAMA, 1024, "float32", checkpoint_activations=True) < plain / 2
    assert activation_bytes(LLAMA, 1024, "bfloat16") * 2 == plain


def test_kv_cache_and_weights() -> None:
    assert kv_cache_bytes(LLAMA, 10, "bfloat16") == 10 * 2 * 3 * 2 * 16 * 2
    assert weight_bytes(LLAMA, "bfloat16") == 2 * LLAMA.num_params


def test_newton_schulz_is_counted_for_every_matrix_of_the_layers() -> None:
    square = 5 * (4 * 64**3 + 2 * 64**3)
    narrow = 5 * (4 * 32 * 32 * 64 + 2 * 32**3)
    wide = 5 * (4 * 64 * 64 * 160 + 2 * 64**3)
    assert muon_flops(LLAMA) == 3 * (2 * square + 2 * narrow + 3 * wide)
