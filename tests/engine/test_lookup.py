"""Guesses from a sequence's own text: what they are, and that they save steps without changing a token."""

from collections.abc import Sequence as Tokens

import pytest

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request, TorchRunner
from cairn.engine.lookup import Lookup
from tests.engine.naive import run_all
from tests.engine.speculating import speculating
from tests.engine.tiny_decoders import naive_greedy, tiny_decoder


def test_what_followed_the_last_three_tokens_before_is_guessed() -> None:
    lookup = Lookup()
    assert lookup.draft([1, 2, 3, 4, 5, 6, 7, 8], 4) == ()
    assert lookup.draft([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 4) == (4, 5, 6, 7)
    assert lookup.draft([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 2) == (4, 5)
    assert Lookup().draft([1, 2], 4) == ()


def test_the_latest_place_counts() -> None:
    assert Lookup().draft([1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3], 1) == (8,)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_fewer_steps_and_the_same_tokens(temperature: float) -> None:
    """A decoder that repeats itself under a heavy bias towards few tokens."""
    favoured: Tokens[int] = (3, 5)
    sampling = SamplingParams(
        temperature=temperature,
        top_p=0.5,
        seed=1,
        max_tokens=60,
        logit_bias=dict.fromkeys(favoured, 60.0),
        ignore_eos=True,
    )
    request = Request("a", (3, 5, 3, 5, 3, 5), sampling)
    outcomes = []
    for lookup_tokens in (0, 16):
        engine = speculating(
            TorchRunner(tiny_decoder("llama")), EngineConfig(num_blocks=40, lookup_tokens=lookup_tokens)
        )
        tokens = run_all(engine, [request]).tokens["a"][0]
        outcomes.append((tokens, engine.stats()))
    (plain, before), (guessed, after) = outcomes
    assert plain == guessed
    assert before.num_steps == 60
    assert before.num_drafted_tokens["lookup"] == 0
    assert 0 < after.num_accepted_tokens["lookup"] <= after.num_drafted_tokens["lookup"]
    assert after.num_steps == 60 - after.num_accepted_tokens["lookup"]


def test_guesses_never_reach_beyond_the_last_token() -> None:
    model, prompt = tiny_decoder("llama"), (7, 8, 9) * 5
    engine = Engine(TorchRunner(model), EngineConfig(num_blocks=8, max_model_len=20, lookup_tokens=16))
    sampling = SamplingParams(temperature=0, ignore_eos=True)
    tokens = run_all(engine, [Request("a", prompt, sampling)]).tokens["a"][0]
    assert tokens == naive_greedy(model, prompt, 5)
