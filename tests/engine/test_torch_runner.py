"""The real network under the engine: parity with transformers, and bits that do not depend on the batch."""

import random
from pathlib import Path

import pytest
import torch

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, EngineError, PromptOutput, Request, TorchRunner
from cairn.models import Decoder, save_decoder
from cairn.models.linear import has_bfloat16
from tests.engine.naive import run_all
from tests.engine.tiny_decoders import (
    FAMILIES,
    VOCAB,
    RecordingRunner,
    naive_greedy,
    naive_scores,
    tiny_decoder,
    transformers_greedy,
)


def _prompt(seed: int, length: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(VOCAB) for _ in range(length))


def _greedy(num: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=num, ignore_eos=True)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_greedy_equals_transformers(family: str, tmp_path: Path) -> None:
    model = tiny_decoder(family)
    save_decoder(model, tmp_path)
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=64))
    prompt = _prompt(1, 70)
    expected = transformers_greedy(tmp_path, prompt, 40)
    assert run_all(engine, [Request("a", prompt, _greedy(40))]).tokens["a"][0] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_equals_full_recomputation(family: str) -> None:
    model = tiny_decoder(family)
    requests = [
        Request(f"r{i}", _prompt(i, length), _greedy(num))
        for i, (length, num) in enumerate([(1, 30), (15, 9), (16, 20), (64, 3), (65, 40), (130, 12)])
    ]
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=60, max_num_seqs=16, token_budget=40))
    tokens = run_all(engine, requests).tokens
    for request in requests:
        num = request.sampling.max_tokens or 0
        assert tokens[request.request_id][0] == naive_greedy(model, request.prompt_token_ids, num)


CONFIGS = {
    "a few tokens at a time": EngineConfig(
        num_blocks=200, max_num_seqs=3, token_budget=3, prefix_cache=False
    ),
    "small chunks": EngineConfig(num_blocks=200, max_num_seqs=8, token_budget=24),
    "all at once": EngineConfig(num_blocks=200, max_num_seqs=8, token_budget=4096),
    "preempting": EngineConfig(num_blocks=14, max_num_seqs=8, token_budget=64),
    "small blocks": EngineConfig(block_size=5, num_blocks=600, max_num_seqs=8, token_budget=64),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_do_not_depend_on_batch_chunks_cache_or_preemption(family: str) -> None:
    """Every distribution of every request, bit for bit, float32."""
    model = tiny_decoder(family)
    shared = _prompt(0, 80)
    prompts = [shared, shared[:64], _prompt(9, 3), (*shared[:50], 7, 7), _prompt(8, 100)]
    requests = [
        Request(f"r{i}", prompt, SamplingParams(seed=i, max_tokens=14, n=1 + i % 2))
        for i, prompt in enumerate(prompts)
    ]
    alone: dict[tuple[str, int, int], bytes] = {}
    for request in requests:
        runner = RecordingRunner(model)
        run_all(Engine(runner, EngineConfig(num_blocks=200)), [request])
        alone |= runner.bits
    for name, config in CONFIGS.items():
        runner = RecordingRunner(model)
        engine = Engine(runner, config)
        run_all(engine, requests)
        assert runner.bits == alone, name
        runner.bits.clear()
        run_all(engine, requests[::-1])  # now from the prefix cache
        assert runner.bits == alone, f"{name}, cached"
        if name == "preempting":
            assert engine.stats().num_preemptions > 0


def test_prompt_logprobs_equal_full_recomputation() -> None:
    model, prompt = tiny_decoder("llama"), _prompt(3, 90)
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=40, max_num_seqs=16, token_budget=32))
    engine.add_request(Request("a", prompt, SamplingParams(max_tokens=0, prompt_logprobs=1)))
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step()
    assert isinstance(outputs[0], PromptOutput)
    expected = naive_scores(model, list(prompt)).log_softmax(-1)
    for i, entry in enumerate(outputs[0].logprobs[1:]):
        assert entry.logprob == pytest.approx(float(expected[i, prompt[i + 1]]), abs=1e-4)
        assert entry.top_logprobs[0][0] == int(expected[i].argmax())


def test_weights_are_computed_in_the_dtype_this_cpu_is_fast_in() -> None:
    model = Decoder(tiny_decoder("llama").config).to(torch.bfloat16)
    runner = TorchRunner(model)
    dtype = runner.model.output_weight.dtype
    assert dtype == (torch.bfloat16 if has_bfloat16() else torch.float32)
    assert runner.dtype == str(dtype).removeprefix("torch.")
    assert runner.bytes_per_block(16) / 16 == 2 * 3 * 2 * 8 * dtype.itemsize
    assert TorchRunner(model, dtype=torch.bfloat16).model.output_weight.dtype == torch.bfloat16


def test_the_model_handed_in_stays_as_it_is() -> None:
    model = Decoder(tiny_decoder("llama").config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runner = TorchRunner(model)
    run_all(Engine(runner, EngineConfig(num_blocks=8)), [Request("a", (1, 2), _greedy(2))])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {name: value.tolist() for name, value in before.items()} == {
        name: value.tolist() for name, value in model.state_dict().items()
    }
    # What needs no packing is shared.
    assert runner.model.embedding is model.embedding


def test_bfloat16_answers() -> None:
    model = Decoder(tiny_decoder("llama").config)
    engine = Engine(TorchRunner(model, dtype=torch.bfloat16), EngineConfig(num_blocks=40))
    tokens = run_all(engine, [Request("a", _prompt(1, 70), _greedy(10))]).tokens["a"][0]
    assert len(tokens) == 10


def test_an_idle_pool_costs_no_memory() -> None:
    """Pages of the pool are mapped, not written: resident memory grows with use only."""
    before = _resident_bytes()
    engine = Engine(TorchRunner(tiny_decoder("llama")), EngineConfig(kv_cache_bytes=1 << 30))
    assert engine.stats().num_blocks * engine.runner.bytes_per_block(16) > 0.99 * 2**30
    assert _resident_bytes() - before < 1 << 28


def test_numbers_that_are_not_finite_fail_their_request_and_poison_nobody() -> None:
    model = Decoder(tiny_decoder("mistral").config)
    with torch.no_grad():
        model.embedding[7] = float("nan")
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=8, max_num_seqs=1))
    engine.add_request(Request("a", (7,) * 90, _greedy(4)))
    with pytest.raises(EngineError, match="not finite"):
        engine.step()
    assert not engine.has_unfinished
    prompt = (3, 1, 4, 1, 5)
    tokens = run_all(engine, [Request("b", prompt, _greedy(8))]).tokens["b"][0]
    assert tokens == naive_greedy(model, prompt, 8)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
