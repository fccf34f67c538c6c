"""The runner as a GPU computes: tiles of rows, prompts and decode tokens apart, static decode steps.

Everything runs on a CPU but the recording of graphs, for which these tests stand in with a plain call; what
is marked `gpu` runs the real one.
"""

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request, TorchRunner
from cairn.engine.rounded_weights import RoundedFormat
from cairn.engine.row_tiles import DECODE_ROWS, by_tiles, product_of
from cairn.engine.static_decode import padded_size
from cairn.models import Decoder
from tests.engine.naive import run_all
from tests.engine.test_torch_runner import CONFIGS
from tests.engine.tiny_decoders import FAMILIES, VOCAB, RecordingRunner, naive_greedy, tiny_decoder

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
Work = Callable[[], None]


def _prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCAB, length).tolist())


def _greedy(num: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=num, ignore_eos=True)


def _requests() -> list[Request]:
    """Sampled and greedy ones of many lengths, some with a common beginning, some with two choices."""
    shared = _prompt(0, 80)
    prompts = [shared, shared[:64], _prompt(9, 3), (*shared[:50], 7, 7), _prompt(8, 100), _prompt(7, 1)]
    return [
        Request(f"r{i}", prompt, SamplingParams(seed=i, max_tokens=14, n=1 + i % 2))
        for i, prompt in enumerate(prompts)
    ]


def _scores(runner: RecordingRunner) -> dict[tuple[str, int, int], np.ndarray]:
    return {key: np.frombuffer(bits, np.float32) for key, bits in runner.bits.items()}


@pytest.mark.parametrize("num", [1, 3, 63, 64, 65, 200])
def test_a_row_of_a_tiled_product_keeps_its_bits(num: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=generator) for size in ((200, 48), (90, 48), (90,)))
    product = product_of(weight, bias)
    rows = by_tiles(product, x[:num])
    torch.testing.assert_close(rows, F.linear(x[:num], weight, bias))
    assert torch.equal(rows, by_tiles(product, x)[:num])
    # Whatever else is in the tile.
    others = torch.cat([x[:1], torch.randn(DECODE_ROWS - 1, 48, generator=generator)])
    assert torch.equal(by_tiles(product, others)[0], rows[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_present_path(family: str) -> None:
    model = tiny_decoder(family)
    config = EngineConfig(num_blocks=60, max_num_seqs=16, token_budget=40)
    plain, tiled = RecordingRunner(model), RecordingRunner(model, tiled=True)
    expected, found = (run_all(Engine(runner, config), _requests()) for runner in (plain, tiled))
    assert found.tokens == expected.tokens
    ours, theirs = _scores(tiled), _scores(plain)
    assert ours.keys() == theirs.keys()
    for key, scores in ours.items():
        np.testing.assert_allclose(scores, theirs[key], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "mixtral"])
def test_bits_do_not_depend_on_batch_chunks_cache_or_preemption(family: str) -> None:
    model = tiny_decoder(family)
    alone: dict[tuple[str, int, int], bytes] = {}
    for request in _requests():
        runner = RecordingRunner(model, tiled=True)
        run_all(Engine(runner, EngineConfig(num_blocks=200)), [request])
        alone |= runner.bits
    for name, config in CONFIGS.items():
        runner = RecordingRunner(model, tiled=True)
        engine = Engine(runner, config)
        run_all(engine, _requests())
        assert runner.bits == alone, name
        if name == "preempting":
            runner.bits.clear()
            run_all(engine, _requests()[::-1])  # now from the prefix cache
            assert runner.bits == alone, "cached"


class _Recorder:
    """Stands in for a GPU's: what was captured is run again by calling it."""

    def __init__(self, *, works: bool = True) -> None:
        self.works, self.num_captured, self.num_replayed = works, 0, 0

    def __call__(self, work: Work) -> Work:
        self.num_captured += 1
        if not self.works:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> None:
            self.num_replayed += 1
            work()

        return replay


def _recorded(monkeypatch: pytest.MonkeyPatch, recorder: _Recorder) -> Engine:
    runner = TorchRunner(tiny_decoder("llama"), tiled=True)
    engine = Engine(runner, EngineConfig(num_blocks=60, max_num_seqs=16, lookup_tokens=0))
    assert runner._steps is not None
    monkeypatch.setattr(runner._steps._static, "_capture", recorder)
    return engine


def test_a_step_of_a_size_is_recorded_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = _Recorder()
    engine = _recorded(monkeypatch, recorder)
    requests = [Request(f"r{i}", _prompt(i, 5), _greedy(10 + 3 * i)) for i in range(6)]
    tokens = run_all(engine, requests).tokens
    for request in requests:
        num = request.sampling.max_tokens or 0
        assert tokens[request.request_id][0] == naive_greedy(
            tiny_decoder("llama"), request.prompt_token_ids, num
        )
    # Six sequences, then five .. one of them: rows for 8, 4, 2 and 1.
    assert recorder.num_captured == 4
    assert recorder.num_replayed == engine.stats().num_steps - 1 - 4


def test_what_cannot_be_recorded_goes_on_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = _Recorder(works=False)
    engine = _recorded(monkeypatch, recorder)
    with caplog.at_level(logging.WARNING):
        requests = [Request(f"r{i}", _prompt(i, 5), _greedy(8)) for i in range(3)]
        tokens = run_all(engine, [*requests, Request("long", _prompt(9, 5), _greedy(12))]).tokens
    assert tokens["long"][0] == naive_greedy(tiny_decoder("llama"), _prompt(9, 5), 12)
    assert recorder.num_captured == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not recorded" in message
    assert "stream is capturing" in message


def test_more_rows_than_a_step_has_are_computed_in_several() -> None:
    runner = TorchRunner(tiny_decoder("llama"), tiled=True)
    engine = Engine(runner, EngineConfig(num_blocks=200, max_num_seqs=140))
    requests = [Request(f"r{i}", _prompt(i, 3), _greedy(3)) for i in range(140)]
    tokens = run_all(engine, requests).tokens
    for i in (0, 77, 127, 128, 139):
        assert tokens[f"r{i}"][0] == naive_greedy(tiny_decoder("llama"), _prompt(i, 3), 3)


class _Watch(TorchDispatchMode):
    """Notes what a recorded step must not have: operations that wait for a number, or carry one over."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [each for each in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(each)]
        # What is not on the device would have to be copied there, but for single numbers.
        is_mixed = any(each.device.type == "cpu" and each.dim() for each in tensors)
        if is_mixed or func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("weights", [None, "fp8", "int4"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_a_recorded_step_asks_nothing_of_the_host(
    family: str, weights: RoundedFormat | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step on the device of shapes without numbers, the kernel of attention left out."""
    with torch.device("meta"):
        model = Decoder(tiny_decoder(family).config)
    runner = TorchRunner(model, weights=weights)
    runner.allocate_kv_cache(8, 16)
    assert runner._steps is not None
    monkeypatch.setattr(runner._steps._attention, "_attend", lambda out, *inputs: out.zero_())
    static = runner._steps._static
    with torch.inference_mode():
        static._step(8)  # what is made once and kept
        with _Watch() as watch:
            static._step(8)
    assert watch.found == []


def test_a_closed_runner_frees_its_memory_at_once() -> None:
    runner = TorchRunner(tiny_decoder("llama"), tiled=True)
    run_all(Engine(runner, EngineConfig(num_blocks=20)), [Request("a", _prompt(1, 5), _greedy(5))])
    assert runner._steps is not None
    kept: list[weakref.ref[object]] = [
        weakref.ref(each) for each in (runner.model, runner._steps, runner._steps._attention.cache)
    ]
    gc.disable()
    try:
        runner.close()
        assert [each() for each in kept] == [None] * 3
    finally:
        gc.enable()


def test_sizes_of_steps() -> None:
    assert [padded_size(num) for num in (1, 2, 3, 4, 5, 8, 9, 24, 25, 128)] == [
        1, 2, 4, 4, 8, 8, 16, 24, 32, 128,
    ]  # fmt: skip


def _on_gpu(family: str, dtype: torch.dtype) -> Decoder:
    model = Decoder(tiny_decoder(family).config)
    model.load_state_dict(tiny_decoder(family).state_dict())
    return model.to("cuda", dtype)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_logits_equal_the_cpu(family: str) -> None:
    config = EngineConfig(num_blocks=60, max_num_seqs=16, token_budget=40)
    runners = RecordingRunner(tiny_decoder(family)), RecordingRunner(_on_gpu(family, torch.float32))
    expected, found = (run_all(Engine(runner, config), _requests()) for runner in runners)
    assert found.tokens == expected.tokens
    theirs, ours = (_scores(runner) for runner in runners)
    for key, scores in ours.items():
        np.testing.assert_allclose(scores, theirs[key], rtol=0, atol=1e-3)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_bits_do_not_depend_on_the_batch(family: str, dtype: torch.dtype) -> None:
    model = _on_gpu(family, dtype)
    alone: dict[tuple[str, int, int], bytes] = {}
    for request in _requests():
        runner = RecordingRunner(model)
        run_all(Engine(runner, EngineConfig(num_blocks=200)), [request])
        alone |= runner.bits
    for name, config in CONFIGS.items():
        runner = RecordingRunner(model)
        run_all(Engine(runner, config), _requests())
        assert runner.bits == alone, name


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_decode_steps_are_recorded(caplog: pytest.LogCaptureFixture) -> None:
    runner = TorchRunner(_on_gpu("llama", torch.bfloat16))
    engine = Engine(runner, EngineConfig(num_blocks=60, max_num_seqs=16, lookup_tokens=0))
    with caplog.at_level(logging.INFO):
        run_all(engine, [Request(f"r{i}", _prompt(i, 5), _greedy(10)) for i in range(3)])
    messages = [record.getMessage() for record in caplog.records if "graph" in record.getMessage()]
    assert messages == ["recorded a graph of a decode step, 1 so far"]
