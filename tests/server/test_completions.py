"""Plain completion with the official client, and the request shapes of lm-eval's `local-completions`."""

from typing import Any

import openai
import pytest
from openai.types import CompletionChoice

from cairn.registry import Registry
from cairn.server.models import ModelPool
from tests.providers.scripted import tiny_tokenizer
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import REPLY, Running, Serve

ASK: dict[str, Any] = {"model": "scripted", "temperature": 0, "max_tokens": 40}


def test_text_whole_and_streamed(server: Running) -> None:
    client = server.client()
    whole = client.completions.create(**ASK, prompt="the cairn")
    assert whole.choices[0].text == REPLY
    assert whole.choices[0].finish_reason == "stop"
    chunks = list(client.completions.create(**ASK, prompt="the cairn", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == REPLY
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_many_prompts_of_every_shape(server: Running) -> None:
    client = server.client()
    ids = tiny_tokenizer().encode("the cairn")
    shapes: list[Any] = ["the cairn", ["the cairn", "a pile"], ids, [ids, ids[:2]]]
    for prompt, count in zip(shapes, (1, 2, 1, 2), strict=True):
        answer = client.completions.create(**ASK, prompt=prompt, n=2)
        assert [choice.index for choice in answer.choices] == list(range(2 * count))
        assert {choice.text for choice in answer.choices} == {REPLY}
    raw = client.completions.with_raw_response.create(**ASK, prompt=["a", "b", "c"])
    assert len(set(raw.headers["x-cairn-receipt"].split(","))) == 3
    chunks = client.completions.create(
        **ASK, prompt=["a", "b"], stream=True, stream_options={"include_usage": True}
    )
    texts = {0: "", 1: ""}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {0: REPLY, 1: REPLY}
    assert usage is not None
    assert usage.prompt_tokens == 2


def test_echo(server: Running) -> None:
    client = server.client()
    assert (
        client.completions.create(**ASK, prompt="the cairn: ", echo=True).choices[0].text
        == f"the cairn: {REPLY}"
    )
    only = client.completions.create(**(ASK | {"max_tokens": 0}), prompt="the cairn", echo=True).choices[0]
    assert (only.text, only.finish_reason) == ("the cairn", "length")
    chunks = list(client.completions.create(**ASK, prompt="a ", echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == f"a {REPLY}"


def test_what_is_not_served_is_refused(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.BadRequestError, match="does not fill gaps"):
        client.completions.create(**ASK, prompt="a", suffix="b")
    with pytest.raises(openai.BadRequestError, match="best_of"):
        client.completions.create(**ASK, prompt="a", best_of=3)
    with pytest.raises(openai.BadRequestError, match="not empty"):
        client.completions.create(**ASK, prompt=[])
    with pytest.raises(openai.BadRequestError, match="257 prompts"):
        client.completions.create(**ASK, prompt=["a"] * 257)
    with pytest.raises(openai.BadRequestError, match="token id 100000"):
        client.completions.create(**ASK, prompt=[[100_000]])


@pytest.fixture
def tiny(serve: Serve, pool: ModelPool, registry: Registry) -> Running:
    tiny_artifact(registry)
    running = serve(models=pool)
    running.wait_until(lambda: not pool.problem())
    return running


def test_lm_eval_log_likelihoods(tiny: Running) -> None:
    """What lm-eval sends for multiple choice, and the arithmetic it does on the answer."""
    tokenizer = tiny_tokenizer()
    rows = [tokenizer.encode(text) for text in ("the stones mark", "a cairn is a pile", "way")]
    context_lengths = [2, 3, 1]
    body = {
        "model": "tiny",
        "prompt": rows,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    out = tiny.http().post("/v1/completions", json=body).json()
    choices = sorted(out["choices"], key=lambda choice: choice["index"])
    for row, choice, length in zip(rows, choices, context_lengths, strict=True):
        logprobs = choice["logprobs"]
        assert all(len(each) == len(row) + 1 for each in logprobs.values())
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["top_logprobs"][0] is None
        scored = logprobs["token_logprobs"][length:-1]
        assert len(scored) == len(row) - length
        assert all(value < 0 for value in scored)
        for token, top in zip(
            logprobs["tokens"][length:-1], logprobs["top_logprobs"][length:-1], strict=True
        ):
            assert token in top


def test_scores_do_not_depend_on_the_batch_or_the_request_shape(tiny: Running) -> None:
    ids = tiny_tokenizer().encode("the stones mark the way")
    client = tiny.client()
    ask: dict[str, Any] = {"model": "tiny", "temperature": 0, "logprobs": 2, "echo": True}

    def scores(prompt: Any, max_tokens: int) -> list[float]:
        answer: Any = client.completions.create(**ask, prompt=prompt, max_tokens=max_tokens)
        choice: CompletionChoice = answer.choices[0]
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        return choice.logprobs.token_logprobs[: len(ids)]

    alone = scores([ids], 0)
    assert [value is None for value in alone][:2] == [True, False]
    assert scores([ids, ids[:3], ids[::-1]], 1) == alone
    assert scores("the stones mark the way", 1) == alone
    assert scores(["the stones mark the way"], 0) == alone


def test_offsets_follow_the_text(tiny: Running) -> None:
    text = "the stones 🙂"
    choice = (
        tiny.client()
        .completions.create(model="tiny", prompt=text, max_tokens=0, echo=True, logprobs=0)
        .choices[0]
    )
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset is not None
    assert choice.logprobs.tokens is not None
    for offset, token in zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)


def test_the_seed_decides(tiny: Running) -> None:
    client = tiny.client()
    ask: dict[str, Any] = {"model": "tiny", "prompt": "a", "max_tokens": 16, "temperature": 1.0}
    first = client.completions.create(**ask, seed=3).choices[0].text
    assert client.completions.create(**ask, seed=3).choices[0].text == first
