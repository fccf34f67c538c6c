"""Configs: every family round, exact counts, and errors that name what is wrong."""

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest

from cairn.core import UnsupportedModelError
from cairn.models import DecoderConfig
from cairn.models.rope import inverse_frequencies
from cairn.models.rope_frequencies import attention_factor
from cairn.models.specs import RopeSpec
from tests.models.tiny import TINY, tiny_config, tiny_decoder


@pytest.mark.parametrize("name", TINY)
def test_written_and_read_again_it_is_equal(name: str) -> None:
    config = tiny_config(name)
    assert DecoderConfig.from_hf(config.to_hf()) == config
    assert hash(config) == hash(tiny_config(name))


@pytest.mark.parametrize("name", TINY)
def test_counts_are_exact(name: str) -> None:
    config = tiny_config(name)
    assert config.num_params == sum(parameter.numel() for parameter in tiny_decoder(name).parameters())
    assert config.shape().num_params == config.num_params


def test_mixtral_8x7b_has_47_billion_parameters() -> None:
    config = DecoderConfig.from_hf(
        {
            "model_type": "mixtral",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
        }
    )
    assert config.num_params == 46_702_792_704


def test_layers_differ_where_the_family_says_so() -> None:
    windows = {name: [layer.window for layer in tiny_config(name).layers] for name in TINY}
    assert windows["mistral"] == [7, 7, 7, 7]
    assert windows["qwen2"] == [None, None, 6, 6]
    assert windows["gemma2"] == [5, None, 5, None]
    assert windows["llama"] == [None] * 4
    assert [layer.rope is None for layer in tiny_config("smollm3").layers] == [False, False, False, True]
    gemma3 = [layer.rope.theta for layer in tiny_config("gemma3_text").layers if layer.rope]
    assert gemma3 == [10_000.0, 1_000_000.0] * 2
    assert [layer.experts is None for layer in tiny_config("qwen3_moe").layers] == [False, True, False, False]
    assert [layer.experts is None for layer in tiny_config("qwen2_moe").layers] == [True, False, True, False]


def test_end_tokens() -> None:
    assert tiny_config("llama").eos_token_ids == (2,)
    assert tiny_config("llama", eos_token_id=[3, 4]).to_hf()["eos_token_id"] == [3, 4]
    assert tiny_config("llama", eos_token_id=None).eos_token_ids == ()


def test_an_unknown_family_names_near_and_supported_ones() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        DecoderConfig.from_hf({"model_type": "qwen4"})
    assert "near: qwen3" in caught.value.message
    assert "llama" in caught.value.remedy
    with pytest.raises(UnsupportedModelError, match="names no model_type"):
        DecoderConfig.from_hf({})


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
)
def test_a_missing_size_is_named(key: str) -> None:
    values = {name: value for name, value in TINY["llama"].items() if name != key}
    with pytest.raises(UnsupportedModelError, match=f"lacks '{key}'") as caught:
        DecoderConfig.from_hf(values)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hidden_size": "32"}, "hidden_size is '32', allowed: an integer"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small', allowed: a number"),
        ({"tie_word_embeddings": 1}, "allowed: true or false"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 3}, "no multiple of num_kv_heads 3"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"head_dim": 7}, "rotary dimension is 7"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "lacks 'factor'"),
        ({"rope_scaling": 3}, "rope_scaling is 3"),
        ({"rms_norm_eps": -1}, "epsilon is -1"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        tiny_config("llama", **changes)
    assert what in caught.value.message
    assert caught.value.remedy


STRANGE: list[Any] = [None, "x", "", -1, 0, 1, 1.5, -0.5, True, [], {}, [1], [None], {"a": 1}]
STRANGE += [10**30, float("nan"), float("inf")]
SCALINGS = ["default", "linear", "dynamic", "yarn", "llama3"]


def check_strange(values: dict[str, Any]) -> None:
    """Read to a config that can be used, or refused: nothing else may happen."""
    try:
        config = DecoderConfig.from_hf(values)
    except UnsupportedModelError:
        return
    config.to_hf()
    for rope in {layer.rope for layer in config.layers if layer.rope}:
        assert inverse_frequencies(rope).isfinite().all()
        assert math.isfinite(attention_factor(rope))


@pytest.mark.parametrize("name", TINY)
def test_strange_values_of_any_key_are_refused_or_read(name: str) -> None:
    values = {**tiny_config(name).to_hf(), **TINY[name]}
    rare = ("head_dim", "sliding_window", "sliding_window_pattern", "partial_rotary_factor", "rope_theta")
    for key in sorted({*values, *rare}):
        for value in STRANGE:
            check_strange({**values, key: value})


@pytest.mark.parametrize("scaling", SCALINGS)
def test_strange_values_of_rope_are_refused_or_read(scaling: str) -> None:
    keys = {field.name for field in dataclasses.fields(RopeSpec)}
    keys |= {"rope_theta", "rope_type", "partial_rotary_factor", "original_max_position_embeddings"}
    for key in sorted(keys):
        for value in STRANGE:
            rope = {"rope_type": scaling, "factor": 2.0, key: value}
            check_strange({**TINY["llama"], "rope_scaling": rope})


def test_layer_types_of_other_kinds_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="linear_attention"):
        tiny_config("qwen3", layer_types=["linear_attention"] * 4)
    with pytest.raises(UnsupportedModelError, match="layer_types"):
        tiny_config("qwen3", layer_types=["full_attention"])
    with pytest.raises(UnsupportedModelError, match="5 experts per token"):
        tiny_config("mixtral", num_experts_per_tok=5)


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_config("llama").hidden_size = 64  # type: ignore[misc]


def test_reading_a_config_needs_no_torch() -> None:
    code = "import sys, cairn.models; cairn.models.DecoderConfig; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
