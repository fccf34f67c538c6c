"""The input of a batch: a file of one request a line, checked as a whole before the first is made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cairn.server.batches.objects import LineError

MOST_LINES = 50_000
_MOST_ERRORS = 100


class _Spec(BaseModel):
    """A line as it is written."""

    model_config = ConfigDict(extra="forbid")

    custom_id: str
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """Where a request stands in the file, and what its sender calls it."""

    offset: int
    size: int
    custom_id: str


def read_lines(path: Path, endpoint: str, most_bytes: int) -> tuple[list[Line], list[LineError]]:
    """The requests of a file, and all that is wrong with it (as far as one wants to read it)."""
    lines: list[Line] = []
    errors: list[LineError] = []
    seen: set[str] = set()
    offset = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                found = _read(text, number, endpoint, most_bytes, seen)
                if isinstance(found, LineError):
                    errors.append(found)
                else:
                    lines.append(Line(offset, len(text), found))
                    seen.add(found)
            offset += len(text)
            if len(errors) >= _MOST_ERRORS:
                break
            if len(lines) > MOST_LINES:
                message = f"the file has more than {MOST_LINES} requests; send it in parts"
                errors.append(LineError(code="too_many_tasks", message=message))
                break
    if not lines and not errors:
        errors.append(LineError(code="empty_file", message="the file has no requests"))
    return lines, errors


def body_of(path: Path, line: Line) -> bytes:
    """The body of a request, as JSON."""
    with path.open("rb") as file:
        file.seek(line.offset)
        body = json.loads(file.read(line.size))["body"]
    return json.dumps(body, ensure_ascii=True).encode()


def _read(text: bytes, number: int, endpoint: str, most_bytes: int, seen: set[str]) -> str | LineError:
    """What a line calls itself, or what is wrong with it."""
    if len(text) > most_bytes:
        message = f"the line has {len(text)} bytes, allowed: {most_bytes}"
        return LineError(code="line_too_long", message=message, line=number)
    try:
        spec = _Spec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or None
        return LineError(
            code="invalid_json_line" if first["type"] == "json_invalid" else "invalid_request",
            message=f"{where + ': ' if where else ''}{first['msg']}",
            line=number,
            param=where,
        )
    if spec.url != endpoint:
        message = f"url is {spec.url!r}, allowed: the batch's own, {endpoint!r}"
        return LineError(code="invalid_url", message=message, line=number, param="url")
    if spec.custom_id in seen:
        message = f"custom_id is {spec.custom_id!r} a second time; give every line its own"
        return LineError(code="duplicate_custom_id", message=message, line=number, param="custom_id")
    if spec.body.get("stream"):
        message = "body.stream is true; the answers of a batch are whole"
        return LineError(code="invalid_request", message=message, line=number, param="body.stream")
    return spec.custom_id
