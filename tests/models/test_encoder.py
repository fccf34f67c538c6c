"""The encoder in PyTorch against transformers and sentence-transformers, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cairn.core import IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.encoder import Encoder, load_encoder
from cairn.models.encoder_reader import read_encoder_config
from cairn.models.encoder_tensors import encoder_shapes
from tests.models.tiny_encoders import FAMILIES, HEADS, VOCAB, as_sentence_transformer, tiny_encoder

LENGTHS = (7, 1, 20, 64)
BOUNDS = np.cumsum([0, *LENGTHS]).tolist()


def tokens() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(4, VOCAB, BOUNDS[-1]))


def peer_rows(model: Any, ids: torch.Tensor, types: torch.Tensor | None = None) -> torch.Tensor:
    """transformers' own output, text by text: hidden states, or logits."""
    rows = []
    with torch.no_grad():
        for start, stop in pairwise(BOUNDS):
            extra = {} if types is None else {"token_type_ids": types[None, start:stop]}
            out = model(input_ids=ids[None, start:stop], **extra)
            rows.append((out.logits if "logits" in out else out.last_hidden_state)[0])
    return torch.cat([row if row.ndim > 1 else row[None] for row in rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_equal_transformers(family: str) -> None:
    theirs, folder = tiny_encoder(family)
    model, ids = load_encoder(folder), tokens()
    types = torch.arange(len(ids)) % 2 if family == "bert" else None
    with torch.no_grad():
        ours = model.hidden(ids, list(LENGTHS), types)
        pooled = model(ids, BOUNDS, types)
    expected = peer_rows(theirs, ids, types)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    means = torch.stack([text.mean(0) for text in expected.split(list(LENGTHS))])
    torch.testing.assert_close(pooled, means, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForTokenClassification"])
def test_logits_equal_transformers(family: str, head: str) -> None:
    theirs, folder = tiny_encoder(family, head, num_labels=3)
    with torch.no_grad():
        ours = load_encoder(folder)(tokens(), BOUNDS)
    torch.testing.assert_close(ours, peer_rows(theirs, tokens()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_language_model_head_is_left_out(family: str) -> None:
    theirs, folder = tiny_encoder(family, "ForMaskedLM")
    with torch.no_grad():
        ours = load_encoder(folder).hidden(tokens(), list(LENGTHS))
    expected = peer_rows(theirs.base_model, tokens())
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_shapes_are_those_of_the_network(family: str, head: str) -> None:
    config = read_encoder_config(tiny_encoder(family, head)[1])
    shapes = {name: tuple(parameter.shape) for name, parameter in Encoder(config).named_parameters()}
    assert encoder_shapes(config) == shapes
    assert config.num_params == sum(np.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
@pytest.mark.parametrize("is_legacy", [True, False])
def test_pooling_and_length_one(tmp_path: Path, mode: str, is_legacy: bool) -> None:
    theirs, folder = tiny_encoder("bert")
    legacy = {f"pooling_mode_{name}_tokens": name == mode for name in ("mean", "max")}
    pooling = {**legacy, "pooling_mode_cls_token": mode == "cls"} if is_legacy else {"pooling_mode": mode}
    made = as_sentence_transformer(folder, tmp_path / "made", [("Pooling", pooling), ("Normalize", {})])
    with torch.no_grad():
        ours = load_encoder(made)(tokens(), BOUNDS)
    texts = peer_rows(theirs, tokens()).split(list(LENGTHS))
    pooled = [{"cls": text[0], "mean": text.mean(0), "max": text.amax(0)}[mode] for text in texts]
    expected = torch.nn.functional.normalize(torch.stack(pooled), dim=-1)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_a_dense_layer_after_pooling(tmp_path: Path) -> None:
    theirs, folder = tiny_encoder("bert")
    dense: dict[str, Any] = {"in_features": 48, "out_features": 16, "bias": True}
    dense |= {"activation_function": "torch.nn.modules.activation.Tanh"}
    made = as_sentence_transformer(
        folder, tmp_path / "made", [("Pooling", {"pooling_mode": "mean"}), ("Dense", dense)]
    )
    layer = torch.nn.Linear(48, 16)
    save_file(
        {f"linear.{name}": value.detach() for name, value in layer.named_parameters()},
        made / "2_Dense" / "model.safetensors",
    )
    with torch.no_grad():
        ours = load_encoder(made)(tokens(), BOUNDS)
        texts = peer_rows(theirs, tokens()).split(list(LENGTHS))
        expected = torch.tanh(layer(torch.stack([text.mean(0) for text in texts])))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_old_names_of_norms(tmp_path: Path) -> None:
    _, folder = tiny_encoder("bert")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    tensors = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(80)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    with torch.no_grad():
        old, new = (load_encoder(each)(tokens(), BOUNDS) for each in (tmp_path, folder))
    assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "electra"}, "family 'electra'"),
        ({"model_type": "bart"}, "near: bert"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering"),
        ({"hidden_act": "swoosh"}, "hidden_act is 'swoosh'"),
        ({"num_attention_heads": 5}, "multiple of 5 heads"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"vocab_size": None}, "vocab_size"),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = json.loads((tiny_encoder("bert")[1] / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedModelError, match=message):
        read_encoder_config(tmp_path)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("Pooling", {"pooling_mode": "lasttoken"})], "pooling_mode is 'lasttoken'"),
        ([("Pooling", {"pooling_mode": ["mean", "cls"]})], "mean and cls"),
        ([("Pooling", {"include_prompt": False})], "include_prompt"),
        ([("WeightedLayerPooling", {})], "WeightedLayerPooling"),
        ([("Pooling", {}), ("Dense", {"out_features": 4, "activation_function": "torch.nn.GELU"})], "GELU"),
    ],
)
def test_modules_that_are_not_computed_are_refused(
    tmp_path: Path, modules: list[tuple[str, dict[str, Any]]], message: str
) -> None:
    made = as_sentence_transformer(tiny_encoder("bert")[1], tmp_path / "made", modules)
    with pytest.raises(UnsupportedModelError, match=message):
        read_encoder_config(made)


def test_a_module_outside_the_folder_is_refused(tmp_path: Path) -> None:
    made = as_sentence_transformer(tiny_encoder("bert")[1], tmp_path / "made", [("Pooling", {})])
    text = (made / "modules.json").read_text().replace("1_Pooling", "../made/1_Pooling")
    (made / "modules.json").write_text(text)
    with pytest.raises(NotFoundError, match="made/1_Pooling"):
        read_encoder_config(made)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _, folder = tiny_encoder("bert")
    tensors = load_file(folder / "model.safetensors")
    tensors["strange"] = torch.zeros(3)
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["embeddings.LayerNorm.weight"] = torch.ones(5)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(IntegrityError) as caught:
        load_encoder(tmp_path)
    for part in ("strange", "layer.1.output.dense.bias", "embeddings.LayerNorm.weight is [5]"):
        assert part in str(caught.value)
