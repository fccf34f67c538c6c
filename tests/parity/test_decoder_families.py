"""Every family against transformers: logits, both directions of the checkpoint layout, gradients."""

import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from cairn.models import Decoder, DecoderConfig, PackedAttention, load_decoder, save_decoder
from tests.models.tiny import EXPERT_FAMILIES, TINY, tokens

LENGTHS = [50, 1, 17, 33]
logging.getLogger("transformers").setLevel(logging.ERROR)


def reference(values: dict[str, Any], *, seed: int = 0) -> Any:
    """transformers' own model of a config.json, eager (its other kernels drop soft caps), random."""
    config = transformers.AutoConfig.for_model(**values)
    torch.manual_seed(seed)
    making: Any = transformers.AutoModelForCausalLM
    model = making.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2 if parameter.dim() > 1 else 0.5)
    return model


def reference_logits(model: Any, input_ids: Tensor, bounds: list[int]) -> Tensor:
    """Each document alone through transformers, laid end to end."""
    documents = [input_ids[start:end] for start, end in pairwise(bounds)]
    with torch.no_grad():
        return torch.cat([model(document[None]).logits[0] for document in documents])


def packed_logits(model: Decoder, lengths: list[int]) -> Tensor:
    input_ids, positions, bounds = tokens(lengths)
    with torch.no_grad():
        return model.logits(model(input_ids, positions, PackedAttention(bounds)))


def open_reference(folder: Path) -> Any:
    opening: Any = transformers.AutoModelForCausalLM
    return opening.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.mark.parametrize("name", TINY)
def test_logits_and_layout_both_ways(name: str, tmp_path: Path) -> None:
    theirs = reference(TINY[name])
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_decoder(tmp_path / "theirs")
    input_ids, _, bounds = tokens(LENGTHS)
    expected = reference_logits(theirs, input_ids, bounds)
    torch.testing.assert_close(packed_logits(ours, LENGTHS), expected, atol=1e-4, rtol=0)

    save_decoder(ours, tmp_path / "ours", max_shard_bytes=30_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists()
    reopened = open_reference(tmp_path / "ours")
    torch.testing.assert_close(reference_logits(reopened, input_ids, bounds), expected, atol=1e-5, rtol=0)
    again = load_decoder(tmp_path / "ours")
    assert again.config == ours.config
    for (label, first), second in zip(ours.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second), label


@pytest.mark.parametrize("name", TINY)
def test_num_params_is_what_transformers_counts(name: str) -> None:
    theirs = reference(TINY[name])
    config = DecoderConfig.from_hf(TINY[name])
    assert config.num_params == sum(parameter.numel() for parameter in theirs.parameters())


@pytest.mark.parametrize("name", EXPERT_FAMILIES)
def test_experts_joined_as_transformers_keeps_them_in_memory(name: str, tmp_path: Path) -> None:
    theirs = reference(TINY[name])
    theirs.save_pretrained(tmp_path, save_original_format=False)
    assert any("experts.gate_up_proj" in key for key in load_file(tmp_path / "model.safetensors"))
    input_ids, _, bounds = tokens(LENGTHS)
    expected = reference_logits(theirs, input_ids, bounds)
    torch.testing.assert_close(packed_logits(load_decoder(tmp_path), LENGTHS), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama3", "gpt2", "gemma2", "olmo2", "qwen3", "mixtral", "qwen2_moe"])
def test_gradients(name: str, tmp_path: Path) -> None:
    theirs = reference(TINY[name])
    theirs.save_pretrained(tmp_path)
    ours = load_decoder(tmp_path)
    input_ids, positions, bounds = tokens([40])
    labels = torch.roll(input_ids, -1)

    def loss(logits: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits, labels)

    loss(ours.logits(ours(input_ids, positions, PackedAttention(bounds)))).backward()
    loss(theirs(input_ids[None]).logits[0]).backward()
    gradients = Decoder(ours.config)
    with torch.no_grad():
        for target, parameter in zip(gradients.parameters(), ours.parameters(), strict=True):
            assert parameter.grad is not None
            target.copy_(parameter.grad)
        for parameter in theirs.parameters():
            parameter.copy_(parameter.grad)
    theirs.save_pretrained(tmp_path / "gradients")
    expected = load_decoder(tmp_path / "gradients")
    for (label, ours_), theirs_ in zip(gradients.named_parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours_, theirs_, atol=2e-5, rtol=1e-4), label


@pytest.mark.parametrize("name", EXPERT_FAMILIES)
def test_load_balancing_loss(name: str, tmp_path: Path) -> None:
    theirs = reference(TINY[name])
    theirs.save_pretrained(tmp_path)
    ours = load_decoder(tmp_path)
    input_ids, positions, bounds = tokens([60])
    expected = theirs(input_ids[None], output_router_logits=True).aux_loss
    ours(input_ids, positions, PackedAttention(bounds))
    torch.testing.assert_close(ours.aux_loss(), expected, atol=1e-5, rtol=1e-5)


OLDER: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 3.1 of the hub": (
        "llama3",
        {
            "rope_parameters": None,
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
            "torch_dtype": "bfloat16",
        },
    ),
    "linear by type": (
        "llama-linear",
        {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    "yarn with its numbers": (
        "llama-yarn",
        {
            "rope_parameters": None,
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
                "attention_factor": 1.2,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "mistral without window": ("mistral", {"sliding_window": None, "rope_theta": 1000.0}),
    "qwen2 window switched off": ("qwen2", {"use_sliding_window": False, "rope_theta": 1000.0}),
    "gemma 3 of the hub": (
        "gemma3_text",
        {
            "layer_types": None,
            "sliding_window_pattern": 3,
            "rope_theta": 1000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "smollm3 with its list": ("smollm3", {"no_rope_layers": [1, 0, 0, 1], "rope_theta": 1000.0}),
    "gpt2 scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "n_inner": 40}),
    "half of a head turns": ("phi3", {"partial_rotary_factor": 0.5}),
}


@pytest.mark.parametrize("label", OLDER)
def test_older_forms_of_config(label: str, tmp_path: Path) -> None:
    name, changes = OLDER[label]
    values = {key: value for key, value in {**TINY[name], **changes}.items() if value is not None}
    if changes.get("sliding_window", 0) is None:
        values["sliding_window"] = None
    theirs = reference(TINY[name] | {"n_inner": changes.get("n_inner")} if name == "gpt2" else TINY[name])
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    input_ids, _, bounds = tokens(LENGTHS)
    expected = reference_logits(open_reference(tmp_path), input_ids, bounds)
    torch.testing.assert_close(packed_logits(load_decoder(tmp_path), LENGTHS), expected, atol=1e-4, rtol=0)


def test_gpt2_of_the_hub_has_no_prefix_and_carries_masks(tmp_path: Path) -> None:
    theirs = reference(TINY["gpt2"])
    theirs.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
    save_file(bare, tmp_path / "model.safetensors", metadata={"format": "pt"})
    input_ids, _, bounds = tokens(LENGTHS)
    expected = reference_logits(theirs, input_ids, bounds)
    torch.testing.assert_close(packed_logits(load_decoder(tmp_path), LENGTHS), expected, atol=1e-4, rtol=0)
