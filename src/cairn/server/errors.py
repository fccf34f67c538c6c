"""Every failure in OpenAI's error shape: `{"error": {"message", "type", "param", "code", "remedy"}}`.

Below `/v1/messages` it is Anthropic's: `{"type": "error", "error": {"type", "message", "details"}}`.

The message ends with the remedy, so that any client's traceback shows it; the field of its own, which
OpenAI does not have, is for those who show it apart. What is not a known
error is logged with its traceback and answered with 500 and nothing of its inside.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cairn.core.errors import CairnError, UnavailableError, joined
from cairn.telemetry import current

logger = logging.getLogger("cairn.server")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    **_TYPES,
    408: "timeout_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}
_ANTHROPIC_PATH = "/v1/messages"


class ErrorDetail(BaseModel):
    """What went wrong, and the field it was about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    remedy: str | None = None
    """What to do next; the message ends with it too."""


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail


class AnthropicErrorDetail(BaseModel):
    """What went wrong; `details` has what OpenAI's shape calls `code` and `param`."""

    type: str
    message: str
    details: dict[str, str | None]


class AnthropicErrorBody(BaseModel):
    """Anthropic's error shape."""

    type: Literal["error"] = "error"
    error: AnthropicErrorDetail
    request_id: str


class ErrorResponse(JSONResponse):
    """An error, written in the shape of the API over which it is told."""

    def __init__(
        self, content: dict[str, Any], status_code: int, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code, headers)
        self._content = content

    def shaped(self, scope: Scope) -> Response:
        """What goes out for a request."""
        path, request_id = scope["path"], scope.get("request_id", "")
        if path != _ANTHROPIC_PATH and not path.startswith(f"{_ANTHROPIC_PATH}/"):
            return Response(self.body, self.status_code, self._own_headers(), self.media_type)
        body = anthropic_error_body(self.status_code, self._content, request_id)
        return JSONResponse(body, self.status_code, {**self._own_headers(), "request-id": request_id})

    def _own_headers(self) -> dict[str, str]:
        return {k: v for k, v in self.headers.items() if k not in ("content-length", "content-type")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.shaped(scope)(scope, receive, send)


class TimeLimitError(CairnError):
    """A request that took longer than the server allows."""

    code = "request.timeout"
    http_status = 504


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None, remedy: str = ""
) -> dict[str, Any]:
    """The error object of a status."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": joined(message, remedy), "type": kind, "param": param, "code": code}
    return {"error": {**error, "remedy": remedy or None}}


def anthropic_error_body(status: int, body: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """The same in Anthropic's shape."""
    error = body["error"]
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    details = {"error_code": error["code"], "param": error["param"]}
    return {
        "type": "error",
        "error": {"type": kind, "message": error["message"], "details": details},
        "request_id": request_id,
    }


def cairn_error_body(error: CairnError) -> dict[str, Any]:
    """A known error as an error object."""
    param = getattr(error, "param", None)
    return error_body(error.http_status, error.message, param=param, code=error.code, remedy=error.remedy)


def cairn_error_response(error: CairnError) -> ErrorResponse:
    """A known error as a response, with `Retry-After` when waiting helps."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or 1)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, TimeLimitError):
        headers["x-should-retry"] = "false"  # the same request would take as long again
    headers |= getattr(error, "headers", {})
    return ErrorResponse(cairn_error_body(error), error.http_status, headers)


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None, remedy: str = ""
) -> ErrorResponse:
    """Any error as a response."""
    return ErrorResponse(error_body(status, message, param=param, code=code, remedy=remedy), status)


def install_error_handlers(app: FastAPI) -> None:
    """Make the application answer every failure in the one shape."""

    @app.exception_handler(CairnError)
    async def on_cairn_error(_request: Request, error: CairnError) -> JSONResponse:
        if error.http_status >= 500:
            logger.warning("%s: %s", error.code, error.message)
        current().note(error=error.code)
        return cairn_error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _validation_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        messages = {
            400: "the body is not valid UTF-8 JSON, or nests too deep",
            404: f"no such path: {request.method} {request.url.path}",
            405: f"{request.url.path} does not take {request.method}",
        }
        response = error_response(error.status_code, messages.get(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    app.add_middleware(LastResort)


class LastResort:
    """Answers what no handler knew with 500. A reply that had begun cannot be mended: its connection ends.

    Within Starlette's own, which raises what it has answered once more, so that the connection is cut.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watch(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            request_id = scope["request_id"]
            logger.error("failed: %s %s (%s)", scope["method"], scope["path"], request_id, exc_info=error)
            message = f"the server failed on this request; its log says why, under {request_id}"
            await error_response(500, message, code="server.bug")(scope, receive, send)


def _validation_response(error: RequestValidationError) -> ErrorResponse:
    details = [each for each in error.errors() if not _is_other_choice(each, error.errors())]
    first = details[0]
    if first["type"] == "json_invalid":
        return error_response(
            400, f"the body is not valid JSON: {first['ctx']['error']} at byte {first['loc'][-1]}"
        )
    message = "; ".join(_problem(detail) for detail in details[:5])
    return error_response(400, message, param=_path(first["loc"]), code="request.invalid")


def _is_other_choice(detail: Any, details: Sequence[Any]) -> bool:
    """Whether a detail only says that what was given is no text, where it is a list with a mistake in it."""
    loc = detail["loc"]
    is_deeper = (len(each["loc"]) > len(loc) and each["loc"][: len(loc) - 1] == loc[:-1] for each in details)
    return loc[-1:] == ("str",) and any(is_deeper)


def _problem(detail: Any) -> str:
    where = _path(detail["loc"]) or "the body"
    if detail["type"] == "extra_forbidden":
        return f"unknown field {where!r}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    if detail["type"] in ("model_attributes_type", "dict_type") and where == "the body":
        return "the body must be a JSON object sent as content-type application/json"
    got = repr(detail.get("input"))
    return f"{where}: {detail['msg']}, got {got if len(got) <= 80 else got[:77] + '...'}"


def _path(loc: Iterable[str | int]) -> str | None:
    """`('body', 'messages', 0, 'role')` as `messages[0].role`, without pydantic's names of union members."""
    names = (part if isinstance(part, int) or part.replace("_", "").islower() else "" for part in loc)
    parts = [name for name in names if name not in ("", "str")]
    if parts and parts[0] in ("body", "query", "path"):
        parts = parts[1:]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or None
