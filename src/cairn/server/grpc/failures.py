"""Failures of HTTP as those of gRPC: a status, the message, and google.rpc's details with code and remedy."""

import json
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DETAILS = "grpc-status-details-bin"
_DOMAIN = "cairn"
_Code = grpc.StatusCode

_BY_CODE = {
    "deadline_unreachable": _Code.DEADLINE_EXCEEDED,
    "request.timeout": _Code.DEADLINE_EXCEEDED,
    "unavailable": _Code.UNAVAILABLE,
    "storage.failed": _Code.UNAVAILABLE,
}
_BY_STATUS = {
    400: _Code.INVALID_ARGUMENT,
    401: _Code.UNAUTHENTICATED,
    403: _Code.PERMISSION_DENIED,
    404: _Code.NOT_FOUND,
    408: _Code.DEADLINE_EXCEEDED,
    409: _Code.ABORTED,
    413: _Code.RESOURCE_EXHAUSTED,
    429: _Code.RESOURCE_EXHAUSTED,
    499: _Code.CANCELLED,
    502: _Code.UNAVAILABLE,
    503: _Code.UNAVAILABLE,
    504: _Code.DEADLINE_EXCEEDED,
    507: _Code.UNAVAILABLE,
}
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "rate_limit_error": 429,
}
"""Of a failure within a stream, whose HTTP status was sent before."""


class CallError(Exception):
    """What a call ends with instead of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str, trailers: tuple[tuple[str, str | bytes], ...]):
        super().__init__(message)
        self.code, self.message, self.trailers = code, message, trailers


def failure(status: int | None, body: bytes, headers: Mapping[str, str]) -> CallError:
    """A refusal, from its body in OpenAI's shape; `status` None: told within a stream."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        error = {"message": f"the server answered with {status}", "code": None}
    return _failure(status or _STATUS_OF_TYPE.get(error.get("type"), 500), error, headers)


def _failure(status: int, error: Mapping[str, Any], headers: Mapping[str, str]) -> CallError:
    code = _BY_CODE.get(error.get("code") or "")
    if code is None:
        code = _BY_STATUS.get(status, _Code.INTERNAL if status >= 500 else _Code.INVALID_ARGUMENT)
    known = {
        "remedy": error.get("remedy"),
        "param": error.get("param"),
        "request_id": headers.get("x-request-id"),
    }
    info = ErrorInfo(reason=error.get("code") or error.get("type") or "", domain=_DOMAIN)
    info.metadata.update({name: str(value) for name, value in known.items() if value})
    details = Status(code=code.value[0], message=error["message"])
    details.details.add().Pack(info)
    wait = headers.get("retry-after", "")
    if wait.isdigit():
        details.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=int(wait))))
    return CallError(code, error["message"], ((DETAILS, details.SerializeToString()),))
