"""Every failure in OpenAI's error shape: `{"error": {"message", "type", "param", "code", "remedy"}}`.

The message ends with the remedy, so that any client's traceback shows it; the field of its own, which
OpenAI does not have, is for those who show it apart. What is not a known
error is logged with its traceback and answered with 500 and nothing of its inside.
"""

import logging
import math
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cairn.core.errors import CairnError, UnavailableError, joined

logger = logging.getLogger("cairn.server")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


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


def cairn_error_body(error: CairnError) -> dict[str, Any]:
    """A known error as an error object."""
    param = getattr(error, "param", None)
    return error_body(error.http_status, error.message, param=param, code=error.code, remedy=error.remedy)


def cairn_error_response(error: CairnError) -> JSONResponse:
    """A known error as a response, with `Retry-After` when waiting helps."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or 1)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, TimeLimitError):
        headers["x-should-retry"] = "false"  # the same request would take as long again
    return JSONResponse(cairn_error_body(error), error.http_status, headers)


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None, remedy: str = ""
) -> JSONResponse:
    """Any error as a response."""
    return JSONResponse(error_body(status, message, param=param, code=code, remedy=remedy), status)


def install_error_handlers(app: FastAPI) -> None:
    """Make the application answer every failure in the one shape."""

    @app.exception_handler(CairnError)
    async def on_cairn_error(_request: Request, error: CairnError) -> JSONResponse:
        if error.http_status >= 500:
            logger.warning("%s: %s", error.code, error.message)
        return cairn_error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _validation_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        messages = {
            400: "the body is not valid UTF-8 JSON",
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


def _validation_response(error: RequestValidationError) -> JSONResponse:
    details = error.errors()
    first = details[0]
    if first["type"] == "json_invalid":
        return error_response(
            400, f"the body is not valid JSON: {first['ctx']['error']} at byte {first['loc'][-1]}"
        )
    message = "; ".join(_problem(detail) for detail in details[:5])
    return error_response(400, message, param=_path(first["loc"]), code="request.invalid")


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
    parts = [part for part in loc if isinstance(part, int) or part.replace("_", "").islower()]
    if parts and parts[0] in ("body", "query", "path"):
        parts = parts[1:]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or None
