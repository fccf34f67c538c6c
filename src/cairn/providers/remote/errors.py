"""What goes wrong at another server, and what each failure is worth.

`retry` says whether the same request may do better: `again` (here or elsewhere, after a pause), `elsewhere`
(at another target alone), `no` (nowhere: the request itself is wrong).
"""

from typing import ClassVar, Literal

from cairn.core.errors import (
    CairnError,
    ContextLengthError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
)

Retry = Literal["again", "elsewhere", "no"]

_SHOWN = 300
"""Characters of an upstream's message that are passed on."""


class UpstreamError(CairnError):
    """Base of every failure of another server."""

    code = "upstream.failed"
    http_status = 502
    retry: ClassVar[Retry] = "again"


class UpstreamRequestError(UpstreamError, InvalidRequestError):
    """The upstream found the request wrong."""

    code = "upstream.bad_request"
    http_status = 400
    retry = "no"


class UpstreamContextError(UpstreamError, ContextLengthError):
    """The upstream's model reads less than was sent; another target's may read more."""

    code = "context_length_exceeded"
    http_status = 400
    retry = "elsewhere"


class UpstreamNotAllowedError(UpstreamError):
    """The upstream refused this server's key, or has no such model: a mistake in the routes' file."""

    code = "upstream.not_allowed"
    retry = "elsewhere"


class UnfitTargetError(UpstreamError, InvalidRequestError):
    """A request that this sort of provider cannot serve; another target may."""

    code = "upstream.cannot"
    http_status = 400
    retry = "elsewhere"


class UpstreamOverloadedError(UpstreamError, OverloadedError):
    """The upstream is full, or has had enough of this key for now."""

    code = "upstream.overloaded"
    http_status = 429


class UpstreamUnavailableError(UpstreamError, UnavailableError):
    """The upstream cannot be reached, is silent, broke off, or failed inside."""

    code = "upstream.unavailable"
    http_status = 502


class UpstreamGarbageError(UpstreamError):
    """The upstream said something that is not of its API."""

    code = "upstream.garbage"


def worth(error: CairnError) -> Retry:
    """What a failure of any provider is worth, local ones included."""
    if isinstance(error, UpstreamError):
        return error.retry
    if isinstance(error, UnavailableError):
        return "again"
    if isinstance(error, InvalidRequestError) and not isinstance(error, ContextLengthError):
        return "no"
    return "elsewhere"


def error_of(
    provider: str, status: int, message: str, *, code: str = "", retry_after: float | None = None
) -> UpstreamError:
    """The error of an upstream's status, with its message as far as it is for the caller."""
    shown = message if len(message) <= _SHOWN else f"{message[:_SHOWN]}..."
    if status in (401, 403):
        return UpstreamNotAllowedError(
            f"provider {provider!r} refused this server's key ({status})",
            remedy="the variable that the routes' file names must hold a key with access to this model",
        )
    if status == 404:
        return UpstreamNotAllowedError(
            f"provider {provider!r} has no such model or path: {shown}",
            remedy="check base_url and model in the routes' file",
        )
    if status in (429, 529) or (status == 503 and retry_after is not None):
        return UpstreamOverloadedError(
            f"provider {provider!r} is overloaded ({status})",
            remedy="ask again later",
            retry_after=retry_after,
        )
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return UpstreamUnavailableError(
            f"provider {provider!r} answered {status}", remedy="ask again", retry_after=retry_after
        )
    if code == "context_length_exceeded" or "context length" in message or "prompt is too long" in message:
        return UpstreamContextError(f"provider {provider!r}: {shown}", param="messages")
    return UpstreamRequestError(f"provider {provider!r} refused the request: {shown}")
