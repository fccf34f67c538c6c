"""Constrained decoding: whatever random weights want to say, what comes out is what the grammar allows."""

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cairn.core import InvalidRequestError
from cairn.core.chat import SamplingParams
from cairn.core.grammar import Grammar
from cairn.engine import (
    AsyncEngine,
    Engine,
    EngineConfig,
    FailedOutput,
    ModelRunner,
    NativeRunner,
    Request,
    TokenOutput,
    TorchRunner,
    constraint,
)
from cairn.engine.native_runner import native_kernels
from tests.engine.json_checker import is_valid
from tests.engine.naive import Collector, check_accounts, run_all
from tests.engine.native_tiny import checkpoint
from tests.engine.tiny_decoders import tiny_decoder
from tests.engine.tiny_vocabulary import CONTROL, END, GAP, VOCABULARY, encode, text_of, tiny_compiler

PROMPT = (3, 1, 4, 1, 5)
RUNNERS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(not native_kernels(), reason="not built")),
]
JSON = Grammar("json_object")
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "stones": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["a", "the é", "🙂"]}, "maxItems": 3},
    },
    "required": ["name", "stones", "tags"],
    "additionalProperties": False,
}


def runner_of(kind: str) -> ModelRunner:
    if kind == "torch":
        return TorchRunner(tiny_decoder("llama"))
    return NativeRunner(checkpoint(tiny_decoder("llama")), weights="int8", num_threads=1, pin=False)


def engine_of(kind: str = "torch", **config: Any) -> Engine:
    defaults = {"block_size": 4, "num_blocks": 400, "max_model_len": 400}
    return Engine(runner_of(kind), EngineConfig(**(defaults | config)), grammars=tiny_compiler())


def constrained(request_id: str, grammar: Grammar | None, **sampling: Any) -> Request:
    params = SamplingParams(**({"max_tokens": 300, "seed": 7, "grammar": grammar} | sampling))
    return Request(request_id, PROMPT, params, eos_token_ids=(END,))


def texts_of(found: Collector, request_id: str) -> list[str]:
    return [text_of(tokens) for _, tokens in sorted(found.tokens[request_id].items())]


VALUES = [1, "é", "a b", None, True, "🙂", 'q"\\', [1], {"a": 2}]


def bounded(kind: str, lowest: int, size: int) -> st.SearchStrategy[dict[str, Any]]:
    names = ("minLength", "maxLength") if kind == "string" else ("minimum", "maximum")
    return st.builds(
        lambda low, more: {"type": kind, names[0]: low, names[1]: low + more},
        st.integers(lowest, lowest + 50 if lowest else 4),
        st.integers(0, size),
    )


scalars = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    bounded("integer", -30, 999),
    bounded("number", -9, 99),
    bounded("string", 0, 5),
    st.just({"type": "string", "pattern": "^[a-c]{2,4}(_[0-9])?$"}),
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique_by=repr).map(lambda v: {"enum": v}),
    st.sampled_from([0, "the", {"a": [1, "é"]}]).map(lambda value: {"const": value}),
)


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "name", "é", "b c", 'q"', "z_1"])
    return st.builds(
        lambda properties, num: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[:num],
            "additionalProperties": False,
        },
        st.dictionaries(names, inner, max_size=3),
        st.integers(0, 3),
    )


def arrays(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )


schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", RUNNERS)
@given(schema=schemas, temperature=st.sampled_from([0.0, 1.0, 3.0]), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_every_finished_document_is_valid(
    kind: str, schema: dict[str, Any], temperature: float, seed: int
) -> None:
    request = constrained("r", Grammar.json_schema(schema), temperature=temperature, seed=seed, n=2)
    found = run_all(engine_of(kind), [request])
    for index, text in enumerate(texts_of(found, "r")):
        if found.reasons["r"][index] == "stop":
            assert is_valid(json.loads(text), schema), text


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_small_documents_finish(kind: str, temperature: float) -> None:
    found = run_all(
        engine_of(kind), [constrained("r", Grammar.json_schema(CITY), temperature=temperature, n=4)]
    )
    assert set(found.reasons["r"].values()) == {"stop"}
    values = [json.loads(text) for text in texts_of(found, "r")]
    assert all(is_valid(value, CITY) for value in values)
    assert all(list(value) == ["name", "stones", "tags"] for value in values)
    if temperature:
        assert len({json.dumps(value) for value in values}) > 1


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_any_object(temperature: float) -> None:
    found = run_all(engine_of(), [constrained("r", JSON, temperature=temperature, n=8)])
    finished = [t for i, t in enumerate(texts_of(found, "r")) if found.reasons["r"][i] == "stop"]
    assert all(isinstance(json.loads(text), dict) for text in finished)
    assert finished or not temperature


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("expression", [r"[a-f]{3}-[0-9]{2}", r"(true|10|é🙂)+x", r"[^a-z{}]{1,9}", r"a+"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_expressions(kind: str, expression: str, temperature: float) -> None:
    request = constrained("r", Grammar("regex", expression), temperature=temperature, n=3, max_tokens=60)
    found = run_all(engine_of(kind), [request])
    for index, text in enumerate(texts_of(found, "r")):
        assert found.reasons["r"][index] == "length" or re.fullmatch(expression, text)


@given(st.lists(st.text('ab é🙂{"\\\n', min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_choices(texts: list[str], seed: int) -> None:
    found = run_all(engine_of(), [constrained("r", Grammar.choice(texts), seed=seed, n=2)])
    assert set(texts_of(found, "r")) <= set(texts)
    assert set(found.reasons["r"].values()) == {"stop"}


@pytest.mark.parametrize(
    "grammar",
    ['start: "(" start ")" | "a" [start] "b"', 'root ::= "(" root ")" | "a" root? "b"'],
    ids=["lark", "gbnf"],
)
def test_nested_brackets(grammar: str) -> None:
    """What no regular expression can say."""
    found = run_all(engine_of(), [constrained("r", Grammar("ebnf", grammar), n=8, max_tokens=200)])
    for index, text in enumerate(texts_of(found, "r")):
        if found.reasons["r"][index] == "stop":
            while (shorter := text.replace("()", "").replace("ab", "")) != text:
                text = shorter
            assert text == ""
    assert "stop" in found.reasons["r"].values()


@pytest.mark.parametrize("kind", RUNNERS)
def test_the_free_requests_of_a_batch_do_not_change(kind: str) -> None:
    free = [
        Request(f"free{i}", (*PROMPT, i), SamplingParams(max_tokens=30, temperature=i % 2, seed=i), (END,))
        for i in range(4)
    ]
    bound = [
        constrained("json", Grammar.json_schema(CITY)),
        constrained("greedy", Grammar.json_schema(CITY), temperature=0),
        constrained("regex", Grammar("regex", "[a-z]{20,}"), max_tokens=30, n=2),
    ]
    together = run_all(
        engine_of(kind), [x for pair in zip(free, [*bound, free[0]], strict=True) for x in pair][:-1]
    )
    for request in (*free, *bound):
        alone = run_all(engine_of(kind), [request])
        assert alone.tokens[request.request_id] == together.tokens[request.request_id]


@pytest.mark.parametrize("kind", RUNNERS)
def test_preemption_keeps_the_place_in_the_grammar(kind: str) -> None:
    requests = [constrained(f"r{i}", Grammar.json_schema(CITY), seed=i, n=2) for i in range(4)]
    calm = run_all(engine_of(kind), requests)
    pressed_engine = engine_of(kind, num_blocks=24, max_model_len=96, max_num_seqs=6, prefix_cache=False)
    pressed = Collector()
    for request in requests:
        pressed_engine.add_request(request)
    while pressed_engine.has_unfinished:
        pressed.take(pressed_engine.step())
        check_accounts(pressed_engine)
    assert pressed_engine.stats().num_preemptions > 0
    assert pressed.tokens == calm.tokens
    assert all(is_valid(json.loads(text), CITY) for r in requests for text in texts_of(pressed, r.request_id))


@pytest.mark.parametrize("kind", RUNNERS)
def test_masks_beside_the_network_are_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [constrained(f"r{i}", Grammar.json_schema(CITY), seed=i) for i in range(3)]
    calm = run_all(engine_of(kind), requests)
    monkeypatch.setattr(constraint, "WORTH_A_THREAD", -1.0)
    assert run_all(engine_of(kind), requests).tokens == calm.tokens


def test_penalties_bias_and_filters_choose_among_what_is_allowed() -> None:
    grammar = Grammar("regex", "[a-e]{12}")
    wild: dict[str, Any] = {
        "logit_bias": {encode("{")[0]: 100.0, encode("c")[0]: -100.0},
        "repetition_penalty": 1.5,
        "presence_penalty": 2.0,
        "frequency_penalty": -2.0,
    }
    for extra in (
        {},
        {"top_k": 1},
        {"top_p": 0.01},
        {"min_p": 1.0},
        {"temperature": 0},
        {"temperature": 1e-6},
    ):
        found = run_all(engine_of(), [constrained("r", grammar, **wild, **extra)])
        (text,) = texts_of(found, "r")
        assert re.fullmatch("[abde]{12}", text)


def test_log_probabilities_are_those_of_what_is_allowed() -> None:
    engine = engine_of()
    engine.add_request(constrained("r", Grammar("regex", "(a|b)c{3}"), logprobs=5, temperature=0))
    outputs: list[TokenOutput] = []
    while engine.has_unfinished:
        outputs += [output for output in engine.step() if isinstance(output, TokenOutput)]
    assert text_of([o.token_id for o in outputs if o.token_id is not None]) in ("accc", "bccc")
    first = outputs[0]
    assert {VOCABULARY[token_id] for token_id, _ in first.top_logprobs} <= {b"a", b"b", b"ab"}
    assert sum(np.exp(value) for _, value in first.top_logprobs) == pytest.approx(1, abs=1e-5)
    assert [o.logprob for o in outputs[1:]] == [0.0] * (len(outputs) - 1)


def test_the_end_is_allowed_where_the_grammar_accepts_and_nowhere_else() -> None:
    bias = {"logit_bias": {END: 100.0, CONTROL: 100.0, GAP: 100.0}, "temperature": 0.0}
    for least, expression in ((1, "[ab]{1,9}c?"), (1, "[ab]{1,9}"), (4, "[ab]{4,9}")):
        found = run_all(engine_of(), [constrained("r", Grammar("regex", expression), **bias)])
        assert len(found.tokens["r"][0]) <= least + 1
        assert found.tokens["r"][0][-1] == END


def test_a_whole_text_ends_without_an_end_token() -> None:
    request = constrained("r", Grammar.choice(["ab"]), ignore_eos=True)
    found = run_all(engine_of(), [request])
    assert texts_of(found, "r") == ["ab"]
    assert END not in found.tokens["r"][0]
    assert found.reasons["r"] == {0: "stop"}


def test_stop_tokens_end_a_text_where_they_may() -> None:
    stops = (CONTROL, encode("z")[0], 10**9, -1)
    request = constrained(
        "r", Grammar("regex", "[a-e]{2,9}"), stop_token_ids=stops, logit_bias={CONTROL: 100.0}, temperature=0
    )
    (tokens,) = run_all(engine_of(), [request]).tokens["r"].values()
    assert tokens[-1] == CONTROL
    assert 2 <= len(text_of(tokens[:-1])) <= 3


def test_too_few_tokens_are_reported_as_such() -> None:
    found = run_all(engine_of(), [constrained("r", Grammar.json_schema(CITY), max_tokens=3)])
    assert found.reasons["r"] == {0: "length"}
    with pytest.raises(json.JSONDecodeError):
        json.loads(texts_of(found, "r")[0])


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar.json_schema({"type": "strin"}), "Invalid type"),
        (Grammar.json_schema({"type": "integer", "minimum": 5, "maximum": 2}), "Unsatisfiable"),
        (Grammar.json_schema({"enum": []}), "Unsatisfiable"),
        (Grammar.json_schema({"allOf": [{"type": "string"}, {"type": "null"}]}), "incompatible"),
        (Grammar.json_schema({"not": {"type": "string"}}), "not"),
        (Grammar.json_schema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (Grammar.json_schema({"not": {}, "x-guidance": {"lenient": True}}), "not"),
        (Grammar.json_schema({"$ref": "#/$defs/nothing"}), "does not exist"),
        (Grammar.json_schema({"$ref": "https://example.com/x"}), "retriev"),
        (Grammar.json_schema({"type": "object", "minProperties": 2}), "minProperties"),
        (Grammar.json_schema({"type": "string", "format": "unheard"}), "unheard"),
        (Grammar("regex", "(a"), "unclosed"),
        (Grammar("regex", "(?=a)b"), "look-around"),
        (Grammar("regex", "a{0}"), "empty text"),
        (Grammar("ebnf", "start: nobody"), "nobody"),
        (Grammar("ebnf", "start: a\na: a"), "no text"),
        (Grammar("ebnf", "root ::= ("), "cannot be followed"),
        (Grammar("ebnf", "rubbish"), "cannot be followed"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_before_it_is_queued(grammar: Grammar, reason: str) -> None:
    engine = engine_of()
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        engine.add_request(constrained("r", grammar))
    assert caught.value.param == "grammar"
    assert caught.value.remedy
    assert not engine.has_unfinished


def linked(name: str, **more: Any) -> dict[str, Any]:
    """An object that needs the property `next`, which is the definition `name`."""
    return {
        "type": "object",
        "properties": {"next": {"$ref": f"#/$defs/{name}", **more}},
        "required": ["next"],
    }


def test_only_what_never_ends_is_taken_for_endless() -> None:
    compiler = tiny_compiler()
    ends = {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}
    node = {"type": "object", "properties": {"next": ends}, "required": ["next"]}
    compiler.compile(Grammar.json_schema({"$defs": {"list": node}, "$ref": "#/$defs/list"}))
    compiler.compile(Grammar.json_schema({"type": "object", "properties": {"a": {"$ref": "#"}}}))
    compiler.compile(Grammar.json_schema({"type": "array", "items": {"$ref": "#"}}))
    mutual = {"a": linked("b"), "b": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}
    both = {"a": {"anyOf": [linked("a"), {"allOf": [{"$ref": "#/$defs/a"}]}]}}
    for definitions in (mutual, both):
        with pytest.raises(InvalidRequestError, match="no finite document"):
            compiler.compile(Grammar.json_schema({"$defs": definitions, "$ref": "#/$defs/a"}))


def test_schemas_that_would_take_minutes_are_refused_at_once() -> None:
    compiler = tiny_compiler()
    patterns = [{"type": "string", "pattern": f"^(.*[a-z]{{{i}}}.*)$"} for i in range(1, 40)]
    with pytest.raises(InvalidRequestError, match="39 patterns"):
        compiler.compile(Grammar.json_schema({"allOf": patterns}))
    divided = {f"p{i}": {"type": "integer", "multipleOf": 9973} for i in range(2)}
    with pytest.raises(InvalidRequestError, match="come to 10000 together"):
        compiler.compile(Grammar.json_schema({"type": "object", "properties": divided}))
    compiler.compile(Grammar.json_schema({"type": "integer", "multipleOf": 1_000_000}))
    deep = '{"items":' * 900 + "{}" + "}" * 900
    with pytest.raises(InvalidRequestError, match=r"recursion limit|nested too deep"):
        compiler.compile(Grammar("json_schema", deep))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_schema", "{"),
        ("json_schema", "[]"),
        ("choice", "[]"),
        ("choice", '["a", 1]'),
        ("choice", '[""]'),
        ("regex", ""),
        ("regex", "a" * 70_000),
        ("ebnf", " "),
        ("json_object", "{}"),
        ("yaml", "a"),
    ],
)
def test_malformed_grammars(kind: Any, text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Grammar(kind, text)


def test_an_engine_without_a_vocabulary_says_so() -> None:
    engine = Engine(runner_of("torch"), EngineConfig(num_blocks=10))
    with pytest.raises(InvalidRequestError, match="vocabulary"):
        engine.add_request(constrained("r", JSON))


DEAD_END = Grammar("ebnf", 'start: "ab" x\nx: x', "response_format")


def test_a_dead_end_fails_its_request_alone() -> None:
    engine = engine_of()
    requests = [constrained("dead", DEAD_END, n=2), constrained("alive", Grammar.json_schema(CITY))]
    for request in requests:
        engine.add_request(request)
    collector, failures = Collector(), []
    while engine.has_unfinished:
        outputs = engine.step()
        failures += [output for output in outputs if isinstance(output, FailedOutput)]
        collector.take(outputs)
        check_accounts(engine)
    (failure,) = failures
    assert failure.request_id == "dead"
    assert isinstance(failure.error, InvalidRequestError)
    assert failure.error.param == "response_format"
    assert is_valid(json.loads(texts_of(collector, "alive")[0]), CITY)
    assert engine.block_manager.num_used_blocks == 0


async def test_a_dead_end_ends_its_stream() -> None:
    with AsyncEngine(engine_of()) as engine:
        with pytest.raises(InvalidRequestError, match="nothing that the grammar allows"):
            async for _ in engine.generate(constrained("dead", DEAD_END)):
                pass
        found = [output async for output in engine.generate(constrained("r", Grammar.choice(["ab"])))]
        assert len(found) >= 1
        assert engine.is_healthy


_DEEP = """
import sys
from cairn.core.grammar import MAX_GRAMMAR_BYTES, Grammar
from cairn.core import InvalidRequestError
from tests.engine.tiny_vocabulary import tiny_compiler

lines, size, number = ["start: A0"], 0, 0
while size < MAX_GRAMMAR_BYTES - 100:
    lines.append(sys.argv[1].format(f"A{number:X}", f"A{number + 1:X}"))
    size += len(lines[-1]) + 1
    number += 1
lines.append(f'A{number:X}:"b"')
try:
    matcher = tiny_compiler().compile(Grammar("ebnf", chr(10).join(lines)))
except InvalidRequestError:
    sys.exit(0)
import numpy as np
matcher.fill(np.zeros(4, np.int32))
"""


@pytest.mark.parametrize("line", ["{}:{}", '{}:{}"a"', '{}:"a"{}', "{}:{}?", "{}:({}|/c/)"])
def test_the_deepest_grammar_does_not_exhaust_the_stack(line: str) -> None:
    done = subprocess.run([sys.executable, "-c", _DEEP, line], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
