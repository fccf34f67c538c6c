"""Many adapters in one batch: equal to PEFT's, and to the bit what each request gets alone."""

import importlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import IntegrityError, InvalidRequestError
from cairn.core.chat import SamplingParams
from cairn.engine import (
    Engine,
    EngineConfig,
    ModelRunner,
    NativeRunner,
    PromptOutput,
    Request,
    TokenOutput,
    TorchRunner,
)
from cairn.engine.native_runner import native_kernels
from cairn.engine.runner import AdapterRows, FloatArray
from cairn.engine.weight_reader import WeightFormat
from cairn.models import Decoder
from tests.engine.naive import Collector, run_all
from tests.engine.native_tiny import RecordingNativeRunner, checkpoint, needs_native, whole_prompt
from tests.engine.tiny_adapters import (
    adapter_of,
    add_adapter,
    experts_of,
    peft_model,
    save_expert_adapter,
    saved_model,
    targets_of,
)
from tests.engine.tiny_decoders import RecordingRunner
from tests.models import tiny

VOCAB = 97
FAMILIES = (
    "llama",
    "llama-biased",
    "phi3",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "olmo2",
    "gpt2",
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
)


@cache
def _model(name: str) -> Decoder:
    return tiny.tiny_decoder(name)


@cache
def _expected(name: str, seed: int, token_ids: tuple[int, ...]) -> FloatArray:
    """PEFT's logits [T, vocab] of a prompt."""
    model = peft_model(saved_model(_model(name)), seed, r=4, lora_alpha=8, **targets_of(name))
    with torch.no_grad():
        logits: FloatArray = model(torch.tensor([token_ids])).logits[0].numpy()
    return logits


def _logits(runner: ModelRunner, token_ids: list[int], folder: Path | None) -> FloatArray:
    """Logits of a prompt, with an adapter if one is given."""
    runner.allocate_kv_cache(12, 16)
    rows = np.arange(len(token_ids))
    adapters = () if folder is None else (AdapterRows(runner.read_adapter(folder), rows),)
    step = replace(whole_prompt(token_ids, 16, 12), adapters=adapters)
    return runner.run(step).select(list(range(len(token_ids))))


def _runners(name: str) -> dict[str, ModelRunner]:
    runners: dict[str, ModelRunner] = {"torch": TorchRunner(_model(name))}
    for kernels in native_kernels():
        runners[kernels] = NativeRunner(
            checkpoint(_model(name)), weights="float32", num_threads=2, pin=False, kernels=kernels
        )
    return runners


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_equals_peft(name: str) -> None:
    token_ids = [int(token) for token in tiny.tokens([50])[0]]
    expected = _expected(name, 0, tuple(token_ids))
    scale = max(1.0, float(np.abs(expected).max()))
    for kind, runner in _runners(name).items():
        logits = _logits(runner, token_ids, adapter_of(name))
        np.testing.assert_allclose(logits, expected, atol=1e-4 * scale, rtol=0, err_msg=kind)
        without = _logits(runner, token_ids, None)
        assert np.abs(logits - without).max() > 0.1, "the adapter shows"


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_single_experts_of_different_ranks_equal_their_merged_model(name: str) -> None:
    token_ids = [int(token) for token in tiny.tokens([50])[0]]
    base, merged = _model(name), tiny.tiny_decoder(name)
    # Of every third matrix: some experts have all of theirs changed, some one, some none.
    folder = save_expert_adapter(base, {name: 1 + i % 9 for i, name in enumerate(experts_of(base)[::3])})
    assert add_adapter(merged, folder)
    expected = _logits(TorchRunner(merged), token_ids, None)
    for kind, runner in _runners(name).items():
        logits = _logits(runner, token_ids, folder)
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0, err_msg=kind)
        assert np.abs(logits - _logits(runner, token_ids, None)).max() > 0.1, "the adapter shows"


def _request(
    i: int, length: int, adapter: str, *, stem: int = 0, num: int = 10, **sampling: object
) -> Request:
    rng = random.Random(stem)
    prompt = tuple(rng.randrange(VOCAB) for _ in range(length))
    options = SamplingParams(**{"max_tokens": num, "seed": i, "ignore_eos": True, **sampling})  # type: ignore[arg-type]
    return Request(f"r{i}", prompt, options, adapter=adapter)


def _loaded(engine: Engine, name: str) -> Engine:
    """The engine with adapters a0, a1, a2 of different ranks."""
    for seed in range(3):
        engine.adapters.load(f"a{seed}", adapter_of(name, seed, rank=(4, 3, 16)[seed]))
    return engine


@st.composite
def workloads(draw: st.DrawFn) -> list[Request]:
    return [
        _request(
            i,
            draw(st.sampled_from([1, 7, 16, 40, 65])),
            draw(st.sampled_from(["", "a0", "a1", "a2"])),
            stem=draw(st.integers(0, 1)),
            num=draw(st.integers(1, 10)),
        )
        for i in range(draw(st.integers(1, 7)))
    ]


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    most = draw(st.integers(1, 8))
    return EngineConfig(
        num_blocks=draw(st.sampled_from([16, 40])),
        max_num_seqs=most,
        token_budget=draw(st.sampled_from([most, 23, 4096])) + most,
        prefix_cache=draw(st.booleans()),
    )


def _check_bits(alone: ModelRunner, together: ModelRunner, name: str, num_examples: int) -> None:
    bits_alone, bits_together = alone.bits, together.bits  # type: ignore[attr-defined]

    @given(workloads(), configs())
    @settings(max_examples=num_examples, deadline=None, derandomize=True, database=None)
    def check(requests: list[Request], config: EngineConfig) -> None:
        bits_alone.clear()
        for request in requests:
            run_all(_loaded(Engine(alone, EngineConfig(num_blocks=40)), name), [request])
        engine = _loaded(Engine(together, config), name)
        for order in (requests, requests[::-1]):  # the second time from the prefix cache
            bits_together.clear()
            run_all(engine, order)
            assert bits_together == bits_alone

    check()


@needs_native
@pytest.mark.parametrize("weights", ["float32", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama-biased", "qwen2_moe"])
def test_bits_do_not_depend_on_whose_adapters_share_the_batch(name: str, weights: WeightFormat) -> None:
    folder = checkpoint(_model(name))
    alone = RecordingNativeRunner(folder, weights=weights, num_threads=1)
    together = RecordingNativeRunner(folder, weights=weights, num_threads=3)
    _check_bits(alone, together, name, 15)


def test_bits_of_the_reference_do_not_either() -> None:
    model = _model("qwen2_moe")
    _check_bits(RecordingRunner(model), RecordingRunner(model), "qwen2_moe", 8)


def test_a_batch_of_adapters_equals_peft_row_by_row() -> None:
    """One step whose rows are the same prompt, each token's row in turn without, with one, with another."""
    name, length = "llama", 24
    token_ids = [int(token) for token in tiny.tokens([length])[0]]
    for kind, make in {"torch": lambda: TorchRunner(_model(name)), **_native(name)}.items():
        engine = Engine(make(), EngineConfig(num_blocks=40))
        for seed in range(2):
            engine.adapters.load(f"a{seed}", adapter_of(name, seed))
        sampling = SamplingParams(max_tokens=0, prompt_logprobs=1)
        for i, adapter in enumerate(["a0", "a1"]):
            engine.add_request(Request(f"r{i}", tuple(token_ids), sampling, adapter=adapter))
        found = {}
        while engine.has_unfinished:
            for output in engine.step():
                if isinstance(output, PromptOutput):
                    found[output.request_id] = output.logprobs
        for seed in range(2):
            expected = torch.from_numpy(_expected(name, seed, tuple(token_ids))).log_softmax(-1)
            for i in range(1, length):
                ours = found[f"r{seed}"][i].logprob
                assert ours == pytest.approx(float(expected[i - 1, token_ids[i]]), abs=1e-3), kind


def _native(name: str) -> dict[str, Callable[[], ModelRunner]]:
    if not native_kernels():
        return {}
    return {
        "native": lambda: NativeRunner(checkpoint(_model(name)), weights="float32", num_threads=2, pin=False)
    }


@pytest.mark.parametrize("kind", ["torch", pytest.param("native", marks=needs_native)])
def test_one_adapters_cache_is_never_anothers(kind: str) -> None:
    make = {"torch": lambda: TorchRunner(_model("llama")), **_native("llama")}[kind]
    engine = _loaded(Engine(make(), EngineConfig(num_blocks=60)), "llama")
    answers: dict[str, list[int | None]] = {}
    for i, adapter in enumerate(["", "a0", "a1", "", "a0", "a1"]):
        request = _request(0, 60, adapter, temperature=0, num=12)
        outputs = []
        engine.add_request(replace(request, request_id=f"r{i}"))
        while engine.has_unfinished:
            outputs += engine.step()
        tokens = [output.token_id for output in outputs if isinstance(output, TokenOutput)]
        assert isinstance(outputs[0], TokenOutput)
        assert outputs[0].num_cached_tokens == (0 if i < 3 else 59), "the first of each finds nothing"
        assert answers.setdefault(adapter, tokens) == tokens
    assert len({tuple(tokens) for tokens in answers.values()}) == 3


def test_an_unloaded_adapter_serves_whom_it_has_begun_to_serve() -> None:
    engine = _loaded(Engine(TorchRunner(_model("llama")), EngineConfig(num_blocks=60)), "llama")
    expected = run_all(engine, [_request(0, 20, "a0")]).tokens
    before = engine.stats().adapter_bytes
    engine.add_request(_request(0, 20, "a0"))
    collector = Collector()
    collector.take(engine.step())
    engine.adapters.unload("a0")
    assert engine.stats().adapter_bytes == before, "it is still in use"
    with pytest.raises(InvalidRequestError, match="a0 is not loaded"):
        engine.add_request(_request(1, 20, "a0"))
    while engine.has_unfinished:
        collector.take(engine.step())
    assert collector.tokens == expected
    assert engine.stats().adapter_bytes < before
    assert engine.stats().num_adapters == 2


def test_an_adapter_of_another_model_is_refused() -> None:
    engine = Engine(TorchRunner(_model("llama")), EngineConfig(num_blocks=4))
    with pytest.raises(IntegrityError, match="belongs to no matrix"):
        engine.adapters.load("x", adapter_of("gpt2"))
    assert "x" not in engine.adapters


@needs_native
def test_the_core_checks_every_adapter_and_row() -> None:
    runner = NativeRunner(checkpoint(_model("llama")), weights="float32", num_threads=1, pin=False)
    other = NativeRunner(checkpoint(_model("llama")), weights="float32", num_threads=1, pin=False)
    runner.allocate_kv_cache(4, 16)
    sound = whole_prompt([1, 2, 3], 16, 4)
    adapter = runner.read_adapter(adapter_of("llama"))
    wrong = {
        "row is wrong": [AdapterRows(adapter, np.array([3]))],
        "row is wrong ": [AdapterRows(adapter, np.array([0, 0]))],
        "another model": [AdapterRows(other.read_adapter(adapter_of("llama")), np.array([0]))],
    }
    for problem, groups in wrong.items():
        with pytest.raises(ValueError, match=problem.strip()):
            runner.run(replace(sound, adapters=tuple(groups)))
    a, b = np.zeros((4, 32), np.float32), np.zeros((64, 4), np.float32)
    native: Any = importlib.import_module("cairn._native")
    layers: list[list[object]] = [[None] * 4 for _ in range(4)]
    for problem, source in {
        "A does not fit": (a[:, :-1].copy(), [None] * 3),
        "parts": (a, [None]),
        "B does not fit": (a, [(0, b[:-1].copy()), None, None]),
        "rank": (a, [(1, b), None, None]),
    }.items():
        layers[1][0] = source
        with pytest.raises(ValueError, match=problem):
            native.make_adapter(runner._model, layers, "float32")
    layers[1][0] = (a, [(0, b), None, None])
    layers[2] = [None] * 6
    with pytest.raises(ValueError, match="products are not the model's"):
        native.make_adapter(runner._model, layers, "float32")
    layers[2] = [None] * 4
    assert native.make_adapter(runner._model, layers, "float32").num_bytes > 0
