"""The native runner against the torch reference, and its promise: bits that do not depend on the batch."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import IntegrityError
from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request
from cairn.engine.native_runner import CacheFormat, NativeRunner, native_kernels
from cairn.engine.native_weights import pack_checkpoint
from cairn.engine.weight_reader import WeightFormat
from cairn.models import Decoder, save_decoder
from tests.engine.naive import run_all
from tests.engine.native_tiny import (
    RecordingNativeRunner,
    all_logits,
    checkpoint,
    needs_native,
    quantised_int4,
    quantised_int8,
    rounded_bfloat16,
    whole_prompt,
)
from tests.engine.tiny_decoders import FAMILIES, VOCAB, naive_greedy, naive_scores, tiny_decoder
from tests.models import tiny

pytestmark = needs_native
WEIGHTS: tuple[WeightFormat, ...] = ("float32", "bfloat16", "int8", "int4")
CACHES: dict[WeightFormat, CacheFormat] = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int4": "int8",
}


def _prompt(seed: int, length: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(VOCAB) for _ in range(length))


def _greedy(num: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=num, ignore_eos=True)


@pytest.mark.parametrize("kernels", native_kernels())
@pytest.mark.parametrize("name", tiny.TINY)
def test_every_family_equals_the_reference(name: str, kernels: str) -> None:
    model = tiny.tiny_decoder(name)
    token_ids = [int(token) for token in tiny.tokens([100])[0]]
    runner = NativeRunner(checkpoint(model), weights="float32", num_threads=2, pin=False, kernels=kernels)
    expected = naive_scores(model, token_ids).numpy()
    for block_size in (16, 5):
        logits = all_logits(runner, token_ids, block_size=block_size)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(logits, expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("kernels", native_kernels())
@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_quantised_weights_equal_the_reference_with_the_same_weights(
    family: str, weights: WeightFormat, kernels: str
) -> None:
    """What is left between the two is the 8 bits of the activations."""
    kept = {"bfloat16": rounded_bfloat16, "int8": quantised_int8, "int4": quantised_int4}[weights]
    model, rounded = tiny_decoder(family), Decoder(tiny_decoder(family).config)
    with torch.no_grad():
        for (name, ours), theirs in zip(rounded.named_parameters(), model.parameters(), strict=True):
            values = theirs.numpy()
            if values.ndim > 1 and "router" not in name:
                values = kept(values.reshape(-1, values.shape[-1])).reshape(values.shape)
            ours.copy_(torch.from_numpy(values))
    runner = NativeRunner(
        checkpoint(model), weights=weights, cache="float32", num_threads=1, pin=False, kernels=kernels
    )
    token_ids = list(_prompt(1, 60))
    logits, expected = all_logits(runner, token_ids), naive_scores(rounded, token_ids).numpy()
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    bfloat16 = 0.02 if kernels in ("avx512bf16", "amx") else 1e-5
    assert error < {"bfloat16": bfloat16, "int8": 0.03, "int4": 0.03}[weights]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_equals_full_recomputation(family: str) -> None:
    model = tiny_decoder(family)
    requests = [
        Request(f"r{i}", _prompt(i, length), _greedy(num))
        for i, (length, num) in enumerate([(1, 30), (15, 9), (16, 20), (64, 3), (65, 40), (130, 12)])
    ]
    runner = NativeRunner(checkpoint(model), weights="float32", num_threads=2, pin=False)
    engine = Engine(runner, EngineConfig(num_blocks=60, max_num_seqs=16, token_budget=40))
    tokens = run_all(engine, requests).tokens
    for request in requests:
        num = request.sampling.max_tokens or 0
        assert tokens[request.request_id][0] == naive_greedy(model, request.prompt_token_ids, num)


@st.composite
def workloads(draw: st.DrawFn) -> list[Request]:
    stem = _prompt(0, 90)
    requests = []
    for i in range(draw(st.integers(1, 6))):
        tail = draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8))
        prompt = (*stem[: draw(st.sampled_from([0, 3, 40, 64, 80]))], *tail)
        sampling = SamplingParams(
            seed=i, max_tokens=draw(st.integers(1, 12)), n=draw(st.sampled_from([1, 1, 2]))
        )
        requests.append(Request(f"r{i}", prompt, sampling))
    return requests


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    block_size = draw(st.sampled_from([4, 5, 16]))
    max_num_seqs = draw(st.integers(1, 8))
    return EngineConfig(
        block_size=block_size,
        num_blocks=draw(st.sampled_from([130, 260, 1000])) // block_size + 8,
        max_num_seqs=max_num_seqs,
        token_budget=draw(st.sampled_from([max_num_seqs, 11, 33, 4096])) + max_num_seqs,
        prefix_cache=draw(st.sampled_from([True, True, False])),
    )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral"])
def test_bits_do_not_depend_on_batch_chunks_cache_preemption_or_threads(
    family: str, weights: WeightFormat
) -> None:
    """Every distribution of every request, bit for bit, alone on one thread and in any company on three."""
    folder, cache = checkpoint(tiny_decoder(family)), CACHES[weights]
    alone = RecordingNativeRunner(folder, weights=weights, cache=cache, num_threads=1)
    together = RecordingNativeRunner(folder, weights=weights, cache=cache, num_threads=3)

    @given(workloads(), configs())
    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    def check(requests: list[Request], config: EngineConfig) -> None:
        alone.bits.clear()
        for request in requests:
            run_all(Engine(alone, EngineConfig(num_blocks=40)), [request])
        engine = Engine(together, config)
        for order in (requests, requests[::-1]):  # the second time from the prefix cache
            together.bits.clear()
            run_all(engine, order)
            assert together.bits == alone.bits

    check()


def test_numbers_that_are_not_finite_fail_their_request_and_poison_nobody() -> None:
    model = Decoder(tiny_decoder("mistral").config)
    runner = NativeRunner(checkpoint(model), weights="float32", num_threads=1, pin=False)
    engine = Engine(runner, EngineConfig(num_blocks=8, max_num_seqs=1))
    before = run_all(engine, [Request("a", (1, 2, 3), _greedy(5))]).tokens
    runner._model.clear_blocks([0])
    assert run_all(engine, [Request("a", (9, 2, 3), _greedy(5))]).tokens
    assert run_all(engine, [Request("a", (1, 2, 3), _greedy(5))]).tokens == before


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_likeliest_is_the_first_of_equals(tmp_path: Path, num_threads: int) -> None:
    model = Decoder(tiny_decoder("llama").config)
    with torch.no_grad():
        model.embedding.normal_()
        half = VOCAB // 2
        model.embedding[half : 2 * half] = model.embedding[:half]
    save_decoder(model, tmp_path)
    runner = NativeRunner(tmp_path, weights="int8", num_threads=num_threads, pin=False)
    runner.allocate_kv_cache(4, 16)
    logits = runner.run(whole_prompt(list(range(60)), 16, num_blocks=4))
    likeliest, scores = logits.argmax(), logits.select(list(range(60)))
    assert likeliest.tolist() == scores.argmax(-1).tolist()
    assert ((scores == scores.max(-1, keepdims=True)).sum(-1) == 2).any()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = Decoder(tiny_decoder("mistral").config)
    with torch.no_grad():
        model.embedding[7] = float("nan")
    save_decoder(model, tmp_path)
    with pytest.raises(IntegrityError, match="NaN"):
        NativeRunner(tmp_path, weights="float32")


def test_a_step_that_reaches_out_of_bounds_is_refused() -> None:
    runner = NativeRunner(checkpoint(tiny_decoder("llama")), weights="float32", num_threads=1, pin=False)
    sound = whole_prompt([1, 2, 3, 4, 5], 4, num_blocks=2)
    with pytest.raises(ValueError, match="allocate_cache comes first"):
        runner.run(sound)
    runner.allocate_kv_cache(2, 4)
    runner.run(sound)
    span = sound.prompt_spans[0]
    wrong = {
        "token id": replace(sound, token_ids=np.full(5, VOCAB)),
        "slot": replace(sound, slot_mapping=sound.slot_mapping + 4),
        "lengths": replace(sound, positions=sound.positions[:4]),
        "cover": replace(sound, prompt_spans=()),
        "too short": replace(sound, prompt_spans=(replace(span, block_table=span.block_table[:1]),)),
        "block is": replace(sound, prompt_spans=(replace(span, block_table=span.block_table + 1),)),
        "logit row": replace(sound, logit_rows=(replace(sound.logit_rows[0], row=5),)),
    }
    for problem, step in wrong.items():
        with pytest.raises(ValueError, match=problem):
            runner.run(step)


def test_an_idle_pool_costs_no_memory() -> None:
    before = _resident_bytes()
    runner = NativeRunner(checkpoint(tiny_decoder("llama")), weights="float32", num_threads=1, pin=False)
    engine = Engine(runner, EngineConfig(kv_cache_bytes=1 << 30))
    assert engine.stats().num_blocks * runner.bytes_per_block(16) > 0.99 * 2**30
    assert _resident_bytes() - before < 1 << 28


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_packed_weights_give_the_same_bits(name: str, weights: WeightFormat, tmp_path: Path) -> None:
    folder = checkpoint(tiny.tiny_decoder(name))
    pack_checkpoint(folder, weights, tmp_path)
    one, other = (
        NativeRunner(folder, weights=weights, packed=packed, num_threads=1, pin=False)
        for packed in (None, tmp_path)
    )
    token_ids = [int(token) for token in tiny.tokens([40])[0]]
    assert all_logits(one, token_ids).tobytes() == all_logits(other, token_ids).tobytes()


def test_packed_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tiny_decoder("llama"))
    pack_checkpoint(folder, "int8", tmp_path)
    whole = (tmp_path / "packed.bin").read_bytes(), (tmp_path / "packed.json").read_text()
    index = json.loads(whole[1])
    name = next(iter(index["matrices"]))
    lies: list[dict[str, object]] = [
        {"rows": 10_000_000},
        {"rows": -16},
        {"inputs": 0},
        {"offset": 1},
        {"offset": 1 << 62},
        {"offset": -4096},
        {"scales": [1.0]},
        {"format": "int2"},
        {"rows": "many"},
        {"rows": (1 << 31) - 1, "inputs": (1 << 31) - 1},  # sizes that wrap around
        {"rows": 1, "scales": [0.0] * 16},
        {"scales": [float("nan")] * len(index["matrices"][name]["scales"])},
        {"format": "bfloat16", "rows": 16, "inputs": 32, "scales": []},
    ]
    for lie in lies:
        entries = index["matrices"] | {name: index["matrices"][name] | lie}
        (tmp_path / "packed.json").write_text(json.dumps(index | {"matrices": entries}))
        with pytest.raises(IntegrityError, match="packed"):
            NativeRunner(folder, weights="int8", packed=tmp_path, num_threads=1, pin=False)
    for text in ("", "[]", "{}", json.dumps(index | {"layout": 0}), json.dumps(index | {"matrices": {}})):
        (tmp_path / "packed.json").write_text(text)
        with pytest.raises(IntegrityError, match="packed"):
            NativeRunner(folder, weights="int8", packed=tmp_path, num_threads=1, pin=False)
    (tmp_path / "packed.json").write_text(whole[1])
    (tmp_path / "packed.bin").write_bytes(whole[0][:-4096])
    with pytest.raises(IntegrityError, match="packed"):
        NativeRunner(folder, weights="int8", packed=tmp_path, num_threads=1, pin=False)
