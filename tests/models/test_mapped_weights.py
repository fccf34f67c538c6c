"""The reader without torch: what it reads, and what it refuses before it reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cairn.core import CairnError, IntegrityError
from cairn.models.mapped_weights import map_weights
from cairn.models.parameters import parameter_shapes
from tests.models.tiny import TINY, tiny_decoder


@pytest.mark.parametrize("name", TINY)
def test_parameters_are_those_of_the_network(name: str) -> None:
    model = tiny_decoder(name)
    expected = {label: tuple(parameter.shape) for label, parameter in model.named_parameters()}
    assert parameter_shapes(model.config) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_values_are_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(5, 7).to(dtype)
    save_file({"a": tensor, "b": torch.zeros(0, 3, dtype=dtype)}, tmp_path / "model.safetensors")
    read = map_weights(tmp_path)
    np.testing.assert_array_equal(read["a"].read(), tensor.float().numpy())
    assert read["b"].read().shape == (0, 3)


def _write(path: Path, header: Any, num_bytes: int) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(num_bytes))


def _entry(first: int, last: int, shape: Any = (4,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


LIES: dict[str, Any] = {
    "past the end": {"a": _entry(0, 16), "b": _entry(16, 32)},
    "wrong size": {"a": _entry(0, 16, [5])},
    "negative": {"a": _entry(0, 16, [-4])},
    "overlap": {"a": _entry(0, 16), "b": _entry(0, 16)},
    "gap": {"a": _entry(4, 16, [3])},
    "unknown type": {"a": _entry(0, 16, dtype="Q9")},
    "no offsets": {"a": {"dtype": "F32", "shape": [4]}},
    "no object": ["a"],
    "numbers as text": {"a": _entry(0, 16, ["4"])},
    "type is a list": {"a": _entry(0, 16, dtype=["F32"])},
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(lie: str, tmp_path: Path) -> None:
    _write(tmp_path / "model.safetensors", LIES[lie], 16)
    with pytest.raises(IntegrityError, match="no whole safetensors file"):
        map_weights(tmp_path)


@given(st.binary(max_size=60), st.integers(0, 2**64 - 1))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_rubbish_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, length: int) -> None:
    folder = tmp_path_factory.mktemp("rubbish")
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + content)
    with pytest.raises(CairnError):
        map_weights(folder)


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_changed_byte_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    save_file({"a": torch.ones(4, 4), "b": torch.ones(3)}, folder / "model.safetensors")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[at % len(content)] = byte
    (folder / "model.safetensors").write_bytes(content)
    try:
        for tensor in map_weights(folder).values():
            if tensor.dtype in ("F32", "F16", "BF16", "F64"):
                tensor.read()
    except CairnError:
        pass
