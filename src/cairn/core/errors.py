"""The error tree: every mistake a person can make carries a remedy and a stable code.

A `CairnError` is for people: the message says what went wrong, what was got and what is
allowed; `remedy` says what to do next; `code` is stable and may be matched by programs.
Broken invariants of our own are `assert`s, never a `CairnError`. Rooms subclass these
where a caller needs to tell their failures apart.
"""

from typing import ClassVar


class CairnError(Exception):
    """Base of everything a user can cause and mend. `code` is `area.what`, stable across releases."""

    code: ClassVar[str] = "cairn.error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def sentence(self) -> str:
        """Message and remedy in one line, for where there is no second one."""
        return joined(self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


def joined(message: str, remedy: str) -> str:
    """`no such model; choose one of these`."""
    if not remedy:
        return message
    return f"{message}{' ' if message.endswith(('.', '!', '?')) else '; '}{remedy}"


class ConfigError(CairnError):
    """A config file, recipe, variable or flag that does not say something allowed."""

    code = "config.invalid"
    http_status = 400


class InvalidRequestError(CairnError):
    """A request whose content is wrong. `param` names the field, as OpenAI's error shape does."""

    code = "request.invalid"
    http_status = 400

    def __init__(self, message: str, *, remedy: str = "", param: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.param = param


class ContextLengthError(InvalidRequestError):
    """A prompt (with the tokens asked for) longer than the model or the KV pool can hold."""

    code = "context_length_exceeded"


class NotFoundError(CairnError):
    """A name, digest, file or id that does not exist."""

    code = "not_found"
    http_status = 404


class ConflictError(CairnError):
    """An action that another one has overtaken, or that would break something still in use."""

    code = "conflict"
    http_status = 409


class IntegrityError(CairnError):
    """Bytes that are not what their digest, header or hash chain says they are."""

    code = "integrity.broken"


class StorageError(CairnError):
    """The disk or database refused: full, read-only, unreachable. Nothing half-written remains."""

    code = "storage.failed"
    http_status = 507


class UnsupportedModelError(CairnError):
    """A checkpoint of a family, format or option that Cairn does not run."""

    code = "model.unsupported"
    http_status = 400


class UnavailableError(CairnError):
    """A service that cannot take the work now. `retry_after` is in seconds."""

    code = "unavailable"
    http_status = 503

    def __init__(self, message: str, *, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StorageUnavailableError(StorageError, UnavailableError):
    """The database cannot be reached, or another process holds it; the same may do in a moment."""

    code = "storage.unavailable"
    http_status = 503


class OverloadedError(UnavailableError):
    """Back-pressure: the queue is full. The caller should wait `retry_after` seconds."""

    code = "overloaded"
    http_status = 429


class AuthenticationError(CairnError):
    """No key or session, or one that is wrong or expired."""

    code = "auth.required"
    http_status = 401


class ForbiddenError(CairnError):
    """Something that a signed-in caller's roles do not allow."""

    code = "auth.forbidden"
    http_status = 403


class MissingExtraError(CairnError):
    """A feature whose optional packages are not installed."""

    code = "install.extra_missing"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            remedy=f"install them: pip install 'cairn[{extra}]'",
        )
