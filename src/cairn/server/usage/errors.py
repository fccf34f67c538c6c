"""Refusals for having used too much, in the shapes that clients of OpenAI's API know."""

from collections.abc import Mapping

from cairn.core.errors import OverloadedError


class RateLimitedError(OverloadedError):
    """More than a rule allows in its window; `headers` say how it stands."""

    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, remedy: str, retry_after: float, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, retry_after=retry_after)
        self.headers = dict(headers or {})


class BudgetError(RateLimitedError):
    """A budget that is used up. Trying again soon does not help, and clients are told so."""

    code = "insufficient_quota"


class DeadlineError(RateLimitedError):
    """Too many wait for the answer to begin within the promised time."""

    code = "deadline_unreachable"
