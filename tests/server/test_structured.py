"""Structured output over HTTP with the official client: schemas, pydantic models, streams, tools, errors."""

import json
import re
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from cairn.registry import Registry
from cairn.server.models import ModelPool
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import Running, Script, Serve

ASK: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "where to?"}],
    "temperature": 1.0,
    "seed": 3,
}


class Cairn(BaseModel):
    """What the reply must be."""

    model_config = ConfigDict(extra="forbid")
    stones: int = Field(ge=0, le=99)
    where: Literal["north", "south"]
    is_high: bool


SCHEMA: dict[str, Any] = {"name": "cairn", "schema": Cairn.model_json_schema(), "strict": True}
FORMAT: Any = {"type": "json_schema", "json_schema": SCHEMA}
WHERE: dict[str, Any] = {"properties": {"where": {"enum": ["n", "s"]}}, "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "build", "parameters": {**WHERE, "required": ["where"]}}},
    {"type": "function", "function": {"name": "rest"}},
]


@pytest.fixture
def tiny(serve: Serve, registry: Registry, pool: ModelPool) -> Running:
    """A server with a model of random weights."""
    tiny_artifact(registry)
    return serve(models=pool)


def test_a_schema(tiny: Running, registry: Registry) -> None:
    answer = tiny.client().chat.completions.create(**ASK, response_format=FORMAT, n=3)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        Cairn.model_validate_json(choice.message.content or "")
    receipt = registry.receipt((answer.model_extra or {})["cairn"]["receipt"])
    assert json.loads(receipt.sampling["grammar"]["text"]) == SCHEMA["schema"]


def test_a_parsed_model(tiny: Running) -> None:
    answer = tiny.client().chat.completions.parse(**ASK, response_format=Cairn)
    assert isinstance(answer.choices[0].message.parsed, Cairn)


def test_a_streamed_model(tiny: Running) -> None:
    with tiny.client().chat.completions.stream(**ASK, response_format=Cairn) as stream:
        for _ in stream:
            pass
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, Cairn)
    chunks = tiny.client().chat.completions.create(**ASK, response_format=FORMAT, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert Cairn.model_validate_json(text) == parsed


def test_an_object(tiny: Running) -> None:
    for seed in range(4):
        body = ASK | {"seed": seed, "max_tokens": 200}
        choice = (
            tiny.client().chat.completions.create(**body, response_format={"type": "json_object"}).choices[0]
        )
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content or ""), dict)
        else:
            assert choice.finish_reason == "length"
    free = tiny.client().chat.completions.create(**ASK, response_format={"type": "text"}, max_tokens=8)
    assert free.choices[0].message.content is not None


def test_too_few_tokens_are_reported(tiny: Running) -> None:
    choice = tiny.client().chat.completions.create(**ASK, response_format=FORMAT, max_tokens=4).choices[0]
    assert choice.finish_reason == "length"
    with pytest.raises(openai.LengthFinishReasonError):
        tiny.client().chat.completions.parse(**ASK, response_format=Cairn, max_tokens=4)


@pytest.mark.parametrize(
    ("outputs", "expression"),
    [
        ({"regex": "[a-z]{3}-[0-9]{2}"}, "[a-z]{3}-[0-9]{2}"),
        ({"choice": ["north", "søuth 🙂"]}, "north|søuth 🙂"),
        ({"grammar": 'root ::= "(" root ")" | "a"', "json_object": False}, r"\(*a\)*"),
        ({"json": {"enum": ["a", 1]}}, '"a"|1'),
        ({"json": '{"enum": ["a", 1]}'}, '"a"|1'),
    ],
)
def test_vllm_fields(tiny: Running, outputs: dict[str, Any], expression: str) -> None:
    extra = {"structured_outputs": outputs}
    chat = tiny.client().chat.completions.create(**ASK, extra_body=extra, max_tokens=100).choices[0]
    assert chat.finish_reason == "length" or re.fullmatch(expression, chat.message.content or "")
    text = (
        tiny.client()
        .completions.create(model="tiny", prompt="to the ", seed=4, extra_body=extra, max_tokens=100)
        .choices[0]
    )
    assert text.finish_reason == "length" or re.fullmatch(expression, text.text)


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", {"build", "rest"}), ({"type": "function", "function": {"name": "build"}}, {"build"})],
)
def test_demanded_tools(tiny: Running, choice: Any, names: set[str]) -> None:
    for seed in range(4):
        answer = tiny.client().chat.completions.create(
            **(ASK | {"seed": seed}), tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
        )
        if answer.choices[0].finish_reason == "length":
            continue
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name in names
        if call.function.name == "build":
            assert json.loads(call.function.arguments)["where"] in ("n", "s")
        else:
            assert isinstance(json.loads(call.function.arguments), dict)
        assert answer.choices[0].finish_reason == "tool_calls"


ENDLESS: dict[str, Any] = {
    "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}},
    "$ref": "#/$defs/a",
}
DEAD: dict[str, Any] = {
    "$defs": {"a": {"$ref": "#/$defs/a"}},
    "properties": {"x": {"$ref": "#/$defs/a"}},
    "required": ["x"],
    "type": "object",
    "additionalProperties": False,
}


def test_a_dead_end_is_an_error_of_its_request(tiny: Running) -> None:
    client = tiny.client()
    dead: Any = {"structured_outputs": {"grammar": 'start: "ab" x\nx: x'}}
    with pytest.raises(openai.BadRequestError, match="nothing that the grammar allows"):
        client.chat.completions.create(**ASK, extra_body=dead)
    with pytest.raises(openai.APIError, match="nothing that the grammar allows"):
        list(client.chat.completions.create(**ASK, extra_body=dead, stream=True))
    assert client.chat.completions.parse(**ASK, response_format=Cairn).choices[0].message.parsed


def schema_of(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


SCHEMA_PARAM = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        (schema_of({"type": "integer", "minimum": 2, "maximum": 1}), "Unsatisfiable", SCHEMA_PARAM),
        (schema_of({"enum": []}), "Unsatisfiable", SCHEMA_PARAM),
        (schema_of({"type": "string", "minLength": 5, "maxLength": 3}), "Unsatisfiable", SCHEMA_PARAM),
        (schema_of({"type": "string", "pattern": r"^a[^\s\S]b$"}), "Regex is empty", SCHEMA_PARAM),
        (schema_of(ENDLESS), "no finite document", SCHEMA_PARAM),
        (schema_of(DEAD), "no finite document", SCHEMA_PARAM),
        (schema_of({"type": "integer", "multipleOf": 999_983}), "multipleOf is 999983", SCHEMA_PARAM),
        (schema_of({"type": "array", "uniqueItems": True}), "uniqueItems", SCHEMA_PARAM),
        (schema_of({"type": "strin"}), "Invalid type", SCHEMA_PARAM),
        (schema_of({"$ref": "http://127.0.0.1:1/x"}), "retriev", SCHEMA_PARAM),
        (schema_of([]), "valid dictionary", SCHEMA_PARAM),
        ({"response_format": {"type": "xml"}}, "'json_object'", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "missing", "response_format"),
        ({**schema_of({}), "structured_outputs": {"regex": "a"}}, "both", "structured_outputs"),
        ({"structured_outputs": {}}, "exactly one", "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "exactly one", "structured_outputs"),
        ({"structured_outputs": {"regex": "(a"}}, "unclosed", "structured_outputs.regex"),
        ({"structured_outputs": {"regex": r"a[^\s\S]b"}}, "no text", "structured_outputs.regex"),
        ({"structured_outputs": {"regex": "a" * 70_000}}, "at most 65536", "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "none of them empty", "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "start: x"}}, "x", "structured_outputs.grammar"),
        ({"structured_outputs": {"json": "{"}}, "not valid JSON", "structured_outputs.json"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_followed_is_refused(
    serve: Serve, script: Script, change: dict[str, Any], message: str, param: str, stream: bool
) -> None:
    server = serve(script())
    body = ASK | {"model": "scripted", "stream": stream} | change
    response = server.http().post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert server.http().get("/readyz").status_code == 200
