"""One step ahead of the host: the same tokens, steps launched before tokens are known, late ends dropped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, EngineError, Request, Sequence, TorchRunner
from cairn.engine import sampler as host
from cairn.engine.ahead import Ahead, Arrival
from cairn.engine.drawing import draw, parameters_of
from cairn.engine.runner import IntArray, ModelInput
from cairn.models import Decoder
from tests.engine.fake_runner import FakeRunner
from tests.engine.naive import Collector, check_accounts, run_all
from tests.engine.test_tiled_steps import _greedy, _prompt, needs_gpu
from tests.engine.tiny_decoders import naive_greedy, tiny_decoder

CONFIG = EngineConfig(num_blocks=60, max_num_seqs=16, lookup_tokens=0)
PARAMS = {
    "greedy": SamplingParams(temperature=0),
    "plain": SamplingParams(temperature=1.0),
    "cold": SamplingParams(temperature=0.3),
    "top k": SamplingParams(temperature=1.5, top_k=7),
    "top p": SamplingParams(temperature=1.0, top_p=0.6),
    "min p": SamplingParams(temperature=1.0, min_p=0.2),
    "all": SamplingParams(temperature=0.9, min_p=0.01, top_k=40, top_p=0.9),
    "one": SamplingParams(temperature=2.0, top_k=1),
    "tiny nucleus": SamplingParams(temperature=1.0, top_p=1e-9),
}


class _Runner(TorchRunner):
    """Counts what was launched, and what of it before the tokens of the last launch were looked at."""

    def __init__(self, model: Decoder) -> None:
        super().__init__(model, tiled=True)
        self.num_launched = self.num_ahead = self.num_under_way = 0

    def launch(self, model_input: ModelInput, seqs: list[Sequence], sources: IntArray) -> Arrival:
        arrive = super().launch(model_input, seqs, sources)
        self.num_launched += 1
        self.num_ahead += self.num_under_way > 0
        self.num_under_way += 1
        assert self.num_under_way <= 2

        def counted() -> IntArray:
            self.num_under_way -= 1
            return arrive()

        return counted


def _engine(config: EngineConfig = CONFIG) -> tuple[Engine, _Runner]:
    runner = _Runner(tiny_decoder("llama"))
    return Engine(runner, config), runner


def _seqs(sampling: SamplingParams, num: int) -> list[Sequence]:
    request = Request("r", (1, 2, 3), sampling)
    return [Sequence(request, index=i % 2, seed=i, arrival=0, max_len=100) for i in range(num)]


@pytest.mark.parametrize("sampling", PARAMS.values(), ids=PARAMS)
def test_the_device_draws_what_the_host_draws(sampling: SamplingParams) -> None:
    seqs = _seqs(sampling, 64)
    scores = np.random.default_rng(0).normal(0, 3, (64, 1000)).astype(np.float32)
    scores[3, 10:20] = scores[3].max() + 1  # ties at the top
    found = draw(torch.from_numpy(scores.copy()), parameters_of(seqs))
    assert found.tolist() == host.choose(scores, seqs).tolist()


def test_a_row_is_drawn_alone_as_among_others() -> None:
    seqs = [seq for sampling in PARAMS.values() for seq in _seqs(sampling, 3)]
    scores = torch.randn(len(seqs), 500, generator=torch.Generator().manual_seed(0)) * 3
    together = draw(scores, parameters_of(seqs)).tolist()
    assert together == [int(draw(scores[i : i + 1], parameters_of([seq]))) for i, seq in enumerate(seqs)]


def test_scores_that_are_not_finite_draw_nothing() -> None:
    scores = torch.zeros(4, 10)
    scores[1, 3], scores[2, 4] = float("nan"), float("inf")
    for name in ("greedy", "all"):
        found = draw(scores, parameters_of(_seqs(PARAMS[name], 4))) >= 0
        assert found.tolist() == [True, False, False, True]


def test_steps_are_launched_ahead_and_the_tokens_are_the_same() -> None:
    requests = [
        Request(f"r{i}", _prompt(i, 5 + i), replace(sampling, max_tokens=12 + i, seed=i))
        for i, sampling in enumerate(PARAMS.values())
    ]
    engine, runner = _engine()
    found = run_all(engine, requests)
    waiting, _ = _engine()
    waiting.ahead = Ahead(FakeRunner(), waiting.block_manager, waiting.speculation, CONFIG.block_size)
    expected = run_all(waiting, requests)
    assert found.tokens == expected.tokens
    assert found.reasons == expected.reasons
    assert engine.stats().num_generated_tokens == sum(12 + i for i in range(len(requests)))
    assert runner.num_launched > 12
    assert runner.num_ahead > runner.num_launched // 3
    assert engine.block_manager.num_used_blocks == 0


def test_an_end_that_is_found_late_shows_no_further_token() -> None:
    """A stop token is seen when the step after it is under way; its blocks are free, others go on."""
    prompt = _prompt(1, 5)
    reply = naive_greedy(tiny_decoder("llama"), prompt, 40)
    stop = next(i for i in range(5, 40) if reply[i] not in reply[:i])
    sampling = replace(_greedy(40), stop_token_ids=(reply[stop],))
    engine, runner = _engine()
    collector = Collector()
    engine.add_request(Request("stops", prompt, sampling))
    engine.add_request(Request("goes on", _prompt(2, 9), _greedy(60)))
    while engine.has_unfinished:
        collector.take(engine.step())
        check_accounts(engine)
    assert collector.tokens["stops"][0] == reply[: stop + 1]
    assert collector.reasons["stops"][0] == "stop"
    assert collector.tokens["goes on"][0] == naive_greedy(tiny_decoder("llama"), _prompt(2, 9), 60)
    # What it has read serves the next one that begins so.
    again = run_all(engine, [Request("again", prompt, _greedy(stop + 8))])
    assert again.tokens["again"][0] == naive_greedy(tiny_decoder("llama"), prompt, stop + 8)
    assert runner.num_ahead > 0


@pytest.mark.parametrize("num_blocks", [60, 9], ids=["roomy", "preempting"])
@pytest.mark.parametrize("seed", range(4))
def test_random_requests_that_end_at_any_token(seed: int, num_blocks: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = list(PARAMS.values())
    requests = [
        Request(
            f"r{i}",
            _prompt(int(rng.integers(3)), int(rng.integers(1, 40))),
            replace(
                kinds[int(rng.integers(len(kinds)))],
                max_tokens=int(rng.integers(1, 50)),
                stop_token_ids=tuple(rng.integers(0, 101, 6).tolist()),
                seed=i,
                n=int(rng.integers(1, 3)),
            ),
        )
        for i in range(12)
    ]
    config = CONFIG.model_copy(update={"num_blocks": num_blocks, "max_num_seqs": 6, "max_model_len": 100})
    engine, runner = _engine(config)
    waiting, _ = _engine(config)
    waiting.ahead = Ahead(FakeRunner(), waiting.block_manager, waiting.speculation, config.block_size)
    found, expected = Collector(), run_all(waiting, requests)
    for request in requests:
        engine.add_request(request)
    num_late = 0
    while engine.has_unfinished:
        under_way = [] if engine.ahead.flight is None else list(engine.ahead.flight.places)
        num_late += sum(seq.is_finished for seq in under_way)
        runner.num_under_way = min(runner.num_under_way, engine.ahead.flight is not None)
        found.take(engine.step())
        check_accounts(engine)
    assert found.tokens == expected.tokens
    assert found.reasons == expected.reasons
    assert runner.num_ahead > 0
    assert num_late > 0, "no end was found late"
    assert num_blocks > 9 or engine.stats().num_preemptions > 0


@pytest.mark.parametrize(
    "other",
    [
        SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logprobs=1),
        SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, repetition_penalty=1.2),
        SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logit_bias={1: 2.0}),
    ],
    ids=["logprobs", "penalty", "bias"],
)
def test_what_needs_the_host_is_not_launched(other: SamplingParams) -> None:
    engine, runner = _engine()
    tokens = run_all(engine, [Request("a", _prompt(1, 5), _greedy(20)), Request("b", _prompt(2, 5), other)])
    assert runner.num_launched == 0
    assert tokens.tokens["a"][0] == naive_greedy(tiny_decoder("llama"), _prompt(1, 5), 20)


def test_guessing_comes_first() -> None:
    """With look-up on, steps are launched only while it rests."""
    engine, runner = _engine(CONFIG.model_copy(update={"lookup_tokens": 16}))
    prompt = (7, 8, 9) * 6
    tokens = run_all(engine, [Request("a", prompt, _greedy(60))]).tokens["a"][0]
    assert tokens == naive_greedy(tiny_decoder("llama"), prompt, 60)
    assert engine.stats().num_steps >= runner.num_launched


def test_aborted_under_way() -> None:
    engine, runner = _engine()
    engine.add_request(Request("a", _prompt(1, 5), _greedy(40)))
    engine.add_request(Request("b", _prompt(2, 5), _greedy(30)))
    collector = Collector()
    for _ in range(6):
        collector.take(engine.step())
    assert runner.num_under_way == 1
    engine.abort("a")
    while engine.has_unfinished:
        outputs = engine.step()
        assert all(output.request_id == "b" for output in outputs)
        collector.take(outputs)
    assert collector.tokens["b"][0] == naive_greedy(tiny_decoder("llama"), _prompt(2, 5), 30)
    assert engine.block_manager.num_used_blocks == 0


def test_a_failed_launch_takes_its_requests_and_nobody_else() -> None:
    engine, runner = _engine()
    engine.add_request(Request("a", _prompt(1, 5), _greedy(40)))
    for _ in range(5):
        engine.step()
    assert engine.ahead.flight is not None
    flight = replace(engine.ahead.flight, arrive=lambda: np.array([-1]))
    engine.ahead.flight = flight
    with pytest.raises(EngineError, match="not finite") as failure:
        engine.step()
    assert failure.value.request_ids == ("a",)
    assert not engine.has_unfinished
    assert engine.block_manager.num_used_blocks == 0
    runner.num_under_way = 0  # nobody waits for what was dropped
    tokens = run_all(engine, [Request("b", _prompt(2, 5), _greedy(9))]).tokens["b"][0]
    assert tokens == naive_greedy(tiny_decoder("llama"), _prompt(2, 5), 9)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_steps_ahead_bring_the_same_tokens() -> None:
    model = Decoder(tiny_decoder("llama").config)
    model.load_state_dict(tiny_decoder("llama").state_dict())
    requests = [
        Request(f"r{i}", _prompt(i, 5 + i), replace(sampling, max_tokens=40, seed=i))
        for i, sampling in enumerate(PARAMS.values())
    ]
    tokens = []
    for is_ahead in (True, False):
        engine = Engine(TorchRunner(model.cuda()), CONFIG)
        if not is_ahead:
            engine.ahead = Ahead(FakeRunner(), engine.block_manager, engine.speculation, CONFIG.block_size)
        tokens.append(run_all(engine, requests).tokens)
    assert tokens[0] == tokens[1]
