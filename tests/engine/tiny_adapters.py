"""Small random adapters, made and saved by PEFT over transformers' models."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cairn.models import Decoder, save_decoder
from cairn.models.adapter_targets import adapter_targets
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from tests.models.tiny import tiny_decoder
from tests.scratch import scratch_folder

FUSED = {"phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], "gpt2": ["c_attn", "c_proj", "c_fc"]}
SPLIT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def targets_of(name: str) -> dict[str, list[str]]:
    """What of a tiny family can be adapted, as PEFT's options."""
    if name in ("mixtral", "qwen3_moe"):
        # PEFT takes `gate_proj` of these for their experts.
        return {"target_modules": ATTENTION, "target_parameters": EXPERTS}
    modules = FUSED.get(name.partition("-")[0], SPLIT)
    return {"target_modules": modules} | ({"target_parameters": EXPERTS} if name == "qwen2_moe" else {})


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
    folder = scratch_folder("base")
    save_decoder(model, folder)
    return folder


def save_adapter(model: Decoder, target_modules: list[str], *, seed: int = 0, **options: Any) -> Path:
    """A folder with a random adapter of a model, as PEFT writes it."""
    folder = scratch_folder("adapter")
    options = {"r": 4, "lora_alpha": 8, **options}
    peft_model(saved_model(model), seed, target_modules=target_modules, **options).save_pretrained(folder)
    return folder


def save_expert_adapter(model: Decoder, modules: dict[str, int], *, seed: int = 0) -> Path:
    """The same on single experts, as PEFT wrote it before transformers 5; modules with their ranks."""
    targets, generator = adapter_targets(model.config, ()), torch.Generator().manual_seed(seed)
    tensors = {}
    for module, rank in modules.items():
        target = targets[module]
        shapes = {"A": (rank, target.num_inputs), "B": (target.stop - target.start, rank)}
        for side, shape in shapes.items():
            values = torch.randn(shape, generator=generator) * 0.3
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = values
    folder = scratch_folder("adapter")
    save_file(tensors, folder / WEIGHTS_NAME)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "rank_pattern": modules}
    leaves = sorted({module.rpartition(".")[2] for module in modules})
    (folder / CONFIG_NAME).write_text(json.dumps(config | {"target_modules": leaves}))
    return folder


def experts_of(model: Decoder) -> list[str]:
    """The modules of single experts of a mixture."""
    return [name for name in adapter_targets(model.config, ()) if re.match(r"model\..*\.experts\.\d", name)]


@torch.no_grad()
def add_adapter(model: Decoder, folder: Path) -> set[str]:
    """Add an adapter to the weights of a model; the parameters that it changes."""
    parameters, changed = dict(model.named_parameters()), set()
    for matrix, parts in read_adapter(folder, model.config).low_rank.items():
        name, _, expert = matrix.rpartition(".")
        whole = parameters[name][int(expert)] if expert.isdigit() else parameters[matrix]
        changed.add(name if expert.isdigit() else matrix)
        for part in parts:
            whole[part.start : part.stop] += torch.from_numpy(part.b @ part.a)
    return changed


@functools.cache
def adapter_of(name: str, seed: int = 0, rank: int = 4) -> Path:
    """An adapter on all of a tiny family that can be adapted."""
    return save_adapter(tiny_decoder(name), seed=seed, r=rank, **targets_of(name))
