"""The base of every request body: strict about fields, and about text that is no text."""

import difflib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from cairn.core.errors import InvalidRequestError

_MAX_DEPTH = 100
"""Of objects and lists within each other; what a client sends has a few, what stack frames allow is less."""

ShortText = Annotated[str, StringConstraints(max_length=200)]
"""A name, or a line about something."""


class Strict(BaseModel):
    """A part of a request; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class RequestBody(Strict):
    """A whole body. An unknown field is named with its near miss; what no database stores is refused."""

    @model_validator(mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        if isinstance(value, dict):
            _check_depth(value)
            _check_text(value)
            for name in value:
                if name not in cls.model_fields:
                    raise _unknown(name, list(cls.model_fields))
        return value


def _unknown(name: str, known: list[str]) -> InvalidRequestError:
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else "leave it out"
    return InvalidRequestError(f"unknown field {name!r}", remedy=remedy, param=name)


def _check_depth(value: Any) -> None:
    """Level by level: a recursive walk would itself run out of stack."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise InvalidRequestError(
        f"the body nests more than {_MAX_DEPTH} levels deep", remedy="send a flatter one"
    )


def _check_text(value: dict[str, Any]) -> None:
    """JSON can spell `"\\ud800"`, which no encoding takes, and `"\\u0000"`, which Postgres does not."""
    # A body made here, of parts that were checked as they came, may hold these as objects.
    text = json.dumps(value, ensure_ascii=False, default=lambda _part: None)
    # An escaped backslash before `u0000` is a text that only looks like the character.
    if "\\u0000" in text.replace("\\\\", ""):
        raise InvalidRequestError("the body holds a NUL character", remedy="remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "the body holds half a surrogate pair, which is not Unicode text",
            remedy="escape characters beyond U+FFFF as a pair, or send them as UTF-8",
        ) from None
