"""Checkpoints to GGUF and back: the same weights and config, transformers as another reader, refusals."""

import json
import logging
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from cairn.core import CairnError, IntegrityError, UnsupportedModelError
from cairn.models import Decoder, PackedAttention, load_decoder, save_decoder
from cairn.models.gguf import GgufFile, open_gguf
from cairn.models.gguf_config import read_config
from cairn.models.gguf_export import GgufType, export_gguf
from cairn.models.gguf_import import convert_gguf
from tests.models.tiny import tiny_decoder, tokens

logging.getLogger("transformers").setLevel(logging.ERROR)
READ: Any = load_gguf_checkpoint
SIZES = {"hidden_size": 64, "intermediate_size": 96}
EXPERTS = {**SIZES, "moe_intermediate_size": 32}
GEMMA = {**SIZES, "query_pre_attn_scalar": 16}
ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SIZES),
    "llama tied": ("llama", SIZES | {"tie_word_embeddings": True}),
    "llama with biases": ("llama-biased", SIZES),
    "llama 3": ("llama3", SIZES),
    "llama linear": ("llama-linear", SIZES),
    "llama yarn": ("llama-yarn", SIZES),
    "qwen2": ("qwen2", SIZES | {"use_sliding_window": False}),
    "qwen3": ("qwen3", SIZES),
    "mixtral": ("mixtral", SIZES),
    "qwen2moe": ("qwen2_moe", EXPERTS | {"decoder_sparse_step": 1, "shared_expert_intermediate_size": 32}),
    "qwen3moe": ("qwen3_moe", EXPERTS | {"mlp_only_layers": []}),
    "gemma": ("gemma", SIZES),
    "gemma2": ("gemma2", GEMMA),
    "gemma3 with its own pattern": ("gemma3_text", GEMMA),
    "gemma3": ("gemma3_text", GEMMA | {"num_hidden_layers": 7, "layer_types": None}),
    "gemma3 linear": ("gemma3_text", GEMMA | {"rope_parameters": ROPES}),
}


def half_decoder(label: str) -> Decoder:
    """Weights that half precision holds exactly."""
    name, changes = FAMILIES[label]
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return tiny_decoder(name, **(special | changes)).half().float()


def exported(model: Decoder, folder: Path, weights: GgufType = "f16") -> GgufFile:
    save_decoder(model, folder / "made")
    export_gguf(folder / "made", folder / "model.gguf", weights, {})
    return open_gguf(folder / "model.gguf")


def logits(model: Decoder) -> torch.Tensor:
    input_ids, positions, bounds = tokens([40, 9])
    with torch.no_grad():
        return model.logits(model(input_ids, positions, PackedAttention(bounds)))


@pytest.mark.parametrize("label", FAMILIES)
def test_half_precision_comes_back_exactly(label: str, tmp_path: Path) -> None:
    model = half_decoder(label)
    assert convert_gguf(exported(model, tmp_path), tmp_path / "back") == model.config
    again = load_decoder(tmp_path / "back")
    for (name, first), second in zip(model.named_parameters(), again.parameters(), strict=True):
        # Gemma's norms lose a bit where 1 is added and taken away again.
        assert torch.allclose(first, second, rtol=0, atol=1e-6 if model.config.norm_offset else 0), name
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("weights", ["q8_0", "q4_0"])
def test_quantised_weights_are_what_llama_cpp_makes(weights: GgufType, tmp_path: Path) -> None:
    model = half_decoder("qwen3")
    file = exported(model, tmp_path, weights)
    kind = gguf.GGMLQuantizationType[weights.upper()]
    name = "model.layers.1.mlp.down_proj.weight"
    made = model.get_parameter("layers.1.mlp.output.weight").detach().numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(made, kind), kind)
    assert np.array_equal(file.tensors["blk.1.ffn_down.weight"].read(), expected)
    assert file.tensors["blk.1.attn_norm.weight"].type.name == "F32"

    convert_gguf(file, tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "bfloat16"
    again = load_decoder(tmp_path / "back").get_parameter("layers.1.mlp.output.weight").detach()
    assert torch.equal(again, torch.tensor(expected).bfloat16().float()), name


def test_full_precision_stays(tmp_path: Path) -> None:
    writer = gguf.GGUFReader(exported(half_decoder("llama"), tmp_path).path)
    assert {tensor.tensor_type.name for tensor in writer.tensors} == {"F16", "F32"}
    convert_gguf(open_gguf(tmp_path / "model.gguf"), tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "float16"


def test_rows_that_are_no_blocks_stay_half(tmp_path: Path) -> None:
    file = exported(tiny_decoder("llama", hidden_size=64, intermediate_size=48), tmp_path, "q8_0")
    kinds = {name: tensor.type.name for name, tensor in file.tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"


@pytest.mark.parametrize("label", ["llama", "llama tied", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_transformers_reads_the_same_model(label: str, tmp_path: Path) -> None:
    path = exported(half_decoder(label), tmp_path).path
    config = transformers.AutoConfig.for_model(**READ(path)["config"])
    assert config.rms_norm_eps == pytest.approx(1e-6)
    making: Any = transformers.AutoModelForCausalLM
    model = making.from_config(config)
    theirs = READ(path, return_tensors=True, model_to_load=model)["tensors"]
    ours = load_file(tmp_path / "made" / "model.safetensors")
    assert set(theirs) - {"lm_head.weight"} == set(ours) - {"lm_head.weight"}
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name].float(), tensor, rtol=0, atol=1e-6)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "family": ("olmo2", {}, "olmo2"),
    "windows": ("qwen2", {}, "windows"),
    "dynamic rope": ("llama-dynamic", {}, "dynamic"),
    "another scale": ("gemma2", {"query_pre_attn_scalar": 24}, "scaled by"),
    "part of a head": ("llama", {"partial_rotary_factor": 0.5}, "part of a head"),
    "experts in some layers": ("qwen3_moe", {}, "layers without experts"),
    "experts of another sum": (
        "qwen3_moe",
        {"mlp_only_layers": [], "norm_topk_prob": False},
        "norm_topk_prob false",
    ),
    "a tied mixture": ("qwen2_moe", {"decoder_sparse_step": 1, "tie_word_embeddings": True}, "the embedding"),
    "a bias after attention": ("qwen3", {"attention_bias": True}, "bias after attention"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_not_written(case: str, tmp_path: Path) -> None:
    name, changes, message = REFUSED[case]
    save_decoder(tiny_decoder(name, **changes), tmp_path / "made")
    with pytest.raises(UnsupportedModelError, match=message):
        export_gguf(tmp_path / "made", tmp_path / "model.gguf", "f16", {})
    assert not list(tmp_path.glob("model.gguf*"))


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = half_decoder("llama")
    with torch.no_grad():
        model.get_parameter("layers.0.mlp.output.weight")[3, 3] = float("nan")
    with pytest.raises(IntegrityError, match="down_proj"):
        exported(model, tmp_path)
    assert not list(tmp_path.glob("model.gguf*"))


def test_weights_that_are_not_finite_are_not_read(tmp_path: Path) -> None:
    file = exported(half_decoder("llama"), tmp_path)
    content = bytearray(file.path.read_bytes())
    content[-4:] = np.array([np.inf] * 2, "<f2").tobytes()
    file.path.write_bytes(content)
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        convert_gguf(open_gguf(file.path), tmp_path / "back")


def changed(file: GgufFile, **keys: Any) -> GgufFile:
    """The file with other key-values; None takes one away."""
    new = {name.replace("__", "."): value for name, value in keys.items()}
    metadata = {name: value for name, value in {**file.metadata, **new}.items() if value is not None}
    return GgufFile(file.path, file.version, metadata, file.tensors)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"general__architecture": "mamba"}, "'mamba'.*not read from GGUF"),
    "no architecture": ({"general__architecture": None}, "not read from GGUF"),
    "missing": ({"llama__block_count": None}, "block_count is missing"),
    "a text": ({"llama__block_count": "4"}, "block_count is '4'"),
    "fewer layers": ({"llama__block_count": 3}, "unexpected"),
    "other width": ({"llama__embedding_length": 32}, "head|rope|expected"),
    "experts": ({"llama__expert_count": 8}, "expert_count"),
    "a world of experts": ({"llama__expert_count": 1 << 40}, "expert_count"),
    "unequal layers": ({"llama__feed_forward_length": np.array([1, 2])}, "same for every layer"),
    "rope": ({"llama__rope__scaling__type": "longrope"}, "longrope"),
    "theta": ({"llama__rope__freq_base": 0.0}, "above 1"),
    "not finite": ({"llama__attention__layer_norm_rms_epsilon": float("nan")}, "a number"),
    "part of a head": ({"llama__rope__dimension_count": 8}, "dimension_count"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_keys_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    keys, message = BROKEN[case]
    file = changed(exported(half_decoder("llama"), tmp_path), **keys)
    with pytest.raises(CairnError, match=message):
        convert_gguf(file, tmp_path / "back")


MIXTURES = ["mixtral", "qwen2moe", "qwen3moe"]


@pytest.mark.parametrize("label", MIXTURES)
def test_the_tensors_of_a_mixture_are_those_of_llama_cpp(label: str, tmp_path: Path) -> None:
    model = half_decoder(label)
    reader = gguf.GGUFReader(exported(model, tmp_path).path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    experts = model.config.layers[0].experts
    assert experts is not None
    inner = model.get_parameter("layers.1.mlp.inner").detach().numpy()
    for name, part in (
        ("gate", inner[:, : experts.intermediate_size]),
        ("up", inner[:, experts.intermediate_size :]),
    ):
        assert np.array_equal(tensors[f"blk.1.ffn_{name}_exps.weight"].data, part), name
    down = model.get_parameter("layers.1.mlp.output").detach().numpy()
    assert np.array_equal(tensors["blk.1.ffn_down_exps.weight"].data, down)
    assert tensors["blk.1.ffn_gate_inp.weight"].tensor_type.name == "F32"
    assert all(len(tensor.shape) == 1 for name, tensor in tensors.items() if "inp_shexp" in name)
    assert reader.fields["general.architecture"].contents() == ("llama" if label == "mixtral" else label)


@pytest.mark.parametrize("label", MIXTURES)
def test_keys_of_a_mixture_that_do_not_fit_are_refused(label: str, tmp_path: Path) -> None:
    file = exported(half_decoder(label), tmp_path)
    architecture = file.metadata["general.architecture"]
    for key, value in (
        ("expert_count", 5),
        ("expert_count", 1 << 40),
        ("expert_count", None),
        ("expert_used_count", 0),
        ("expert_used_count", 7),
        ("expert_used_count", None),
        ("expert_weights_scale", 2.5),
        ("feed_forward_length" if label == "mixtral" else "expert_feed_forward_length", 33),
    ):
        with pytest.raises(CairnError, match="exp"):
            convert_gguf(changed(file, **{f"{architecture}.{key}": value}), tmp_path / "back")
    up = file.tensors["blk.1.ffn_up_exps.weight"]
    for shape in ((up.shape[0] - 1, *up.shape[1:]), up.shape[1:]):
        lying = file.tensors | {"blk.1.ffn_up_exps.weight": type(up)(shape, up.type, up.data)}
        with pytest.raises(IntegrityError, match=r"ffn_up_exps.*experts"):
            convert_gguf(GgufFile(file.path, 3, file.metadata, lying), tmp_path / "back")
    fewer = {name: tensor for name, tensor in file.tensors.items() if name != "blk.1.ffn_down_exps.weight"}
    with pytest.raises(UnsupportedModelError, match="expert_count"):
        read_config(GgufFile(file.path, 3, file.metadata, fewer))


def test_a_tensor_of_another_model_is_refused(tmp_path: Path) -> None:
    file = exported(half_decoder("qwen3"), tmp_path)
    tensors = file.tensors | {"blk.0.ssm_in.weight": file.tensors["blk.0.ffn_up.weight"]}
    with pytest.raises(UnsupportedModelError, match="ssm_in"):
        convert_gguf(GgufFile(file.path, 3, file.metadata, tensors), tmp_path / "back")


def test_defaults_of_llama_cpp(tmp_path: Path) -> None:
    """Old files leave out what llama.cpp knows by itself."""
    file = exported(half_decoder("gemma2"), tmp_path)
    keys = dict.fromkeys(
        (
            "gemma2__attention__sliding_window",
            "gemma2__attn_logit_softcapping",
            "gemma2__final_logit_softcapping",
            "gemma2__attention__sliding_window_pattern",
            "gemma2__rope__freq_base",
        )
    )
    config = read_config(changed(file, **keys))
    assert config.logit_softcap == 30.0
    assert config.layers[0].attention.softcap == 50.0
    assert [layer.window for layer in config.layers] == [4096, None, 4096, None]


def test_llama_3_factors_of_other_models_are_refused(tmp_path: Path) -> None:
    file = exported(half_decoder("llama 3"), tmp_path)
    tensor = file.tensors["rope_freqs.weight"]
    odd = np.linspace(1.5, 3.0, tensor.shape[0], dtype=np.float32)
    tensors = file.tensors | {
        "rope_freqs.weight": type(tensor)(tensor.shape, tensor.type, odd.view(np.uint8))
    }
    with pytest.raises(UnsupportedModelError, match="rope scaling"):
        read_config(GgufFile(file.path, 3, file.metadata, tensors))


def test_llama_3_of_real_size() -> None:
    """The numbers of Llama 3.2 are found again from its 32 factors."""
    from cairn.models.gguf_config import GgufValues, _llama3, rope_factors
    from cairn.models.specs import RopeSpec

    numbers: dict[str, Any] = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    spec = RopeSpec(theta=500000.0, rotary_dim=64, scaling="llama3", original_max_position=8192, **numbers)
    values = GgufValues(Path("a.gguf"), {}, "llama")
    found = _llama3(values, rope_factors(spec), RopeSpec(theta=500000.0, rotary_dim=64), 0)
    expected = {"original_max_position_embeddings": 8192, "rope_theta": 500000.0, "rope_type": "llama3"}
    assert found == numbers | expected
