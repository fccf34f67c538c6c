"""Adapters in PEFT's layout: what is read equals what PEFT merges, and what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cairn.core import CairnError, IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from cairn.models.checkpoint import load_decoder
from tests.engine.tiny_adapters import SPLIT, adapter_of, modules_of, peft_model, save_adapter, saved_model
from tests.models.tiny import TINY, tiny_config, tiny_decoder

PATTERNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "r": 9},
    "patterns": {
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 7},
        "alpha_pattern": {"self_attn.k_proj": 3, "layers.0.mlp.up_proj": 20},
    },
    "some modules of some layers": {"target_modules": ["v_proj", "gate_proj"], "layers_to_transform": [1, 3]},
}


@pytest.mark.parametrize("options", PATTERNS.values(), ids=PATTERNS)
def test_what_is_read_is_what_peft_merges(options: dict[str, Any], tmp_path: Path) -> None:
    _check_merged("llama", tmp_path, **{"target_modules": SPLIT, "r": 4, "lora_alpha": 8, **options})


@pytest.mark.parametrize("name", TINY)
def test_every_familys_names(name: str, tmp_path: Path) -> None:
    _check_merged(name, tmp_path, target_modules=modules_of(name), r=3, lora_alpha=5)


def _check_merged(name: str, folder: Path, **options: Any) -> None:
    """The base with each product of the adapter added is PEFT's merged model."""
    base = tiny_decoder(name)
    theirs = peft_model(saved_model(base), **options)
    theirs.save_pretrained(folder / "adapter")
    adapter = read_adapter(folder / "adapter", base.config)
    theirs.merge_and_unload().save_pretrained(folder / "merged")
    merged = dict(load_decoder(folder / "merged").named_parameters())
    changed = set()
    for parameter, before in base.named_parameters():
        ours = before.detach().numpy().copy()
        for part in adapter.low_rank.get(parameter, ()):
            ours[part.start : part.stop] += part.b @ part.a
            changed.add(parameter)
        np.testing.assert_allclose(ours, merged[parameter].detach().numpy(), atol=1e-5, err_msg=parameter)
    assert changed


def test_equal_digests_mean_equal_files() -> None:
    config = tiny_config("llama")
    folders = [adapter_of("llama", 0), adapter_of("llama", 1)]
    digests = [read_adapter(folder, config).digest for folder in folders * 2]
    assert digests[0] == digests[2] != digests[1] == digests[3]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of an adapter of the tiny Llama, to be spoilt."""
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        (tmp_path / name).write_bytes((adapter_of("llama") / name).read_bytes())
    return tmp_path


def _refusal(folder: Path) -> CairnError:
    with pytest.raises(CairnError) as caught:
        read_adapter(folder, tiny_config("llama"))
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"peft_type": "IA3"}, UnsupportedModelError, "peft_type is 'IA3'"),
        ({"use_dora": True}, UnsupportedModelError, "use_dora is True"),
        ({"bias": "all"}, UnsupportedModelError, "bias is 'all', allowed: none"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModelError, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, UnsupportedModelError, "also changed the base"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, UnsupportedModelError, "target_parameters"),
        ({"r": 0}, IntegrityError, "r is 0, allowed: a whole number above 0"),
        ({"r": None}, IntegrityError, "r is None"),
        ({"lora_alpha": "much"}, IntegrityError, "lora_alpha is 'much'"),
        ({"rank_pattern": {"q_proj(": 2}}, IntegrityError, "regular expressions"),
        ({"rank_pattern": [2]}, IntegrityError, "rank_pattern is"),
        ({"r": 5}, IntegrityError, "expected [5, 32]"),
    ],
)
def test_options_that_are_not_plain_lora_are_refused(
    adapter: Path, options: dict[str, Any], kind: type[CairnError], says: str
) -> None:
    values = json.loads((adapter / CONFIG_NAME).read_text())
    (adapter / CONFIG_NAME).write_text(json.dumps(values | options))
    error = _refusal(adapter)
    assert isinstance(error, kind)
    assert says in error.message


_Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({f"{_Q}.lora_A.weight": torch.zeros(4, 31)}, "lora_A.weight is [4, 31], expected [4, 32]"),
        ({f"{_Q}.lora_A.weight": torch.zeros(4 * 32)}, "is [128], expected [4, 32]"),
        ({f"{_Q}.lora_B.weight": torch.zeros(64, 4)}, "lora_B.weight is [64, 4], expected [32, 4]"),
        ({f"{_Q}.lora_B.weight": torch.zeros(32, 4, dtype=torch.int64)}, "is I64"),
        ({f"{_Q}.lora_B.weight": None}, "q_proj.lora_B.weight is missing"),
        ({f"{_Q}.lora_A.weight": torch.full((4, 32), float("nan"))}, "NaN"),
        ({"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 32)}, "layers.9"),
        ({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}, "no matrix that can be adapted"),
        ({"model.layers.0.self_attn.q_proj.weight": torch.zeros(32, 32)}, "no matrix that can be adapted"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(adapter: Path, changes: dict[str, Any], says: str) -> None:
    tensors = load_file(adapter / WEIGHTS_NAME) | changes
    save_file(
        {name: tensor for name, tensor in tensors.items() if tensor is not None}, adapter / WEIGHTS_NAME
    )
    error = _refusal(adapter)
    assert isinstance(error, IntegrityError)
    assert says in error.message


def test_a_module_under_two_names_is_refused(adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS_NAME)
    again = {
        name.replace(".model.model.", ".model."): tensor.clone()
        for name, tensor in tensors.items()
        if _Q in name
    }
    save_file(tensors | again, adapter / WEIGHTS_NAME)
    assert "twice" in _refusal(adapter).message


def test_files_that_are_missing_cut_short_or_empty_are_refused(adapter: Path) -> None:
    whole = (adapter / WEIGHTS_NAME).read_bytes()
    (adapter / WEIGHTS_NAME).write_bytes(whole[:-4])
    assert isinstance(_refusal(adapter), IntegrityError)
    save_file({}, adapter / WEIGHTS_NAME)
    assert "changes nothing" in _refusal(adapter).message
    (adapter / WEIGHTS_NAME).unlink()
    assert isinstance(_refusal(adapter), NotFoundError)
    (adapter / CONFIG_NAME).unlink()
    assert isinstance(_refusal(adapter), NotFoundError)


def test_an_adapter_of_experts_is_refused() -> None:
    base = tiny_decoder("mixtral")
    folder = save_adapter(base, ["q_proj"], target_parameters=["mlp.experts.down_proj"])
    with pytest.raises(UnsupportedModelError, match="target_parameters"):
        read_adapter(folder, base.config)
