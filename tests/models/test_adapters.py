"""Adapters in PEFT's layout: what is read equals what PEFT merges, and what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cairn.core import CairnError, IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME, read_adapter
from cairn.models.checkpoint import load_decoder
from cairn.models.decoder import Decoder
from tests.engine.tiny_adapters import (
    SPLIT,
    adapter_of,
    add_adapter,
    experts_of,
    peft_model,
    save_adapter,
    save_expert_adapter,
    saved_model,
    targets_of,
)
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
    _check_merged(name, tmp_path, **targets_of(name), r=3, lora_alpha=5)


# PEFT follows patterns of parameters, and says that it does not.
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match")
@pytest.mark.parametrize("parameter", ["gate_up_proj", "layers.2.mlp.experts.down_proj"])
def test_one_parameter_of_the_experts(parameter: str, tmp_path: Path) -> None:
    changed = _check_merged(
        "mixtral",
        tmp_path,
        target_modules=["q_proj"],
        target_parameters=[parameter],
        r=3,
        rank_pattern={r"layers\.[13]\.mlp\.experts\.gate_up_proj": 5},
        alpha_pattern={"experts.down_proj": 20},
    )
    experts = {name for name in changed if name.endswith(("mlp.inner", "mlp.output"))}
    every = {f"layers.{layer}.mlp.inner" for layer in range(4)}
    assert experts == (every if parameter == "gate_up_proj" else {"layers.2.mlp.output"})


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match")
@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_single_experts_are_what_peft_merges(name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tiny_decoder(name)
    folder = save_expert_adapter(base, dict.fromkeys(experts_of(base), 4))
    theirs: Any = AutoModelForCausalLM.from_pretrained(saved_model(base), dtype=torch.float32)
    _check_equal(base, folder, PeftModel.from_pretrained(theirs, folder), tmp_path)


def _check_merged(name: str, folder: Path, **options: Any) -> set[str]:
    base = tiny_decoder(name)
    theirs = peft_model(saved_model(base), **options)
    theirs.save_pretrained(folder / "adapter")
    return _check_equal(base, folder / "adapter", theirs, folder)


def _check_equal(base: Decoder, adapter: Path, theirs: Any, folder: Path) -> set[str]:
    """The base with each product of the adapter added is PEFT's merged model; which parameters it changed."""
    ours = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    changed = add_adapter(base, adapter)
    theirs.merge_and_unload().save_pretrained(folder / "merged")
    merged = dict(load_decoder(folder / "merged").named_parameters())
    for name, parameter in base.named_parameters():
        torch.testing.assert_close(parameter, merged[name], atol=1e-5, rtol=0, msg=name)
    assert changed == {name for name, parameter in base.named_parameters() if (parameter != ours[name]).any()}
    assert changed
    return changed


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
        ({"target_parameters": ["q_proj.weight"]}, UnsupportedModelError, "target_parameters"),
        ({"target_parameters": "gate_up_proj"}, IntegrityError, "target_parameters is 'gate_up_proj'"),
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


_EXPERT = "model.layers.2.block_sparse_moe.experts.1.w1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({f"{_EXPERT}.lora_A.weight": torch.zeros(4, 31)}, "w1.lora_A.weight is [4, 31], expected [4, 32]"),
        ({f"{_EXPERT}.lora_B.weight": torch.zeros(48, 5)}, "w1.lora_B.weight is [48, 5], expected [48, 4]"),
        ({f"{_EXPERT}.lora_B.weight": None}, "w1.lora_B.weight is missing"),
        ({_EXPERT.replace("experts.1", "experts.4") + ".lora_A.weight": torch.zeros(4, 32)}, "experts.4"),
        ({"model.layers.0.mlp.experts.lora_A.weight": torch.zeros(16, 32)}, "no matrix that can be adapted"),
        ({"model.layers.0.block_sparse_moe.gate.lora_A.weight": torch.zeros(4, 32)}, "no matrix"),
    ],
)
def test_experts_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    base = tiny_decoder("mixtral")
    folder = save_expert_adapter(base, {_EXPERT: 4})
    tensors = load_file(folder / WEIGHTS_NAME)
    tensors |= {f"base_model.model.{name}": tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS_NAME)
    with pytest.raises(IntegrityError) as caught:
        read_adapter(folder, base.config)
    assert says in caught.value.message


def test_joined_experts_of_another_number_are_refused() -> None:
    folder = save_adapter(
        tiny_decoder("mixtral", num_local_experts=3), ["q_proj"], target_parameters=["mlp.experts.down_proj"]
    )
    with pytest.raises(IntegrityError, match=r"experts\.lora_A\.weight is \[12, 48\], expected \[16, 48\]"):
        read_adapter(folder, tiny_config("mixtral"))


def test_an_expert_changed_by_itself_and_with_all_is_refused() -> None:
    base = tiny_decoder("mixtral")
    both = save_adapter(base, ["q_proj"], target_parameters=["mlp.experts.gate_up_proj"])
    one = load_file(save_expert_adapter(base, {_EXPERT: 4}) / WEIGHTS_NAME)
    save_file(load_file(both / WEIGHTS_NAME) | one, both / WEIGHTS_NAME)
    with pytest.raises(IntegrityError, match=r"layers\.2\.mlp\.inner\.1 twice"):
        read_adapter(both, base.config)
