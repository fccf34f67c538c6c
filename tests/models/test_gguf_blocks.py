"""The block formats against llama.cpp's own package, bit for bit."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn.models.gguf_blocks import BLOCK_TYPES, BY_NAME, BlockType, quantise

Floats = NDArray[np.float32]


def random_blocks(kind: BlockType, count: int, *, seed: int) -> NDArray[np.uint8]:
    """Blocks of random bytes with finite scales."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (count, kind.num_bytes), dtype=np.uint8)
    fields = blocks.view(kind.layout)
    for name in kind.layout.names or ():
        if kind.layout[name] == np.dtype("<f2"):
            fields[name] = generator.standard_normal(fields[name].shape)
    return blocks


@pytest.mark.parametrize("number", BLOCK_TYPES)
def test_dequantised_as_llama_cpp_does(number: int) -> None:
    kind = BLOCK_TYPES[number]
    blocks = random_blocks(kind, 500, seed=number)
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(number))
    got = kind.dequantise(blocks.reshape(-1))
    assert got.dtype == np.float32
    assert np.array_equal(got.view(np.uint32), expected.reshape(-1).view(np.uint32))


@pytest.mark.parametrize("number", BLOCK_TYPES)
def test_sizes_are_those_of_llama_cpp(number: int) -> None:
    kind = BLOCK_TYPES[number]
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)] == (kind.size, kind.num_bytes)
    assert gguf.GGMLQuantizationType(number).name == kind.name


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_quantised_as_llama_cpp_does(name: str, data: st.DataObject) -> None:
    numbers = st.floats(-1e4, 1e4, width=16) | st.sampled_from([0.0, -0.0, 0.5, 1e-30, -127.0, 8.0])
    values = np.array(data.draw(st.lists(numbers, min_size=64, max_size=64)), np.float32).reshape(2, 32)
    expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
    with np.errstate(over="ignore"):
        assert np.array_equal(quantise(values, name), expected.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_quantising_what_was_dequantised_changes_nothing(name: str) -> None:
    values = np.random.default_rng(1).standard_normal((300, 64)).astype(np.float32)
    once = BY_NAME[name].dequantise(quantise(values, name))
    again = BY_NAME[name].dequantise(quantise(once.reshape(values.shape), name))
    assert np.abs(again - once).max() <= np.abs(once).max() * 2**-10


def test_long_tensors_are_decoded_in_parts() -> None:
    kind = BY_NAME["Q6_K"]
    blocks = random_blocks(kind, 5000, seed=3)
    whole = kind.dequantise(blocks.reshape(-1))
    last = kind.dequantise(blocks[-7:].reshape(-1))
    assert np.array_equal(whole[-len(last) :], last)


def test_scales_that_are_not_finite_warn_of_nothing() -> None:
    blocks = np.full((2, BY_NAME["Q4_K"].num_bytes), 255, np.uint8)
    assert not np.isfinite(BY_NAME["Q4_K"].dequantise(blocks.reshape(-1))).any()
