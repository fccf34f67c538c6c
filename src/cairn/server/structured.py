"""`response_format` (OpenAI) and `structured_outputs` (vLLM) as a grammar."""

from cairn.core.errors import InvalidRequestError
from cairn.core.grammar import Grammar
from cairn.server.openai_types import ChatCompletionRequest, ResponseFormat, SamplingFields, StructuredOutputs


def grammar_of(body: SamplingFields) -> Grammar | None:
    """What the body says the reply must be; None where it may be anything."""
    response_format = body.response_format if isinstance(body, ChatCompletionRequest) else None
    grammar = _of_format(response_format) if response_format is not None else None
    if body.structured_outputs is None:
        return grammar
    if grammar is not None:
        raise InvalidRequestError(
            "response_format and structured_outputs both say what the reply must be",
            remedy="leave one of them out",
            param="structured_outputs",
        )
    return _of_outputs(body.structured_outputs)


def _of_format(given: ResponseFormat) -> Grammar | None:
    if (given.type == "json_schema") != (given.json_schema is not None):
        raise InvalidRequestError(
            f"response_format.json_schema is {'missing' if given.json_schema is None else 'given'} "
            f"and the type is {given.type!r}",
            remedy="json_schema belongs to the type 'json_schema', and to that alone",
            param="response_format",
        )
    if given.json_schema is not None:
        return Grammar.json_schema(given.json_schema.schema_, param="response_format.json_schema.schema")
    return Grammar("json_object", param="response_format") if given.type == "json_object" else None


def _of_outputs(given: StructuredOutputs) -> Grammar:
    named = given.model_dump(exclude_none=True, by_alias=True)
    if named.get("json_object") is False:
        del named["json_object"]
    if len(named) != 1:
        raise InvalidRequestError(
            f"structured_outputs has {', '.join(named) or 'nothing'}, allowed: exactly one of json, "
            "json_object, regex, choice, grammar",
            param="structured_outputs",
        )
    ((name, value),) = named.items()
    param = f"structured_outputs.{name}"
    if name == "json":
        return (
            Grammar("json_schema", value, param)
            if isinstance(value, str)
            else Grammar.json_schema(value, param=param)
        )
    if name == "choice":
        return Grammar.choice(value, param=param)
    if name == "json_object":
        return Grammar("json_object", param=param)
    return Grammar("ebnf" if name == "grammar" else "regex", value, param)
