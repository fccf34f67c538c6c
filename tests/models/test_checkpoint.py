"""Checkpoints that are broken, foreign or contradictory: each ends in an error with a remedy."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cairn.core import CairnError, IntegrityError, NotFoundError, StorageError, UnsupportedModelError
from cairn.models import load_decoder, save_decoder
from tests.models.tiny import tiny_decoder

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_decoder(tiny_decoder("qwen2"), tmp_path)
    return tmp_path


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def refused(folder: Path, kind: type[CairnError], what: str) -> None:
    with pytest.raises(kind) as caught:
        load_decoder(folder)
    assert what in caught.value.message
    assert caught.value.remedy


def test_round_trip_in_any_dtype(folder: Path) -> None:
    first = load_decoder(folder)
    assert first.embedding.dtype == torch.float32
    half = load_decoder(folder, dtype=torch.bfloat16)
    for name, parameter in half.named_parameters():
        assert torch.equal(parameter, first.get_parameter(name).bfloat16())
    save_decoder(half, folder / "half")
    assert json.loads((folder / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    again = load_decoder(folder / "half", dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(half.parameters(), again.parameters(), strict=True))


def test_saving_again_leaves_no_file_of_the_last_time(folder: Path) -> None:
    model = load_decoder(folder)
    save_decoder(model, folder, max_shard_bytes=20_000)
    assert not (folder / WEIGHTS).exists()
    save_decoder(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]


def test_every_shard_keeps_to_its_size(folder: Path) -> None:
    save_decoder(load_decoder(folder), folder / "shards", max_shard_bytes=20_000)
    shards = list((folder / "shards").glob("*.safetensors"))
    assert len(shards) > 2
    assert all(sum(t.nbytes for t in load_file(path).values()) <= 20_000 for path in shards)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:keep])
    refused(folder, IntegrityError, "no whole safetensors file")


@pytest.mark.parametrize("length", [0, 3, 1 << 20, 1 << 62, (1 << 64) - 1])
def test_a_header_that_lies_about_its_length(folder: Path, length: int) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + data[8:])
    refused(folder, IntegrityError, "no whole safetensors file")


def test_offsets_beyond_the_data(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")
    header[name]["data_offsets"] = [0, 1 << 40]
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    refused(folder, IntegrityError, "no whole safetensors file")


def test_a_tensor_of_another_shape(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"model.norm.weight": torch.ones(31)}))
    refused(folder, IntegrityError, "model.norm.weight is [31], expected [32]")


def test_a_tensor_of_integers(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}))
    refused(folder, IntegrityError, "model.norm.weight is I8")


def test_missing_and_unexpected_tensors_are_listed_together(folder: Path) -> None:
    projection = "model.layers.0.self_attn.q_proj"

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.self_attn.q_proj.lora"] = tensors.pop(
            "model.layers.0.self_attn.q_proj.weight"
        )

    edit_weights(folder, edit)
    with pytest.raises(IntegrityError) as caught:
        load_decoder(folder)
    assert f"missing: {projection}.weight" in caught.value.message
    assert f"unexpected: {projection}.lora" in caught.value.message


def test_one_expert_missing(tmp_path: Path) -> None:
    save_decoder(tiny_decoder("mixtral"), tmp_path)
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    edit_weights(tmp_path, lambda tensors: tensors.pop(name))
    refused(tmp_path, IntegrityError, f"missing: {name}")


def test_an_index_naming_a_missing_shard(folder: Path) -> None:
    save_decoder(load_decoder(folder), folder, max_shard_bytes=20_000)
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    refused(folder, NotFoundError, lost.name)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_pointing_out_of_the_folder(folder: Path, shard: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))
    refused(folder, NotFoundError, shard)


def test_an_index_that_says_nothing(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")
    refused(folder, IntegrityError, "weight_map")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\xff"])
def test_a_config_that_is_no_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, IntegrityError, "config.json")


def test_no_config_and_no_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    refused(folder, NotFoundError, "holds no config.json")
    refused(folder / "nowhere", NotFoundError, "nowhere")


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    refused(folder, NotFoundError, "holds no model.safetensors")


def test_pickles_are_never_opened(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    refused(folder, UnsupportedModelError, "pytorch_model.bin")


def test_nan_weights_are_found_when_asked(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    load_decoder(folder)
    with pytest.raises(IntegrityError, match=r"norm\.weight"):
        load_decoder(folder, check_finite=True)


def test_tied_by_config_but_stored_apart(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert load_decoder(folder).head is None
    edit_weights(folder, lambda t: t["lm_head.weight"].add_(1))
    refused(folder, IntegrityError, "lm_head.weight differs")


def test_untied_by_config_but_no_head(folder: Path) -> None:
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(IntegrityError, match=r"missing: lm_head\.weight") as caught:
        load_decoder(folder)
    assert "tie_word_embeddings" in caught.value.remedy


def test_an_unknown_family(folder: Path) -> None:
    edit_config(folder, model_type="mistal")
    refused(folder, UnsupportedModelError, "near: mistral")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        save_decoder(tiny_decoder("llama"), tmp_path)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_saving_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot make"):
        save_decoder(tiny_decoder("llama"), tmp_path / "taken")


def test_other_dtypes_are_not_saved(tmp_path: Path) -> None:
    model = tiny_decoder("llama")
    model.norm.weight = torch.nn.Parameter(torch.ones(32, dtype=torch.complex64))
    with pytest.raises(UnsupportedModelError, match=r"norm\.weight is torch\.complex64"):
        save_decoder(model, tmp_path)
