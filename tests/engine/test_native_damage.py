"""Damaged files all the way into the native core: each is refused with a remedy, or computes within bounds.

Run under AddressSanitizer as well (`make sanitize`), where one byte read out of bounds ends the run.
"""

import json
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cairn.core import CairnError, IntegrityError
from cairn.engine.native_runner import NativeRunner
from cairn.engine.native_weights import pack_checkpoint
from cairn.engine.weight_reader import WeightFormat
from cairn.models import Decoder, save_decoder
from cairn.models.gguf import open_gguf
from cairn.models.gguf_export import export_gguf
from cairn.models.gguf_import import convert_gguf
from tests.damage import damaged, damaged_value
from tests.engine.native_tiny import all_logits, needs_native
from tests.models.tiny import tiny_decoder

pytestmark = [needs_native, pytest.mark.timeout(300)]
_MOST_MEGABYTES = 300


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A file of kilobytes may not cost hundreds of megabytes, whatever it claims to hold."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_MEGABYTES * 1024


def outcome(load: Callable[[], NativeRunner]) -> str:
    """`computed`, or `refused` with a message and a remedy."""
    try:
        logits = all_logits(load(), [1, 2, 3])
    except CairnError as error:
        return "refused" if error.message and error.remedy else f"refused without a remedy: {error}"
    assert logits.shape[0] == 3
    return "computed"


def runner(folder: Path, weights: WeightFormat = "int8", packed: Path | None = None) -> NativeRunner:
    return NativeRunner(folder, weights=weights, packed=packed, num_threads=1, pin=False)


GGUF_SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "query_pre_attn_scalar": 16}
GGUF_SIZES |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
GGUF_SIZES |= {"decoder_sparse_step": 1, "mlp_only_layers": []}


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "mixtral", "qwen2_moe"])
def test_damaged_gguf(name: str, tmp_path: Path) -> None:
    model = tiny_decoder(name, **GGUF_SIZES)
    save_decoder(model, tmp_path / "made")
    export_gguf(tmp_path / "made", tmp_path / "a.gguf", "q8_0", {})
    content, path = (tmp_path / "a.gguf").read_bytes(), tmp_path / "b.gguf"
    header = content.index(b"output_norm.weight") + 64

    def load() -> NativeRunner:
        convert_gguf(open_gguf(path), tmp_path / "back")
        return runner(tmp_path / "back")

    path.write_bytes(content)
    outcomes = [outcome(load)]
    for seed in range(150):
        path.write_bytes(damaged(content, seed, header))
        outcomes.append(outcome(load))
    assert outcomes[0] == "computed"
    assert set(outcomes) <= {"computed", "refused"}
    assert outcomes.count("refused") > 75


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_damaged_safetensors(name: str, tmp_path: Path) -> None:
    save_decoder(tiny_decoder(name), tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    outcomes = [outcome(lambda: runner(tmp_path))]
    for seed in range(150):
        path.write_bytes(damaged(content, seed, header))
        outcomes.append(outcome(lambda: runner(tmp_path)))
    assert outcomes[0] == "computed"
    assert set(outcomes) <= {"computed", "refused"}
    assert outcomes.count("refused") > 75


def test_a_damaged_config(tmp_path: Path) -> None:
    """Shapes that lie, some of them consistently: the weights no longer fit, or the model is another one."""
    save_decoder(tiny_decoder("qwen3_moe"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for seed in range(150):
        key = random.Random(seed).choice(sorted(config))
        (tmp_path / "config.json").write_text(json.dumps(config | {key: damaged_value(config[key], seed)}))
        assert outcome(lambda: runner(tmp_path)) in ("refused", "computed")


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "qwen2_moe"])
def test_damaged_packed_weights(name: str, weights: WeightFormat, tmp_path: Path) -> None:
    save_decoder(tiny_decoder(name), tmp_path)
    pack_checkpoint(tmp_path, weights, tmp_path)
    index = json.loads((tmp_path / "packed.json").read_text())
    names = sorted(index["matrices"])
    outcomes = [outcome(lambda: runner(tmp_path, weights, tmp_path))]
    for seed in range(100):
        rng = random.Random(seed)
        matrix, other = rng.choice(names), rng.choice(names)
        entry = dict(index["matrices"][matrix])
        field = rng.choice(sorted(entry))
        # Something wrong, or what is right for another matrix.
        entry[field] = (
            index["matrices"][other][field] if rng.random() < 0.3 else damaged_value(entry[field], seed)
        )
        if rng.random() < 0.2:
            entry["format"] = rng.choice(["float32", "bfloat16", "int8", "int4"])
        (tmp_path / "packed.json").write_text(
            json.dumps(index | {"matrices": index["matrices"] | {matrix: entry}})
        )
        outcomes.append(outcome(lambda: runner(tmp_path, weights, tmp_path)))
    assert outcomes[0] == "computed"
    assert set(outcomes) <= {"computed", "refused"}
    assert outcomes.count("refused") > 50


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, '{"a": 1' + "0" * 9000 + "}"])
def test_deep_and_long_json(text: str, tmp_path: Path) -> None:
    save_decoder(tiny_decoder("llama"), tmp_path)
    pack_checkpoint(tmp_path, "int8", tmp_path)
    (tmp_path / "packed.json").write_text(text)
    with pytest.raises(IntegrityError, match="packed"):
        runner(tmp_path, packed=tmp_path)
    raw = text.encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    with pytest.raises(IntegrityError, match="header"):
        runner(tmp_path)


@pytest.mark.parametrize("flaw", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_weights_that_are_no_numbers(weights: WeightFormat, flaw: float, tmp_path: Path) -> None:
    """In a matrix, a norm and an expert, for each format they would be packed to."""
    for name in ("layers.1.attention.output.weight", "norm.weight", "layers.0.mlp.output"):
        model = Decoder(tiny_decoder("qwen3_moe").config)
        with torch.no_grad():
            model.get_parameter(name).reshape(-1)[5] = flaw
        save_decoder(model, tmp_path)
        with pytest.raises(IntegrityError, match="hold NaN or infinity") as caught:
            runner(tmp_path, weights)
        assert caught.value.remedy
