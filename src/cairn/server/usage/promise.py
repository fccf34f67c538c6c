"""Refusing at once what would begin too late: by the engine's measured pace, and by who waits.

The promise is the header `x-cairn-deadline-ms`, or `deadline_seconds` where a request has none: the longest
time until its answer begins. Who waits ahead is counted as the scheduler takes turns: of other tenants no
more than one beyond one's own. Nothing is refused while nobody waits, or before the first requests were
measured. Routes are not judged: they have other targets, and deadlines of their own.
"""

import math

from fastapi import Request

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError
from cairn.providers.protocol import Load
from cairn.server.state import ServerState
from cairn.server.usage.errors import DeadlineError

HEADER = "x-cairn-deadline-ms"


def deadline_of(request: Request, usual: float | None) -> float | None:
    """The longest time until an answer shall begin, in seconds; None: it may take as long as it likes."""
    given = request.headers.get(HEADER)
    if given is None:
        return usual
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InvalidRequestError(
            f"{HEADER} is {given[:40]!r}", remedy="give milliseconds, a whole number", param=HEADER
        )
    return int(given) / 1000


def expected_wait(load: Load, tenant: str) -> float:
    """Seconds until a new request of a tenant is begun."""
    if not load.waiting:
        return 0.0
    own = sum(each.waiting for each in load.tenants if each.tenant == tenant)
    others = sum(min(each.waiting, own + 1) for each in load.tenants if each.tenant != tenant)
    return (own + others + 1) * load.seconds_per_request


def check_promise(state: ServerState, caller: Principal, deadline: float | None, model: str) -> None:
    """`DeadlineError` when an answer of a model would begin too late."""
    if deadline is None or state.routes.route(model) is not None:
        return
    for provider in state.models.loaded():
        if provider.name != model:
            continue
        wait = expected_wait(provider.load(), caller.user_id)
        if wait > deadline:
            raise DeadlineError(
                f"an answer of {model} would begin in about {wait:.1f} s, promised: {deadline:g} s",
                remedy=f"try again in {math.ceil(wait - deadline)} s, or allow more time",
                retry_after=wait - deadline,
            )
