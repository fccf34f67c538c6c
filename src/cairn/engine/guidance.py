"""Grammars compiled by llguidance against the bytes of a vocabulary.

JSON schemas are followed or refused, never followed in part. White space between JSON tokens is bounded
(nothing, a space, or a line break with up to 16 spaces): a small model left to itself may write it for ever.
Grammars come from strangers: text size, compile time, lexer states and the work of a step are bounded, and
compiling has a stack of its own, which the nesting that fits into the text cannot exhaust.

Source: https://github.com/guidance-ai/llguidance (derivatives of regular expressions, an Earley parser).
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from cairn.core.errors import InvalidRequestError, OverloadedError
from cairn.core.grammar import Grammar
from cairn.engine.constraint import Bits, Matcher

T = TypeVar("T")

_JSON_SPACE = r"[ ]?|\n[ ]{0,16}"
_COMPILED = 32
"""Grammars kept ready."""
_MAX_LEXER_STATES = 20_000
"""Of one or two kilobytes each."""
_STACK_BYTES = 256 << 20
_STACK_LOCK = threading.Lock()
_COMPILING = threading.BoundedSemaphore(4)
_LONGEST_WAIT = 10.0
"""Seconds for one of the four places; grammars that are at hand need none."""
_MAX_DIVISOR = 10_000
_MAX_MEETING_PATTERNS = 12
_DATA_KEYWORDS = frozenset({"const", "enum", "default", "examples"})


class GuidanceCompiler:
    """Compiles grammars for one vocabulary; the last few stay compiled. Safe to use from several threads."""

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        *,
        special_token_ids: Sequence[int],
        end_token_ids: Sequence[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        """`vocabulary[id]` are a token's bytes; `encode` says how the model is used to see a text."""
        assert end_token_ids, "a vocabulary has an end token"
        self._vocabulary = vocabulary
        self._special_token_ids = sorted({*special_token_ids, *end_token_ids})
        self._end_token_ids = list(end_token_ids)
        self._encode = encode
        self._compiled = lru_cache(_COMPILED)(self._compile)

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning; `InvalidRequestError` for a grammar that is wrong or allows nothing."""
        return GuidanceMatcher(self._compiled(grammar).deep_copy(), self._end_token_ids)

    @cached_property
    def _tokenizer(self) -> Any:
        guidance = import_module("llguidance")
        wrapper = guidance.TokenizerWrapper(_Vocabulary(self))
        return guidance.LLTokenizer(wrapper, eos_token=self._end_token_ids)

    def _compile(self, grammar: Grammar) -> Any:
        if not _COMPILING.acquire(timeout=_LONGEST_WAIT):
            raise OverloadedError(
                "too many new grammars are being compiled",
                remedy="ask again later",
                retry_after=_LONGEST_WAIT,
            )
        try:
            return _with_deep_stack(lambda: self._matcher(grammar))
        except RecursionError:
            raise _refused(grammar, "it is nested too deep") from None
        finally:
            _COMPILING.release()

    def _matcher(self, grammar: Grammar) -> Any:
        guidance = import_module("llguidance")
        limits = guidance.LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)
        matcher = guidance.LLMatcher(self._tokenizer, _source(grammar), log_level=0, limits=limits)
        if matcher.is_error():
            raise _refused(grammar, matcher.get_error())
        # The first step, where its failure is cheap; it also tells a grammar without any text.
        probe = GuidanceMatcher(matcher.deep_copy(), self._end_token_ids)
        bits = np.zeros(-(-len(self._vocabulary) // 32), np.int32)
        probe.fill(bits)
        if not bits.any():
            raise _refused(grammar, probe.problem or "no text, or the empty text alone, is allowed by it")
        return matcher


class GuidanceMatcher:
    """A matcher of llguidance. Where it cannot tell any more what may follow, nothing may."""

    def __init__(self, inner: Any, end_token_ids: Sequence[int]) -> None:
        self._inner = inner
        self._end_token_ids = end_token_ids
        self._ends = [(token_id // 32, ~(1 << token_id % 32)) for token_id in end_token_ids]

    @property
    def is_accepting(self) -> bool:
        return bool(self._inner.is_accepting())

    @property
    def is_complete(self) -> bool:
        return bool(self._inner.is_stopped() and self._inner.is_accepting())

    @property
    def problem(self) -> str:
        reason = str(self._inner.get_error()).partition("\n")[0]
        return "" if reason.startswith("NoExtension") else reason

    def fill(self, bits: Bits) -> None:
        # The library writes its own number of words: the vocabulary's, which an embedding may exceed.
        self._inner.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        for word, others in self._ends:
            bits[word] &= others

    def fork(self) -> "GuidanceMatcher":
        return GuidanceMatcher(self._inner.deep_copy(), self._end_token_ids)

    def forced(self) -> list[int]:
        return list(self._inner.compute_ff_tokens())

    def num_allowed(self, token_ids: Sequence[int]) -> int:
        return int(self._inner.validate_tokens(list(token_ids)))

    def advance(self, token_id: int) -> None:
        is_taken = self._inner.consume_token(token_id)
        assert is_taken or self._inner.is_error(), "a token that was allowed"


class _Vocabulary:
    """What llguidance wants to know of a tokenizer."""

    bos_token_id = None

    def __init__(self, compiler: GuidanceCompiler) -> None:
        self.eos_token_id = compiler._end_token_ids[0]
        self.tokens = list(compiler._vocabulary)
        self.special_token_ids = compiler._special_token_ids
        self._encode = compiler._encode

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("texts only")  # how it asks whether bytes are taken
        return self._encode(text)


def json_with_options(schema: Mapping[str, Any], param: str) -> str:
    """A schema as llguidance reads it, also behind `%json` in a Lark grammar.

    Refused where the library miscounts, would work for minutes, or would write for ever.
    """
    _check_counts(schema, param)
    _check_cost(schema, param)
    _check_end(schema, param)
    given = schema.get("x-guidance")
    options = {"whitespace_pattern": _JSON_SPACE, **(given if isinstance(given, dict) else {})}
    return json.dumps({**schema, "x-guidance": {**options, "lenient": False}}, ensure_ascii=False)


def _source(grammar: Grammar) -> str:
    """The grammar in llguidance's own form."""
    guidance = import_module("llguidance")
    if grammar.kind == "json_object":
        return str(
            guidance.LLMatcher.grammar_from_json_schema(json_with_options({"type": "object"}, grammar.param))
        )
    if grammar.kind == "json_schema":
        schema = json_with_options(json.loads(grammar.text), grammar.param)
        return str(guidance.LLMatcher.grammar_from_json_schema(schema))
    if grammar.kind == "regex":
        return str(guidance.LLMatcher.grammar_from_regex(grammar.text))
    if grammar.kind == "choice":
        texts = json.loads(grammar.text)
        lark = "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in dict.fromkeys(texts))
        return str(guidance.LLMatcher.grammar_from_lark(lark))
    try:
        return str(guidance.grammar_from("ebnf", grammar.text))
    except (ValueError, RecursionError) as error:
        raise _refused(grammar, str(error)) from None


def _check_counts(schema: Mapping[str, Any], param: str) -> None:
    """A property that is written twice counts as two for the library."""
    for part in _subschemas(schema):
        least = part.get("minProperties")
        required = part.get("required")
        named = len(required) if isinstance(required, list) else 0
        is_closed = part.get("additionalProperties") is False and not part.get("patternProperties")
        if isinstance(least, int | float) and least > named and not is_closed:
            raise InvalidRequestError(
                f"{param}: minProperties is {least} where {named} are required and others may follow",
                remedy="list that many under required, or set additionalProperties to false",
                param=param,
            )


def _check_cost(schema: Mapping[str, Any], param: str) -> None:
    """Divisors make an automaton of as many states; patterns that must hold at once, one of their product."""
    parts = list(_subschemas(schema))
    divisors = [part["multipleOf"] for part in parts if isinstance(part.get("multipleOf"), int)]
    if sum(map(_coprime_to_ten, divisors)) > _MAX_DIVISOR:
        raise InvalidRequestError(
            f"{param}: multipleOf is {max(divisors)}, allowed: numbers that come to {_MAX_DIVISOR} together",
            remedy="leave multipleOf out and check the number afterwards",
            param=param,
        )
    num_patterns = sum("pattern" in part for part in parts)
    if num_patterns > _MAX_MEETING_PATTERNS and any("allOf" in part or "$ref" in part for part in parts):
        raise InvalidRequestError(
            f"{param}: {num_patterns} patterns beside allOf or $ref, allowed: {_MAX_MEETING_PATTERNS}",
            remedy="write patterns that must hold together as one, or check them afterwards",
            param=param,
        )


def _coprime_to_ten(number: int) -> int:
    """What is left of a number without its factors 2 and 5, which the last digits tell."""
    number = abs(number)
    for factor in (2, 5):
        while number and number % factor == 0:
            number //= factor
    return number


def _check_end(schema: Mapping[str, Any], param: str) -> None:
    """Some document must be finite: a `$ref` that requires itself, on every way, is followed for ever."""
    targets = {part["$ref"] for part in _subschemas(schema) if isinstance(part.get("$ref"), str)}
    found = {name: _at(schema, name) for name in targets}
    finite = {name for name, part in found.items() if part is None}  # not here: the library says so
    while more := {name for name in targets - finite if _can_end(found[name], finite)}:
        finite |= more
    if not _can_end(schema, finite):
        raise InvalidRequestError(
            f"{param}: no finite document follows this schema: a $ref requires itself",
            remedy="make the property that leads back optional, or allow null there",
            param=param,
        )


def _at(schema: Any, pointer: str) -> Any:
    """The part of a schema that `#/...` names; None where there is none."""
    if not pointer.startswith("#"):
        return None
    for key in filter(None, pointer[1:].split("/")):
        schema = schema.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(schema, dict) else None
    return schema


def _can_end(part: Any, finite: set[str]) -> bool:
    if not isinstance(part, dict):
        return True
    if isinstance(ref := part.get("$ref"), str) and ref not in finite:
        return False
    for key, needed in (("allOf", all), ("anyOf", any), ("oneOf", any)):
        if isinstance(ways := part.get(key), list) and not needed(_can_end(way, finite) for way in ways):
            return False
    properties, required = part.get("properties"), part.get("required")
    if part.get("type") == "object" and isinstance(properties, dict) and isinstance(required, list):
        return all(_can_end(properties.get(name), finite) for name in required if isinstance(name, str))
    least = part.get("minItems")
    if part.get("type") == "array" and isinstance(least, int) and least > 0:
        return _can_end(part.get("items"), finite)
    return True


def _subschemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key not in _DATA_KEYWORDS:
                yield from _subschemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _subschemas(inner)


def _refused(grammar: Grammar, reason: str) -> InvalidRequestError:
    what = {"json_schema": "JSON schema", "json_object": "JSON object", "regex": "regular expression"}
    name = what.get(grammar.kind, "grammar" if grammar.kind == "ebnf" else "choice")
    reason = " ".join(reason.split())
    shown = reason if len(reason) <= 400 else f"{reason[:397]}..."
    return InvalidRequestError(
        f"{grammar.param}: this {name} cannot be followed: {shown}",
        remedy="mend it, or leave that part out; docs/structured-output.md says what is supported",
        param=grammar.param,
    )


def _with_deep_stack(work: Callable[[], T]) -> T:
    """Run in a thread whose stack the deepest grammar that fits the text limit does not exhaust."""
    with ThreadPoolExecutor(1, thread_name_prefix="cairn-grammar") as pool:
        with _STACK_LOCK:
            before = threading.stack_size(_STACK_BYTES)
            try:
                future = pool.submit(work)  # starts the thread
            finally:
                threading.stack_size(before)
        return future.result()
