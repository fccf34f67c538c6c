"""What is blotted out of recorded contents: patterns, each replaced by what it was. Done in background."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cairn.telemetry.spans import Attributes

_MOST_CHARACTERS = 40_000
"""Of one attribute; the earliest messages are left out first."""
_HALVED = 100
"""Characters at a cut that are dropped: half of an address would not be found, and is still one."""
_BUILT_IN = (
    ("email", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    ("iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
    ("card", r"\b\d(?:[ -]?\d){12,18}\b"),
    ("key", r"\b(?:sk|pk|rk|ghp|gho|xox[abp]|AKIA|cairn)[-_]?[A-Za-z0-9_-]{16,}"),
    ("key", r"(?i)\bbearer\s+[\w.~+/-]{8,}=*"),
)


@dataclass(frozen=True, slots=True)
class Content:
    """What somebody said: messages of a role and texts, as they are until they are kept."""

    messages: Sequence[Mapping[str, Any]]
    """Each with `role`, `content`, and what else there is to say of it."""


class Redactor:
    """Blots out what the patterns find."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        given = (("redacted", pattern) for pattern in patterns)
        self._patterns = [(name, re.compile(pattern)) for name, pattern in (*_BUILT_IN, *given)]

    def text(self, text: str, most: int = _MOST_CHARACTERS) -> str:
        """The beginning of a text without what the patterns find."""
        part = text[:most]
        for name, pattern in self._patterns:
            part = pattern.sub(f"[{name}]", part)
        return part if len(text) <= most else f"{part[:-_HALVED]}…"

    def attributes(self, attributes: Mapping[str, Any]) -> Attributes:
        """Attributes with their contents as JSON, blotted out; nothing else holds what somebody said."""
        return {
            name: self._json(value) if isinstance(value, Content) else value
            for name, value in attributes.items()
        }

    def _json(self, content: Content) -> str:
        left, found = _MOST_CHARACTERS, []
        for message in reversed(content.messages):
            if left <= _HALVED:
                left_out = [{"type": "text", "content": "(earlier: left out)"}]
                found.append({"role": "system", "parts": left_out})
                break
            text = self.text(str(message["content"]), left)
            left -= len(text)
            more = {name: value for name, value in message.items() if name not in ("role", "content")}
            parts = [{"type": "text", "content": text}]
            found.append({"role": message["role"], "parts": parts, **more})
        return json.dumps(found[::-1], ensure_ascii=False)
