"""Draft models of every quality: the same tokens in fewer steps, and books in step with the target's."""

import json
from collections.abc import Sequence as Tokens
from typing import Any

import pytest

from cairn.core import UnsupportedModelError
from cairn.core.chat import SamplingParams
from cairn.core.grammar import Grammar
from cairn.engine import (
    Engine,
    EngineConfig,
    EngineError,
    FailedOutput,
    GrammarCompiler,
    ModelRunner,
    NativeRunner,
    Request,
    StepOutput,
    TokenOutput,
    TorchRunner,
)
from cairn.engine.constraint import Bits
from cairn.engine.fair_queue import READ_COST
from tests.engine.fake_runner import FakeRunner
from tests.engine.naive import check_accounts, naive_generate, run_all
from tests.engine.native_tiny import checkpoint, needs_native
from tests.engine.speculating import UnsureRunner, num_guessed, speculating
from tests.engine.test_constraint import CITY, PROMPT
from tests.engine.tiny_decoders import tiny_decoder
from tests.engine.tiny_vocabulary import END, encode, text_of, tiny_compiler

RUNNERS = ["torch", pytest.param("native", marks=needs_native)]
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
DRAWN = SamplingParams(temperature=1, top_p=0.9, seed=3, max_tokens=40, repetition_penalty=1.1)
NO_LOOKUP: dict[str, Any] = {"lookup_tokens": 0, "block_size": 4, "num_blocks": 40}


def network(kind: str, family: str = "llama") -> ModelRunner:
    if kind == "torch":
        return TorchRunner(tiny_decoder(family))
    return NativeRunner(checkpoint(tiny_decoder(family)), weights="int8", num_threads=1, pin=False)


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_draft_model_changes_no_token(kind: str, sampling: SamplingParams, family: str) -> None:
    """The target itself as draft guesses all; another network few. Tokens are the same."""
    requests = [Request(f"r{i}", tuple(range(i, i + 3 + 5 * i)), sampling) for i in range(3)]
    plain = run_all(Engine(network(kind, family), EngineConfig(**NO_LOOKUP)), requests)
    engine = speculating(network(kind, family), EngineConfig(**NO_LOOKUP), draft=network(kind, family))
    assert run_all(engine, requests).tokens == plain.tokens
    num_drafted, num_accepted = num_guessed(engine)
    assert num_drafted == num_accepted > 60
    assert engine.stats().num_steps < 20
    other = speculating(network(kind, family), EngineConfig(**NO_LOOKUP), draft=network("torch", "gemma2"))
    assert run_all(other, requests).tokens == plain.tokens
    num_drafted, num_accepted = num_guessed(other)
    assert num_accepted < num_drafted / 2


def test_a_draft_that_is_always_wrong_is_hardly_asked() -> None:
    request = Request("a", (1, 2, 3), SamplingParams(temperature=0, max_tokens=60, ignore_eos=True))
    engine = speculating(FakeRunner(), EngineConfig(**NO_LOOKUP), draft=UnsureRunner(misses=1))
    tokens = run_all(engine, [request]).tokens["a"]
    assert tokens == naive_generate(request, 64)[0]
    num_drafted, num_accepted = num_guessed(engine)
    assert num_accepted == 0
    assert 4 <= num_drafted < 20
    assert engine.stats().num_steps == 60


def test_the_next_request_profits_from_what_was_learnt() -> None:
    """A draft that failed others begins by resting."""
    engine = speculating(FakeRunner(), EngineConfig(**NO_LOOKUP, prefix_cache=False), draft=UnsureRunner(1))
    sampling = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    drafted = []
    for i in range(60):
        run_all(engine, [Request(f"r{i}", (1, 2, i % 11), sampling)])
        drafted.append(num_guessed(engine)[0])
    assert drafted[0] > 4
    assert drafted[-1] - drafted[-2] < drafted[0] / 2


def test_guesses_count_for_the_tenant_whose_text_they_would_have_been() -> None:
    """Two are given the same but for the guesses of one, some of them wrong: its next prompt comes second."""
    config = EngineConfig(block_size=4, num_blocks=200, token_budget=16, max_num_seqs=2, prefix_cache=False)
    engine = speculating(FakeRunner(), config)
    drawn = SamplingParams(seed=3, max_tokens=40, ignore_eos=True, logit_bias={1: 50.0, 2: 50.0})
    engine.add_request(Request("w", tuple(range(8)), drawn, tenant="wild"))
    engine.add_request(Request("c", tuple(range(8)), GREEDY, tenant="calm"))
    # What nobody waits for is not counted.
    engine.add_request(Request("calm", tuple(i % 11 for i in range(14)), GREEDY, tenant="calm"))
    for _ in range(12):
        engine.step()
    num_drafted, num_accepted = num_guessed(engine)
    assert 0 < num_accepted < num_drafted - 4
    lines = engine.scheduler.queue.lines
    assert lines["wild"].counter - lines["calm"].counter == READ_COST * num_drafted
    computed = {each.tenant: each.num_computed_tokens for each in engine.stats().tenants}
    assert computed["wild"] - computed["calm"] == num_drafted
    engine.add_request(Request("wild", tuple(i % 11 for i in range(14)), GREEDY, tenant="wild"))
    engine.scheduler.max_num_seqs = 3
    engine.step()
    (first,) = (seq for seq in engine.scheduler.running if seq.request.request_id in lines)
    assert first.request.tenant == "calm"


@pytest.mark.parametrize(("num_seqs", "is_worth_it"), [(1, True), (12, False)])
def test_a_large_batch_does_not_guess(num_seqs: int, is_worth_it: bool) -> None:
    """Where a step's tokens cost as much as its weights, one guess in two is no longer enough."""
    engine = speculating(
        FakeRunner(), EngineConfig(**NO_LOOKUP | {"num_blocks": 300}), draft=UnsureRunner(3), fixed=2.0
    )
    requests = [
        Request(f"r{i}", (i % 11, 1, 2), SamplingParams(max_tokens=50, seed=i)) for i in range(num_seqs)
    ]
    run_all(engine, requests)
    stats = engine.stats()
    share = num_guessed(engine)[0] / stats.num_generated_tokens
    assert share > 0.4 if is_worth_it else share < 0.15


def test_it_reads_a_long_prompt_in_parts_and_a_shared_one_once() -> None:
    config = EngineConfig(lookup_tokens=0, block_size=4, num_blocks=80, max_num_seqs=4, token_budget=12)
    draft = FakeRunner()
    engine = speculating(FakeRunner(), config, draft=draft)
    prompt = tuple((5 * i + i * i) % 11 for i in range(40))
    sampling = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    run_all(engine, [Request("a", prompt, sampling)])
    assert all(step.num_tokens <= 12 for step in draft.steps)
    assert num_guessed(engine)[0] == num_guessed(engine)[1] > 4
    before = len(draft.steps)
    run_all(engine, [Request("b", prompt, sampling)])
    assert sum(span.stop - span.start for step in draft.steps[before:] for span in step.prompt_spans) <= 4


def test_after_a_failed_step_it_starts_anew() -> None:
    config = EngineConfig(**NO_LOOKUP)
    runner, draft = FakeRunner(), FakeRunner()
    engine = speculating(runner, config, draft=draft)
    request = Request("a", (1, 2, 3, 4, 5, 6), GREEDY)
    for broken in (runner, draft):
        engine.add_request(request)
        for _ in range(3):
            engine.step()
        broken.fail_next = 1
        with pytest.raises(EngineError):
            engine.step()
        assert not engine.has_unfinished
    assert run_all(engine, [request]).tokens["a"] == naive_generate(request, engine.max_model_len)[0]
    num_drafted, num_accepted = num_guessed(engine)
    assert num_accepted >= num_drafted - 16


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="the draft model has 101 tokens, the model 11"):
        Engine(FakeRunner(), EngineConfig(num_blocks=8), draft=TorchRunner(tiny_decoder("llama")))


def test_the_pool_counts_both_caches() -> None:
    config = EngineConfig(kv_cache_bytes=1 << 16, block_size=4)
    alone = Engine(FakeRunner(), config)
    both = Engine(FakeRunner(), config, draft=FakeRunner())
    assert len(both.block_manager.blocks) == len(alone.block_manager.blocks) // 2


GRAMMARS = [
    Grammar("json_schema", json.dumps(CITY)),
    Grammar("regex", "(the |ab)+(true|false)[0-9]{3}"),
    Grammar("choice", json.dumps(["abcabcabc", "abcabd", "the é"])),
    Grammar("json_object"),
]


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.kind)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_under_a_grammar_change_nothing(kind: str, grammar: Grammar, temperature: float) -> None:
    """Tokens, log-probabilities and ends, whoever guesses; and what the grammar forces is guessed."""
    params = SamplingParams(temperature=temperature, seed=5, max_tokens=60, grammar=grammar, logprobs=2, n=2)
    requests = [
        Request("a", PROMPT, params, eos_token_ids=(END,)),
        Request("free", (1, 2, 3) * 3, DRAWN, eos_token_ids=(END,)),
    ]
    config: dict[str, Any] = {"block_size": 4, "num_blocks": 200, "max_model_len": 120}

    def outputs(engine: Engine) -> dict[tuple[str, int], list[Any]]:
        found: dict[tuple[str, int], list[Any]] = {}
        for request in requests:
            engine.add_request(request)
        while engine.has_unfinished:
            for output in engine.step():
                found.setdefault((output.request_id, getattr(output, "index", 0)), []).append(output)
        return found

    plain = unguessing(network(kind), config, tiny_compiler())
    expected = outputs(plain)
    assert num_guessed(plain) == (0, 0)
    for draft in (None, network(kind), network("torch", "gemma2")):
        engine = speculating(
            network(kind), EngineConfig(**config), draft=draft, grammars=tiny_compiler(), fixed=60.0
        )
        assert outputs(engine) == expected
        if grammar.kind == "json_schema":
            assert engine.stats().num_drafted_tokens["grammar"] > 0
        assert engine.stats().num_steps <= plain.stats().num_steps


_CYCLE = [encode(letter)[0] for letter in "abcde"]


class _Tiring:
    """A matcher of `abcdeabcde…` that promises too much: after sixteen tokens nothing follows."""

    is_accepting = is_complete = False
    problem = "too tired"

    def __init__(self, num: int = 0) -> None:
        self.num = num

    def compile(self, grammar: Grammar) -> "_Tiring":
        return _Tiring()

    def fill(self, bits: Bits) -> None:
        bits[:] = 0
        if self.num < 16:
            bits[0] = 1 << _CYCLE[self.num % 5]

    def advance(self, token_id: int) -> None:
        self.num += 1

    def fork(self) -> "_Tiring":
        return _Tiring(self.num)

    def forced(self) -> list[int]:
        return []

    def num_allowed(self, token_ids: Tokens[int]) -> int:
        return len(token_ids)


DEAD_ENDS = [
    pytest.param(
        'start: "cdefghijklmnopqr" x\nx: x', tiny_compiler(), "cdefghijklmnopqr", "grammar", id="forced"
    ),
    pytest.param("start: /[az]{16}/ x\nx: x", tiny_compiler(), "a" * 16, "model", id="draft model"),
    pytest.param("start: WORD", _Tiring(), "abcde" * 3 + "a", "lookup", id="guesses go beyond it"),
]


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize(("text", "compiler", "written", "drafter"), DEAD_ENDS)
def test_a_dead_end_among_guesses_fails_its_request_alone(
    kind: str, text: str, compiler: GrammarCompiler, written: str, drafter: str
) -> None:
    """All that is right is told, and the same as without guesses; the request beside it goes on."""
    params = SamplingParams(
        temperature=0,
        logit_bias={encode("a")[0]: 100.0},
        grammar=Grammar("ebnf", text),
        max_tokens=40,
        logprobs=1,
    )
    requests = [Request("dead", PROMPT, params, eos_token_ids=(END,)), Request("free", (1, 2, 3) * 3, DRAWN)]
    config: dict[str, Any] = {"block_size": 4, "num_blocks": 60, "max_model_len": 80}

    def told(engine: Engine) -> tuple[dict[str, list[StepOutput]], int]:
        """Every request's outputs, and the most that a step had for the one that ends."""
        outputs: dict[str, list[StepOutput]] = {request.request_id: [] for request in requests}
        most = 0
        for request in requests:
            engine.add_request(request)
        while engine.has_unfinished:
            step = engine.step()
            check_accounts(engine)
            most = max(most, sum(output.request_id == "dead" for output in step))
            for output in step:
                outputs[output.request_id].append(output)
        assert engine.block_manager.num_used_blocks == 0
        return outputs, most

    plain, most = told(unguessing(network(kind), config, compiler))
    assert most == 1
    draft = network(kind) if drafter == "model" else None
    engine = speculating(network(kind), EngineConfig(**config), draft=draft, grammars=compiler, fixed=600.0)
    outputs, most = told(engine)
    assert most > 2
    assert engine.stats().num_accepted_tokens[drafter] > 3
    *tokens, failure = outputs["dead"]
    assert text_of([each.token_id or 0 for each in tokens if isinstance(each, TokenOutput)]) == written
    assert isinstance(failure, FailedOutput)
    assert "after 16 tokens nothing" in failure.error.message
    assert len(outputs["free"]) == 40
    assert shown(outputs) == shown(plain)


def shown(outputs: dict[str, list[StepOutput]]) -> dict[str, list[str]]:
    """In a form that compares errors by what they say."""
    return {request_id: [repr(each) for each in found] for request_id, found in outputs.items()}


def unguessing(runner: ModelRunner, config: dict[str, Any], grammars: GrammarCompiler) -> Engine:
    """An engine that does not even guess what a grammar forces."""
    engine = Engine(runner, EngineConfig(**config, lookup_tokens=0), grammars=grammars)
    engine.speculation._pace = lambda seq, drafter: _Idle()  # type: ignore[method-assign,assignment,return-value]
    return engine


class _Idle:
    """Never guesses."""

    is_resting = True
    chance = 0.0

    def length(self, price: float) -> int:
        return 0
