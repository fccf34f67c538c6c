"""Packing and products of the native core against the same formulas in numpy, on every instruction set."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.engine.native_runner import native_kernels
from cairn.engine.runner import FloatArray
from tests.engine.native_tiny import (
    needs_native,
    quantised_int4,
    quantised_int8,
    quantised_rows,
    rounded_bfloat16,
)

pytestmark = needs_native
KEPT = {
    "float32": lambda values: values,
    "bfloat16": rounded_bfloat16,
    "int8": quantised_int8,
    "int4": quantised_int4,
}
FORMATS = tuple(KEPT)


def native() -> Any:
    return importlib.import_module("cairn._native")


def random_matrix(rows: int, inputs: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, inputs)).astype(np.float32)
    values[rng.random((rows, inputs)) < 0.1] = 0
    values[0] = 0  # a row of zeros has no scale
    return values


def product(matrix: Any, x: FloatArray, kernels: str) -> FloatArray:
    out = np.empty((len(x), -(-matrix.num_rows // 16) * 16), np.float32)
    native().multiply(matrix, x, out, kernels)
    return out[:, : matrix.num_rows]


@given(
    st.integers(1, 70), st.integers(1, 140), st.sampled_from(FORMATS), st.integers(0, 5), st.floats(1e-6, 1e6)
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_packed_matrix_keeps_what_the_formula_says(
    rows: int, inputs: int, weights: str, seed: int, size: float
) -> None:
    values = random_matrix(rows, inputs, seed) * np.float32(size)
    out = np.empty_like(values)
    native().pack(values, weights).unpack(out)
    expected = KEPT[weights](values)
    # A value on the edge between two levels may fall to either side.
    is_close = np.isclose(out, expected, rtol=1e-6, atol=0)
    assert is_close.mean() > 0.995
    worst = np.abs(out - values).max() if weights != "int4" else 0
    assert (
        worst <= np.abs(values).max() * {"float32": 0, "bfloat16": 2**-8, "int8": 1 / 200, "int4": 1}[weights]
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_what_runs_is_what_the_processor_has() -> None:
    avx512 = "avx512f avx512bw avx512vl avx512dq avx512_vnni"
    needs = {
        "amx": f"{avx512} amx_tile amx_int8 amx_bf16",
        "avx512bf16": f"{avx512} avx512_bf16",
        "avx512": avx512,
        "avxvnni": "avx2 fma avx_vnni",
        "avx2": "avx2 fma",
        "portable": "",
    }
    found = set(Path("/proc/cpuinfo").read_text().split())
    names = [name for name, flags in needs.items() if set(flags.split()) <= found]
    if "amx_bf16" in found:  # there VDPBF16PS is slower than products of floats
        at = names.index("avx512")
        names[at - 1 : at + 1] = reversed(names[at - 1 : at + 1])
    assert native_kernels() == tuple(names)


@pytest.mark.parametrize("kernels", native_kernels())
@pytest.mark.parametrize("weights", FORMATS)
def test_products_equal_numpy(weights: str, kernels: str) -> None:
    rng = np.random.default_rng(3)
    for rows, inputs, num_tokens in [
        (1, 1, 1),
        (48, 96, 1),
        (50, 70, 2),
        (16, 33, 3),
        (33, 257, 9),
        (40, 1100, 45),
    ]:
        matrix = native().pack(random_matrix(rows, inputs, 1), weights)
        kept = np.empty((rows, inputs), np.float32)
        matrix.unpack(kept)
        x = rng.standard_normal((num_tokens, inputs)).astype(np.float32)
        seen = quantised_rows(x) if weights in ("int8", "int4") else x
        if weights == "bfloat16" and kernels in ("avx512bf16", "amx"):
            seen = rounded_bfloat16(x)
        expected = seen.astype(np.float64) @ kept.T.astype(np.float64)
        np.testing.assert_allclose(product(matrix, x, kernels), expected, atol=2e-5 * inputs**0.5, rtol=1e-5)


@pytest.mark.parametrize("kernels", native_kernels())
@pytest.mark.parametrize("weights", FORMATS)
def test_a_row_is_the_same_bits_whatever_comes_with_it(weights: str, kernels: str) -> None:
    matrix = native().pack(random_matrix(64, 160, 1), weights)
    x = np.random.default_rng(0).standard_normal((13, 160)).astype(np.float32)
    alone = np.concatenate([product(matrix, x[i : i + 1], kernels) for i in range(13)])
    for num in range(2, 14):
        assert product(matrix, x[:num], kernels).tobytes() == alone[:num].tobytes()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_instruction_sets_agree_on_whole_numbers(weights: str) -> None:
    """Sums of products of whole numbers are exact; only their scaling is rounded, once more or less."""
    matrix = native().pack(random_matrix(64, 160, 1), weights)
    x = np.random.default_rng(0).standard_normal((5, 160)).astype(np.float32)
    results = [product(matrix, x, kernels) for kernels in native_kernels()]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-5)


def test_extremes_do_not_overflow() -> None:
    for weights in ("int8", "int4"):
        values = np.full((16, 64), -3.0, np.float32)
        matrix = native().pack(values, weights)
        for kernels in native_kernels():
            got = product(matrix, np.full((5, 64), 7.0, np.float32), kernels)
            np.testing.assert_allclose(got, -3.0 * 7.0 * 64, rtol=1e-3)
