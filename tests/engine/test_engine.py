import numpy as np
import pytest

from cairn.core import InvalidRequestError
from cairn.core.chat import SamplingParams
from cairn.core.config import parse_config
from cairn.core.errors import ConfigError, ContextLengthError
from cairn.engine import Engine, EngineConfig, EngineError, PromptOutput, Request, TokenOutput
from tests.engine.fake_runner import MAX_POSITION, FakeRunner, naive_logits
from tests.engine.naive import check_accounts, naive_generate, run_all

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def _engine(**config: object) -> Engine:
    defaults: dict[str, object] = {"block_size": 4, "num_blocks": 40}
    return Engine(FakeRunner(), EngineConfig(**{**defaults, **config}))


def _steps(engine: Engine, num: int) -> list[object]:
    return [output for _ in range(num) for output in engine.step()]


def test_a_full_hit_still_answers() -> None:
    engine = _engine()
    prompt = tuple(range(8))  # two blocks exactly
    first = run_all(engine, [Request("a", prompt, GREEDY)])
    second = run_all(engine, [Request("b", prompt, GREEDY)])
    assert first.tokens["a"] == second.tokens["b"] == naive_generate(Request("", prompt, GREEDY), 99)[0]
    assert engine.stats().num_cached_tokens == 7


def test_choices_share_the_blocks_of_their_prompt() -> None:
    engine = _engine()
    request = Request("a", tuple(range(11)), SamplingParams(max_tokens=6, seed=1, n=4))
    engine.add_request(request)
    _steps(engine, 3)
    tables = [seq.block_table for seq in engine.scheduler.running]
    assert len(tables) == 4
    assert len({tuple(table[:2]) for table in tables}) == 1
    collector = run_all(engine, [])
    assert engine.block_manager.num_used_blocks == 0
    assert len(collector.reasons["a"]) == 4


def test_choices_differ_and_repeat_with_the_seed() -> None:
    request = Request("a", (1, 2, 3), SamplingParams(max_tokens=12, seed=1, n=3))
    one, two = (run_all(_engine(), [request]).tokens["a"] for _ in range(2))
    assert one == two
    assert len({tuple(tokens) for tokens in one.values()}) == 3


def test_preempted_requests_come_back_to_their_cached_blocks() -> None:
    engine = _engine(num_blocks=8, max_num_seqs=4)
    requests = [
        Request(f"r{i}", (i, i + 1, i + 2), SamplingParams(temperature=0, max_tokens=20)) for i in range(4)
    ]
    collector = run_all(engine, requests)
    assert engine.stats().num_preemptions > 0
    for request in requests:
        assert collector.tokens[request.request_id] == naive_generate(request, 32)[0]


@pytest.mark.parametrize(
    ("sampling", "reason", "num_tokens"),
    [
        (SamplingParams(temperature=0, max_tokens=3, ignore_eos=True), "length", 3),
        (SamplingParams(temperature=0, logit_bias={5: 100}), "stop", 1),
        (SamplingParams(temperature=0, logit_bias={5: 100}, ignore_eos=True, max_tokens=4), "length", 4),
        (SamplingParams(temperature=0, logit_bias={7: 100}, stop_token_ids=(7,)), "stop", 1),
        (SamplingParams(temperature=0, logit_bias={7: 100}), "length", MAX_POSITION - 2),
        (SamplingParams(temperature=0, logit_bias={7: 100}, max_tokens=999), "length", MAX_POSITION - 2),
    ],
)
def test_finish_reasons(sampling: SamplingParams, reason: str, num_tokens: int) -> None:
    engine = _engine()
    engine.add_request(Request("a", (1, 2), sampling, eos_token_ids=(5,)))
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step()
    last = outputs[-1]
    assert isinstance(last, TokenOutput)
    assert (last.finish_reason, len(outputs)) == (reason, num_tokens)
    assert last.stop_token_id == (last.token_id if reason == "stop" else None)


def test_prompt_logprobs_come_first_and_are_exact() -> None:
    prompt = (3, 1, 4, 1, 5, 9, 2, 6)
    engine = _engine(token_budget=16, max_num_seqs=2)
    run_all(engine, [Request("warm", prompt, GREEDY)])  # a cached prefix must not hide logits
    engine.add_request(Request("a", prompt, SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=1)))
    first, *rest = [output for _ in range(2) for output in engine.step()]
    assert isinstance(first, PromptOutput)
    assert [entry.token_id for entry in first.logprobs] == list(prompt)
    assert first.logprobs[0].logprob is None
    for i, entry in enumerate(first.logprobs[1:], 1):
        scores = naive_logits(list(prompt[:i])).astype(np.float64)
        logprobs = scores - np.log(np.exp(scores).sum())
        assert entry.logprob == pytest.approx(logprobs[prompt[i]], abs=1e-5)
        assert entry.top_logprobs[0][0] == int(logprobs.argmax())
    assert [output.finish_reason for output in rest if isinstance(output, TokenOutput)] == [None, "length"]


@pytest.mark.parametrize("token_budget", [2, 5, 64])
def test_scoring_only(token_budget: int) -> None:
    engine = _engine(token_budget=token_budget, max_num_seqs=2)
    sampling = SamplingParams(max_tokens=0, prompt_logprobs=0, n=2)
    outputs = []
    engine.add_request(Request("a", tuple(range(9)), sampling))
    while engine.has_unfinished:
        outputs += engine.step()
    assert isinstance(outputs[0], PromptOutput)
    assert len(outputs[0].logprobs) == 9
    ends = [output for output in outputs[1:] if isinstance(output, TokenOutput)]
    assert [(end.index, end.token_id, end.finish_reason) for end in ends] == [
        (0, None, "length"),
        (1, None, "length"),
    ]
    check_accounts(engine)
    assert engine.block_manager.num_used_blocks == 0


def test_nothing_asked_for_is_nothing_computed() -> None:
    engine = _engine()
    engine.add_request(Request("a", (1, 2), SamplingParams(max_tokens=0)))
    (end,) = engine.step()
    assert isinstance(end, TokenOutput)
    assert (end.token_id, end.finish_reason) == (None, "length")
    assert engine.stats().num_steps == 0
    assert not engine.has_unfinished


def test_empty_prompt() -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        _engine().add_request(Request("a", ()))


@pytest.mark.parametrize("token_id", [-1, 11])
def test_token_ids_that_do_not_exist(token_id: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"{token_id} in prompt, allowed: 0 to 10"):
        _engine().add_request(Request("a", (1, token_id)))
    biased = SamplingParams(logit_bias={11: 1.0})
    with pytest.raises(InvalidRequestError, match="logit_bias"):
        _engine().add_request(Request("a", (1,), biased))


def test_prompt_beyond_the_context() -> None:
    with pytest.raises(ContextLengthError, match="has 64 tokens, the context is 64") as error:
        _engine().add_request(Request("a", (1,) * 64, GREEDY))
    assert "shorten" in error.value.remedy
    # Scoring needs no place for a next token.
    _engine().add_request(Request("a", (1,) * 64, SamplingParams(max_tokens=0, prompt_logprobs=0)))


def test_prompt_that_the_pool_can_never_hold() -> None:
    engine = _engine(num_blocks=3)
    with pytest.raises(ContextLengthError, match="the KV pool holds 12") as error:
        engine.add_request(Request("a", (1,) * 12, GREEDY))
    assert "kv_cache_bytes" in error.value.remedy
    # The longest that fits runs to the pool's end, alone.
    tokens = run_all(engine, [Request("a", (1,) * 11, GREEDY)]).tokens["a"]
    assert len(tokens[0]) == 1


def test_configured_context_is_shorter_than_the_model() -> None:
    with pytest.raises(ContextLengthError, match="the context is 10"):
        _engine(max_model_len=10).add_request(Request("a", (1,) * 10, GREEDY))


def test_aborting_what_is_not_there() -> None:
    engine = _engine()
    assert not engine.abort("nobody")
    engine.add_request(Request("a", (1, 2), GREEDY))
    assert engine.abort("a")
    assert not engine.abort("a")
    assert not engine.has_unfinished


def test_abort_in_the_middle_of_a_prefill_leaves_the_others_alone() -> None:
    engine = _engine(token_budget=8, max_num_seqs=2)
    other = Request("b", (1, 2, 3), GREEDY)
    engine.add_request(Request("a", tuple(i % 11 for i in range(30)), GREEDY))
    engine.add_request(other)
    engine.step()
    assert engine.abort("a")
    check_accounts(engine)
    assert run_all(engine, []).tokens == {"b": naive_generate(other, 99)[0]}
    assert engine.block_manager.num_used_blocks == 0


def test_the_same_id_twice() -> None:
    engine = _engine()
    engine.add_request(Request("a", (1,), GREEDY))
    with pytest.raises(InvalidRequestError, match="already running"):
        engine.add_request(Request("a", (1,), GREEDY))


def test_a_failed_step_takes_only_its_own_requests() -> None:
    engine = _engine(max_num_seqs=1)
    runner = engine.runner
    assert isinstance(runner, FakeRunner)
    waiting = Request("b", (4, 5), GREEDY)
    engine.add_request(Request("a", (1, 2, 3), GREEDY))
    engine.add_request(waiting)
    runner.fail_next = 1
    with pytest.raises(EngineError, match="on fire") as error:
        engine.step()
    assert error.value.request_ids == ("a",)
    check_accounts(engine)
    assert run_all(engine, []).tokens == {"b": naive_generate(waiting, 99)[0]}


def test_the_pool_is_sized_by_bytes_and_by_need() -> None:
    def num_blocks(**config: int) -> int:
        return Engine(FakeRunner(), EngineConfig(**config)).stats().num_blocks

    assert num_blocks(kv_cache_bytes=8 * 16 * 5) == 5
    assert num_blocks(max_num_seqs=3) == 3 * MAX_POSITION // 16
    # Half of the runner's free megabyte.
    assert num_blocks(max_num_seqs=4096, token_budget=4096) == (1 << 20) // 2 // (8 * 16)


def test_a_budget_below_the_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="token_budget 4 is below max_num_seqs 8"):
        parse_config(EngineConfig, {"token_budget": 4, "max_num_seqs": 8}, source="test")
