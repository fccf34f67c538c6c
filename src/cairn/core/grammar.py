"""What a reply must be: a JSON document, a match of an expression, a sentence of a grammar, one of some.

A value that travels from the request to the engine and into the receipt. Here it is only known to be
well-formed; whether an expression compiles and a schema can be met is for the engine's compiler to say.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cairn.core.errors import InvalidRequestError

GrammarKind = Literal["json_schema", "json_object", "regex", "ebnf", "choice"]

MAX_GRAMMAR_BYTES = 65_536
"""Bounds the time and the stack that compiling takes."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the whole reply. `InvalidRequestError` where it is not even well-formed."""

    kind: GrammarKind
    text: str = ""
    """The schema as JSON, the expression, the grammar (Lark or GBNF), the texts as a JSON list; of
    `json_object` nothing."""
    param: str = field(default="grammar", compare=False)
    """The request's field that errors name."""

    def __post_init__(self) -> None:
        self._require(self.kind in get_args(GrammarKind), self.kind, ", ".join(get_args(GrammarKind)))
        size = len(self.text.encode(errors="replace"))
        self._require(
            size <= MAX_GRAMMAR_BYTES,
            f"{size} bytes long",
            f"at most {MAX_GRAMMAR_BYTES} bytes",
            "shorten it",
        )
        if self.kind == "json_schema":
            self._require(isinstance(self._json(), dict), self.text, "a JSON schema that is an object")
        elif self.kind == "choice":
            texts = self._json()
            holds = isinstance(texts, list) and texts and all(isinstance(t, str) and t for t in texts)
            self._require(bool(holds), self.text, "a list of texts, none of them empty")
        elif self.kind == "json_object":
            self._require(not self.text, self.text, "no text for json_object")
        else:
            self._require(bool(self.text.strip()), self.text, "an expression or grammar that is not empty")

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any], *, param: str = "grammar") -> "Grammar":
        """Documents that a JSON schema allows; the order of its properties is kept."""
        return cls("json_schema", _json_text(schema, param), param)

    @classmethod
    def choice(cls, texts: Sequence[str], *, param: str = "grammar") -> "Grammar":
        """One of these texts."""
        return cls("choice", _json_text(list(texts), param), param)

    def _json(self) -> Any:
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{self.param} is not valid JSON: {error}", param=self.param) from None

    def _require(self, holds: bool, got: object, allowed: str, remedy: str = "") -> None:
        if not holds:
            shown = got if len(str(got)) <= 80 else f"{str(got)[:77]}..."
            raise InvalidRequestError(
                f"{self.param} is {shown!r}, allowed: {allowed}", remedy=remedy, param=self.param
            )


def _json_text(value: object, param: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{param} cannot be written as JSON: {error}", param=param) from None
