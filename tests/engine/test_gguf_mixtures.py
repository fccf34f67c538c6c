"""Mixtures of experts through GGUF: files of llama.cpp's own package and ours compute what the model does."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from cairn.engine.native_runner import NativeRunner
from cairn.models import Decoder, save_decoder
from cairn.models.gguf import open_gguf
from cairn.models.gguf_export import export_gguf
from cairn.models.gguf_import import convert_gguf
from cairn.models.mapped_weights import map_weights
from tests.engine.native_tiny import all_logits, needs_native
from tests.models.tiny import tiny_decoder

pytestmark = [needs_native, pytest.mark.timeout(120)]

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
QWEN: dict[str, Any] = {**SIZES, "moe_intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": SIZES,
    "qwen2_moe": QWEN | {"decoder_sparse_step": 1, "shared_expert_intermediate_size": 32},
    "qwen3_moe": QWEN | {"mlp_only_layers": [], "tie_word_embeddings": True},
}
ARCHITECTURES = {
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
}
Tensors = dict[str, NDArray[np.float32]]


def saved(family: str, folder: Path) -> Decoder:
    """A checkpoint whose weights half precision holds exactly."""
    model = tiny_decoder(family, **FAMILIES[family]).half().float()
    save_decoder(model, folder)
    return model


def written_by_llama_cpp(model: Decoder, folder: Path, path: Path) -> None:
    """What llama.cpp's converter makes of a checkpoint: its names, its keys, experts end to end."""
    config, architecture = model.config, ARCHITECTURES[model.config.family]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    experts, rope = config.layers[0].experts, config.layers[0].rope
    assert experts is not None
    assert rope is not None
    writer.add_context_length(config.max_position)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    is_mixtral = config.family == "mixtral"
    writer.add_feed_forward_length(experts.intermediate_size if is_mixtral else 96)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(rope.theta)
    writer.add_expert_count(experts.num_experts)
    writer.add_expert_used_count(experts.num_experts_per_token)
    if not is_mixtral:
        writer.add_expert_feed_forward_length(experts.intermediate_size)
    if experts.shared_intermediate_size:
        writer.add_expert_shared_feed_forward_length(experts.shared_intermediate_size)
    names = gguf.get_tensor_name_map(architecture, config.num_layers)
    for name, values in joined(model, folder).items():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        writer.add_tensor(found, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def joined(model: Decoder, folder: Path) -> Tensors:
    """The tensors as the converter hands them on, by its names."""
    config = model.config
    tensors: Tensors = {}
    stacks: dict[str, Tensors] = {}
    for name, tensor in map_weights(folder).items():
        values = tensor.read()
        if config.family == "mixtral" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_heads if ".q_proj." in name else config.num_kv_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if ".experts." in name:
            before, _, rest = name.partition(".experts.")
            expert, _, part = rest.partition(".")
            whole = (
                f"{before.removeprefix('model.').replace('block_sparse_moe', 'feed_forward')}.experts.{part}"
            )
            key = whole if config.family == "mixtral" else f"{before}.experts.{part}"
            stacks.setdefault(key, {})[expert] = values
        elif "shared_expert_gate" in name:
            tensors[name] = values[0]
        else:
            tensors[name] = values
    return tensors | {
        name: np.stack([by_expert[str(index)] for index in range(len(by_expert))])
        for name, by_expert in stacks.items()
    }


def greedy(folder: Path, num: int = 12) -> tuple[list[int], NDArray[np.float32]]:
    """The likeliest continuation, and the last logits."""
    runner = NativeRunner(folder, weights="float32", num_threads=1, pin=False)
    token_ids = [5, 17, 3, 60, 8]
    for _ in range(num):
        logits = all_logits(runner, token_ids)
        token_ids.append(int(logits[-1].argmax()))
    return token_ids, np.asarray(logits)


@pytest.mark.parametrize("writer", ["llama.cpp", "cairn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_comes_back_and_answers_the_same(family: str, writer: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path / "made")
    if writer == "cairn":
        export_gguf(tmp_path / "made", tmp_path / "a.gguf", "f16", {})
    else:
        written_by_llama_cpp(model, tmp_path / "made", tmp_path / "a.gguf")
    convert_gguf(open_gguf(tmp_path / "a.gguf"), tmp_path / "back")
    before, after = map_weights(tmp_path / "made"), map_weights(tmp_path / "back")
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert np.array_equal(tensor.read(), after[name].read()), name
    tokens, logits = greedy(tmp_path / "made")
    again, logits_again = greedy(tmp_path / "back")
    assert tokens == again
    assert np.array_equal(logits, logits_again)


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_are_quantised_each_by_itself(family: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path / "made")
    export_gguf(tmp_path / "made", tmp_path / "a.gguf", "q8_0", {})
    kind = gguf.GGMLQuantizationType.Q8_0
    stacked = model.get_parameter("layers.1.mlp.output").detach().numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(stacked, kind), kind)
    (tensor,) = [
        t for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors if t.name == "blk.1.ffn_down_exps.weight"
    ]
    assert np.array_equal(gguf.quants.dequantize(tensor.data, kind).reshape(stacked.shape), expected)
    convert_gguf(open_gguf(tmp_path / "a.gguf"), tmp_path / "back")
    assert len(greedy(tmp_path / "back", 3)[0]) == 8
