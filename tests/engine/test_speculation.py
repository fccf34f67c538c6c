"""Draft models of every quality: the same tokens in fewer steps, and books in step with the target's."""

import json
from typing import Any

import pytest

from cairn.core import UnsupportedModelError
from cairn.core.chat import SamplingParams
from cairn.core.grammar import Grammar
from cairn.engine import (
    Engine,
    EngineConfig,
    EngineError,
    ModelRunner,
    NativeRunner,
    Request,
    TorchRunner,
)
from tests.engine.fake_runner import FakeRunner
from tests.engine.naive import naive_generate, run_all
from tests.engine.native_tiny import checkpoint, needs_native
from tests.engine.speculating import UnsureRunner, num_guessed, speculating
from tests.engine.test_constraint import CITY, PROMPT
from tests.engine.tiny_decoders import tiny_decoder
from tests.engine.tiny_vocabulary import END, tiny_compiler

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

    plain = Engine(network(kind), EngineConfig(**config, lookup_tokens=0), grammars=tiny_compiler())
    plain.speculation._pace = lambda seq, drafter: _Idle()  # type: ignore[method-assign,assignment,return-value]
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


class _Idle:
    """Never guesses."""

    is_resting = True
    chance = 0.0

    def length(self, price: float) -> int:
        return 0
