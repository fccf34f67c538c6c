"""The native encoder against the torch reference, and its promise: bits that do not depend on the batch."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cairn.core import IntegrityError
from cairn.engine.encoder_weights import pack_encoder
from cairn.engine.native_encoder import Encoding, NativeEncoder
from cairn.engine.native_runner import native_kernels
from cairn.engine.runner import FloatArray
from cairn.engine.weight_reader import WeightFormat
from cairn.models.encoder import load_encoder
from tests.engine.native_tiny import needs_native
from tests.models.tiny_encoders import FAMILIES, VOCAB, as_sentence_transformer, tiny_encoder
from tests.models.tiny_heads import tiny_head

pytestmark = needs_native
WEIGHTS: tuple[WeightFormat, ...] = ("float32", "bfloat16", "int8", "int4")
LENGTHS = (7, 1, 20, 64, 80, 16, 65)


def texts(lengths: tuple[int, ...], seed: int = 1, *, with_types: bool = False) -> list[Encoding]:
    rng = np.random.default_rng(seed)
    return [
        Encoding(rng.integers(4, VOCAB, n).tolist(), rng.integers(0, 2, n).tolist() if with_types else ())
        for n in lengths
    ]


def reference(folder: Path, batch: list[Encoding]) -> FloatArray:
    ids = torch.tensor([token for text in batch for token in text.token_ids])
    types = torch.tensor([kind for text in batch for kind in text.types or [0] * len(text)])
    bounds = np.cumsum([0, *map(len, batch)]).tolist()
    with torch.no_grad():
        out: FloatArray = load_encoder(folder)(ids, bounds, types).numpy()
    return out


@pytest.mark.parametrize("kernels", native_kernels())
@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification", "ForTokenClassification"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_head_equals_the_reference(family: str, head: str, kernels: str) -> None:
    _, folder = tiny_encoder(family, head)
    encoder = NativeEncoder(folder, weights="float32", num_threads=2, kernels=kernels)
    batch = texts(LENGTHS, with_types=family == "bert")
    ours = np.concatenate(encoder.run(batch))
    np.testing.assert_allclose(ours, reference(folder, batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_pooling_a_dense_layer_and_length_one(mode: str, tmp_path: Path) -> None:
    dense = {"out_features": 21, "activation_function": "torch.nn.modules.activation.Tanh"}
    modules: list[tuple[str, dict[str, Any]]] = [
        ("Pooling", {"pooling_mode": mode}),
        ("Dense", dense),
        ("Normalize", {}),
    ]
    folder = as_sentence_transformer(tiny_encoder("bert")[1], tmp_path / "made", modules)
    layer = torch.nn.Linear(48, 21)
    tensors = {f"linear.{name}": value.detach() for name, value in layer.named_parameters()}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    batch = texts(LENGTHS)
    ours = np.concatenate(NativeEncoder(folder, weights="float32", num_threads=2).run(batch))
    assert ours.shape == (len(LENGTHS), 21)
    np.testing.assert_allclose(ours, reference(folder, batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("weights", "least"), [("bfloat16", 0.9999), ("int8", 0.999), ("int4", 0.96)])
def test_rounded_weights_stay_near(weights: WeightFormat, least: float) -> None:
    _, folder = tiny_encoder("bert")
    batch = texts(LENGTHS)
    ours = np.concatenate(NativeEncoder(folder, weights=weights, num_threads=2).run(batch))
    exact = reference(folder, batch)
    cosines = (ours * exact).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > least


@cache
def encoder_of(weights: WeightFormat, head: str, num_threads: int) -> NativeEncoder:
    return NativeEncoder(tiny_encoder("bert", head)[1], weights=weights, num_threads=num_threads)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=9),
    weights=st.sampled_from(WEIGHTS),
    head=st.sampled_from(["Model", "ForSequenceClassification", "ForTokenClassification"]),
    num_threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 3),
)
def test_a_text_has_the_same_bits_alone_and_in_any_batch(
    lengths: list[int], weights: WeightFormat, head: str, num_threads: int, seed: int
) -> None:
    batch = texts(tuple(lengths), seed, with_types=True)
    alone = [encoder_of(weights, head, 1).run([text])[0].tobytes() for text in batch]
    together = encoder_of(weights, head, num_threads).run(batch)
    assert [rows.tobytes() for rows in together] == alone


def test_packed_weights_give_the_same_bits(tmp_path: Path) -> None:
    _, folder = tiny_encoder("roberta", "ForSequenceClassification")
    pack_encoder(folder, "int8", tmp_path)
    batch = texts(LENGTHS)
    mapped, packed = (
        NativeEncoder(folder, weights="int8", packed=path, num_threads=1).run(batch)
        for path in (tmp_path, None)
    )
    assert [rows.tobytes() for rows in mapped] == [rows.tobytes() for rows in packed]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (Encoding([VOCAB]), "token id"),
        (Encoding([-1]), "token id"),
        (Encoding([5], [2]), "segment"),
        (Encoding([5, 6], [0]), "lengths differ"),
        (Encoding([]), "empty or too long"),
        (Encoding([5] * 81), "empty or too long"),
    ],
)
def test_nothing_is_read_out_of_bounds(text: Encoding, message: str) -> None:
    encoder = encoder_of("float32", "Model", 1)
    with pytest.raises(ValueError, match=message):
        encoder.run([Encoding([5, 6, 7]), text])


def test_no_texts_give_nothing() -> None:
    assert encoder_of("float32", "Model", 1).run([]) == []


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    _, folder = tiny_encoder("bert")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"][3, 4] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(IntegrityError, match="NaN"):
        NativeEncoder(tmp_path)


@pytest.mark.parametrize("task", ["reading", "reranking"])
def test_a_head_is_merged_as_the_reference_merges_it(task: Any, tmp_path: Path) -> None:
    _, base = tiny_encoder("bert")
    tiny_head(base, tmp_path, task)
    batch = texts((7, 1, 20, 64), with_types=True)
    ids = torch.tensor([token for text in batch for token in text.token_ids])
    types = torch.tensor([kind for text in batch for kind in text.types])
    with torch.no_grad():
        theirs = load_encoder(base, head=tmp_path)(ids, np.cumsum([0, *map(len, batch)]).tolist(), types)
    encoder = NativeEncoder(base, weights="float32", head=tmp_path)
    assert encoder.config.max_tokens == 64
    np.testing.assert_allclose(np.concatenate(encoder.run(batch)), theirs.numpy(), atol=1e-4, rtol=0)
    alone = [encoder.run([text])[0] for text in batch]
    assert [rows.tobytes() for rows in alone] == [rows.tobytes() for rows in encoder.run(batch)]
