"""What a model's makers recommend for sampling, into GGUF and out of it, as llama.cpp names it."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core import CairnError, UnsupportedModelError
from cairn.core.chat import SamplingParams
from cairn.models import save_decoder
from cairn.models.generation import GenerationDefaults, read_generation_defaults
from cairn.models.gguf import open_gguf
from cairn.models.gguf_export import export_gguf
from cairn.models.gguf_sampling import read_sampling, sampling_keys
from tests.models.test_gguf_checkpoint import half_decoder

GENERATION = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1}


def test_it_travels(tmp_path: Path) -> None:
    save_decoder(half_decoder("qwen3"), tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(GENERATION))
    export_gguf(tmp_path, tmp_path / "a.gguf", "q8_0", {})
    assert read_sampling(open_gguf(tmp_path / "a.gguf").metadata) == GENERATION | {"do_sample": True}


def test_the_names_are_those_of_llama_cpp(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_sampling_temp(0.6)
    writer.add_sampling_top_k(20)
    writer.add_sampling_top_p(0.95)
    writer.add_sampling_min_p(0.05)
    writer.add_sampling_penalty_repeat(1.1)
    writer.add_sampling_mirostat(2)
    writer.add_tensor("a", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata = open_gguf(tmp_path / "a.gguf").metadata
    assert read_sampling(metadata) == GENERATION | {"do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(GENERATION))
    own = sampling_keys(read_generation_defaults(tmp_path))
    assert own == {key: pytest.approx(metadata[key]) for key in own}


def test_nothing_said_and_off() -> None:
    assert read_sampling({}) == {}
    assert sampling_keys(GenerationDefaults(eos_token_ids=(1,))) == {}
    assert read_sampling({"general.sampling.temp": -1.0, "general.sampling.top_k": -1}) == {
        "temperature": 0.0,
        "top_k": 0,
        "do_sample": False,
    }


LIES: dict[str, Any] = {
    "temp": float("nan"),
    "temp ": 1e9,
    "temp  ": "hot",
    "temp   ": True,
    "top_k": 0.5,
    "top_k ": np.array([1, 2]),
    "top_p": 0.0,
    "top_p ": 1.5,
    "min_p": -0.1,
    "penalty_repeat": 0.0,
    "penalty_repeat ": float("inf"),
}


@pytest.mark.parametrize("key", LIES)
def test_what_cannot_be_sampled_with_is_refused(key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"general.sampling.{key.strip()} is"):
        read_sampling({f"general.sampling.{key.strip()}": LIES[key]})


NUMBERS = st.one_of(st.none(), st.floats(width=32), st.integers(-(1 << 40), 1 << 40))


@given(st.fixed_dictionaries(dict.fromkeys(GENERATION, NUMBERS)))
def test_what_is_read_or_written_can_be_sampled_with(values: dict[str, Any]) -> None:
    names = {"temp": "temperature", "penalty_repeat": "repetition_penalty"}
    metadata = {
        f"general.sampling.{key}": values[names.get(key, key)]
        for key in ("temp", "top_k", "top_p", "min_p", "penalty_repeat")
    }
    try:
        found = read_sampling(metadata)
    except CairnError:
        found = {}
    found.pop("do_sample", None)
    SamplingParams(**found)
    whole = values["top_k"] if isinstance(values["top_k"], int) else None
    again = read_sampling(sampling_keys(GenerationDefaults(**values | {"top_k": whole})))
    again.pop("do_sample", None)
    SamplingParams(**again)
