"""int4 and fp8 for torch: the native engine's numbers, bounds of rounding, products, and whole networks.

The int4 kernel runs as the one of attention does: compiled on a GPU, elsewhere in Triton's interpreter.
"""

import copy
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cairn.engine import Engine, EngineConfig, Request, TorchRunner
from cairn.engine.rounded_weights import Fp8Matrix, Int4Matrix, RoundedFormat, round_matrix
from cairn.engine.row_tiles import DECODE_ROWS
from cairn.models import Decoder, load_decoder
from tests.engine.naive import run_all
from tests.engine.native_tiny import needs_native, quantised_int4, whole_prompt
from tests.engine.test_tiled_attention import DEVICE, HAS_GPU
from tests.engine.test_tiled_steps import _greedy, _prompt, _requests
from tests.engine.tiny_decoders import FAMILIES, RecordingRunner, naive_scores, tiny_decoder

FORMATS: tuple[RoundedFormat, ...] = ("int4", "fp8")
SHAPES = ((7, 32), (40, 48), (33, 300), (64, 1100))
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="needs Triton, which is not part of torch's CPU builds"
)


def _matrix(shape: tuple[int, int], seed: int = 0) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05
    values[0] = 0
    values[1, 3] = 5e4
    values[2, :2] = torch.tensor([0.5, -0.5])  # of two equally large the first decides
    return values


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_keeps_what_the_formula_says(shape: tuple[int, int]) -> None:
    values = _matrix(shape)
    found = Int4Matrix.of(values)
    np.testing.assert_array_equal(found.widened(torch.float32).numpy(), quantised_int4(values.numpy()))
    rows = torch.tensor([3, 0, 3])
    assert torch.equal(found.widened(torch.float32, rows), found.widened(torch.float32)[rows])


@needs_native
@pytest.mark.parametrize("shape", SHAPES)
def test_int4_equals_the_native_engine_bit_for_bit(shape: tuple[int, int]) -> None:
    native: Any = importlib.import_module("cairn._native")
    values = _matrix(shape)
    theirs = np.empty(shape, np.float32)
    native.pack(values.numpy(), "int4").unpack(theirs)
    ours = Int4Matrix.of(values).widened(torch.float32).numpy()
    assert ours.tobytes() == theirs.tobytes()


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=70))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_fp8_is_within_half_a_step(row: list[float]) -> None:
    """Three bits of mantissa: 2^-4 of the value, and below the smallest normal one 2^-10 of the scale."""
    values = torch.tensor([row], dtype=torch.float32)
    found = Fp8Matrix.of(values)
    error = (found.widened(torch.float32) - values).abs()
    assert (error <= values.abs() * 2**-4 * 1.001 + found.scales * 2**-10 * 1.001 + 1e-37).all()


@pytest.mark.parametrize("weights", FORMATS)
def test_a_product_is_that_of_the_widened_matrix(weights: RoundedFormat) -> None:
    values = _matrix((40, 96))
    matrix = round_matrix(values, weights)
    x = torch.randn(130, 96, generator=torch.Generator().manual_seed(1))
    found = matrix.product(x, 256)
    torch.testing.assert_close(found, F.linear(x, matrix.widened(torch.float32)), rtol=1e-5, atol=1e-3)
    assert torch.equal(matrix.product(x[:3], 256), found[:3])


def test_fp8_products_with_rounded_activations() -> None:
    """What a GPU computes with e4m3 on both sides: the same call, which torch's CPU build knows too."""
    matrix = Fp8Matrix.of(_matrix((48, 96)))
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
    found = matrix.multiplied(x.bfloat16()).float()
    rounded = Fp8Matrix.of(x.bfloat16()).widened(torch.float32)
    expected = F.linear(rounded, matrix.widened(torch.float32))
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=1e-2)


@needs_triton
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_rows", [1, 16, 37])
def test_the_int4_kernel_equals_the_widened_matrix(
    shape: tuple[int, int], num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not HAS_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    product = importlib.import_module("cairn.engine.triton_int4").product
    matrix = Int4Matrix.of(_matrix(shape).clamp(-1, 1).to(DEVICE))
    x = torch.randn(37, shape[1], generator=torch.Generator().manual_seed(1)).to(DEVICE)
    found = product(x[:num_rows], matrix)
    torch.testing.assert_close(
        found, F.linear(x[:num_rows], matrix.widened(torch.float32)), rtol=1e-5, atol=1e-5
    )
    # Whatever comes with it, a row keeps its bits: among others, and at another place. Of the place the
    # interpreter says nothing, because numpy's product is not the same at every row.
    assert torch.equal(product(x, matrix)[:num_rows], found)
    if HAS_GPU:
        assert torch.equal(product(x[num_rows - 1 : num_rows], matrix)[0], found[-1])


def _rounded(family: str, weights: RoundedFormat) -> Decoder:
    """The network with what a format keeps of its matrices."""
    model = Decoder(tiny_decoder(family).config)
    model.load_state_dict(tiny_decoder(family).state_dict())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "router" not in name:
                for part in parameter.view(-1, *parameter.shape[-2:]):
                    part.copy_(round_matrix(part, weights).widened(torch.float32))
    return model.eval()


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_that_of_its_rounded_weights(family: str, weights: RoundedFormat) -> None:
    runner = TorchRunner(tiny_decoder(family), tiled=True, weights=weights)
    token_ids = list(_prompt(1, 90))
    runner.allocate_kv_cache(12, 16)
    found = runner.run(whole_prompt(token_ids, 16, 12)).select(list(range(90)))
    expected = naive_scores(_rounded(family, weights), token_ids).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("weights", FORMATS)
def test_bits_do_not_depend_on_the_batch(weights: RoundedFormat) -> None:
    alone: dict[tuple[str, int, int], bytes] = {}
    for request in _requests():
        runner = RecordingRunner(tiny_decoder("mixtral"), tiled=True, weights=weights)
        run_all(Engine(runner, EngineConfig(num_blocks=200)), [request])
        alone |= runner.bits
    runner = RecordingRunner(tiny_decoder("mixtral"), tiled=True, weights=weights)
    run_all(Engine(runner, EngineConfig(num_blocks=30, max_num_seqs=8, token_budget=24)), _requests())
    assert runner.bits == alone


@pytest.mark.parametrize("weights", FORMATS)
def test_memory_of_the_weights_is_told(weights: RoundedFormat) -> None:
    model = tiny_decoder("mixtral")
    runner = TorchRunner(model, tiled=True, weights=weights)
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() > 1 and "router" not in n)
    others = sum(p.nbytes for n, p in model.named_parameters() if p.dim() == 1 or "router" in n)
    # Rows of 48 inputs are padded to 64 in int4; fp8 has a float a row.
    assert matrices * {"int4": 0.5, "fp8": 1.0}[weights] < runner.num_weight_bytes - others
    assert runner.num_weight_bytes - others < matrices * {"int4": 0.9, "fp8": 1.2}[weights]


def _divergence(exact: np.ndarray, other: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence of rows of logits, nats."""
    one, two = (torch.from_numpy(scores).double().log_softmax(-1) for scores in (exact, other))
    return float((one.exp() * (one - two)).sum(-1).mean())


@pytest.mark.parametrize("weights", FORMATS)
def test_the_starter_model_says_nearly_the_same(weights: RoundedFormat) -> None:
    folder = Path(importlib.import_module("cairn.lifecycle.starter").STARTERS) / "text"
    if not (folder / "config.json").exists():
        pytest.skip("the starter model is not in this checkout")
    model = load_decoder(folder)
    token_ids = np.random.default_rng(0).integers(0, model.config.vocab_size, 8).tolist()
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=20))
    token_ids += run_all(engine, [Request("a", tuple(token_ids), _greedy(120))]).tokens["a"][0]
    scores = []
    for runner in (TorchRunner(model), TorchRunner(model, tiled=True, weights=weights)):
        runner.allocate_kv_cache(12, 16)
        scores.append(runner.run(whole_prompt(token_ids, 16, 12)).select(list(range(len(token_ids)))))
    divergence = _divergence(scores[0], scores[1])
    assert 0 < divergence < {"int4": 0.1, "fp8": 0.01}[weights], divergence


@needs_triton
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_whole_network_on_the_kernels(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention and int4 products as kernels, prompts and decode tokens, one step ahead."""
    config = EngineConfig(num_blocks=20, lookup_tokens=0)
    requests = [Request(f"r{i}", _prompt(i, 5 + 60 * i), _greedy(4)) for i in range(2)]
    runner = TorchRunner(tiny_decoder(family), tiled=True, weights="int4")
    expected = run_all(Engine(runner, config), requests).tokens
    if not HAS_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    runner = TorchRunner(copy.deepcopy(tiny_decoder(family)).to(DEVICE), weights="int4", tiled=True)
    found = run_all(Engine(runner, config), requests).tokens
    assert found == expected


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("weights", FORMATS)
def test_on_a_gpu_a_rounded_network_answers_the_same_in_any_batch(weights: RoundedFormat) -> None:
    model = Decoder(tiny_decoder("llama").config).to("cuda", torch.bfloat16)
    alone: dict[tuple[str, int, int], bytes] = {}
    for request in _requests():
        runner = RecordingRunner(model, weights=weights)
        run_all(Engine(runner, EngineConfig(num_blocks=200)), [request])
        alone |= runner.bits
    runner = RecordingRunner(model, weights=weights)
    run_all(Engine(runner, EngineConfig(num_blocks=30, max_num_seqs=8, token_budget=24)), _requests())
    assert runner.bits == alone


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("num_rows", [1, DECODE_ROWS, 200])
def test_on_a_gpu_fp8_products_equal_the_reference(num_rows: int) -> None:
    matrix = Fp8Matrix.of(_matrix((512, 256)).clamp(-1, 1))
    x = torch.randn(num_rows, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    on_gpu = Fp8Matrix(matrix.values.cuda(), matrix.scales.cuda())
    found = on_gpu.product(x.cuda(), DECODE_ROWS).float().cpu()
    expected = F.linear(Fp8Matrix.of(x).widened(torch.float32), matrix.widened(torch.float32))
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=2e-2)
