"""Small random adapters, made and saved by PEFT over transformers' models."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from cairn.models import Decoder, save_decoder
from tests.models.tiny import tiny_decoder

FUSED = {"phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], "gpt2": ["c_attn", "c_proj", "c_fc"]}
SPLIT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def modules_of(name: str) -> list[str]:
    """The modules of a tiny family that can be adapted."""
    model_type = name.partition("-")[0]
    if model_type in FUSED:
        return FUSED[model_type]
    # PEFT takes `gate_proj` of some mixtures for their experts.
    return ATTENTION if name in ("mixtral", "qwen3_moe") else SPLIT


def peft_model(folder: Path, seed: int = 0, **options: Any) -> Any:
    """transformers' model of a checkpoint with a random adapter on it, float32."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    options.setdefault("fan_in_fan_out", "c_attn" in options["target_modules"])
    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model


@functools.cache
def saved_model(model: Decoder) -> Path:
    """The model as a checkpoint, for as long as the tests run."""
    folder = Path(tempfile.mkdtemp(prefix="cairn-base-"))
    save_decoder(model, folder)
    return folder


def save_adapter(model: Decoder, modules: list[str], *, seed: int = 0, **options: Any) -> Path:
    """A folder with a random adapter of a model, as PEFT writes it."""
    folder = Path(tempfile.mkdtemp(prefix="cairn-adapter-"))
    options = {"r": 4, "lora_alpha": 8, **options}
    peft_model(saved_model(model), seed, target_modules=modules, **options).save_pretrained(folder)
    return folder


@functools.cache
def adapter_of(name: str, seed: int = 0, rank: int = 4) -> Path:
    """An adapter on every adaptable module of a tiny family."""
    return save_adapter(tiny_decoder(name), modules_of(name), seed=seed, r=rank)
