"""Who a request comes from, by key or by cookie, and what its route asks of them.

Every route names its rule: `Annotated[Principal, allowed(Permission.CHAT)]`, or `dependencies=[PUBLIC]`
where anybody may come. The table of who has which permission is `cairn.server.identity.permissions`.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, ForbiddenError
from cairn.server.identity import COOKIE
from cairn.server.identity.permissions import Permission, require
from cairn.server.identity.principals import Kind
from cairn.server.identity.throttle import address_source
from cairn.server.state import state_of
from cairn.server.streaming import RECHECK
from cairn.telemetry import current

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
PRINCIPAL = "cairn.principal"
"""Where the scope of a request that the server makes itself says on whose behalf; no client can."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The dependency that lets only callers with a permission pass; they are its value."""

    permission: Permission

    async def __call__(self, request: Request) -> Principal:
        request.scope[RECHECK] = self.checked
        with current().child("identity") as span:
            caller = await self.checked(request)
        span.note(user_id=caller.user_id, key_id=caller.key_id)
        return caller

    async def checked(self, request: Request) -> Principal:
        """The caller, or why they may not come."""
        caller = await current_principal(request)
        require(caller, self.permission)
        return caller


def allowed(permission: Permission) -> Any:
    """`Depends` on a permission."""
    return Depends(Rule(permission))


async def public() -> None:
    """Anybody may come: said where it is so, because a route without a rule is a mistake."""


PUBLIC = Depends(public)
Caller = Annotated[Principal, allowed(Permission.CHAT)]
"""Whoever may ask models."""
Administrator = Annotated[Principal, allowed(Permission.MANAGE_SERVER)]
SignedIn = Annotated[Principal, allowed(Permission.ACCOUNT)]
MayConverse = Annotated[Principal, allowed(Permission.CONVERSATIONS)]
MayReadModels = Annotated[Principal, allowed(Permission.READ_MODELS)]
MayManageModels = Annotated[Principal, allowed(Permission.MANAGE_MODELS)]
MayManageRoutes = Annotated[Principal, allowed(Permission.MANAGE_ROUTES)]
MayReadCatalogue = Annotated[Principal, allowed(Permission.READ_CATALOGUE)]
MayReadKnowledge = Annotated[Principal, allowed(Permission.READ_KNOWLEDGE)]
MayManagePeople = Annotated[Principal, allowed(Permission.MANAGE_PEOPLE)]
MayManageKnowledge = Annotated[Principal, allowed(Permission.MANAGE_KNOWLEDGE)]


async def current_principal(request: Request) -> Principal:
    """Who asks; a key wins over a cookie."""
    if PRINCIPAL in request.scope:
        principal: Principal = request.scope[PRINCIPAL]
        return principal
    state = state_of(request)
    kind, secret = _credential(request)
    identity = state.identity
    known = identity.remembered(kind, secret)
    if known is None:
        try:
            known = await asyncio.to_thread(identity.principal_for, kind, secret)
        except AuthenticationError:
            # Right keys are never slowed down by somebody else's wrong ones behind the same address.
            state.failures.failed(address_source(address_of(request)))
            raise
    if identity.has_uses:
        # Nobody waits for it: it is a note, and a long write may hold the database.
        asyncio.get_running_loop().run_in_executor(None, identity.write_uses)
    return known


def _credential(request: Request) -> tuple[Kind, str]:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return "key", key.strip()
    if (key := request.headers.get("x-api-key", "")) and not scheme:  # as Anthropic's clients send it
        return "key", key.strip()
    if cookie := request.cookies.get(COOKIE):
        _refuse_unproven(request)
        return "session", cookie
    raise AuthenticationError(
        "this needs a key or a sign-in", remedy="send 'Authorization: Bearer <key>', or open the sign-in link"
    )


def _refuse_unproven(request: Request) -> None:
    """A cookie comes with whatever makes a browser send a request; a write must show that its page was ours.

    What these headers say is checked for all requests alike (`HostAndOrigin`); every browser of
    today sends one of them.
    """
    headers = request.headers
    if request.method not in _SAFE_METHODS and "origin" not in headers and "sec-fetch-site" not in headers:
        raise ForbiddenError(
            "a write with a cookie must say which page it comes from", remedy="send Origin, or use a key"
        )


async def may_read_metrics(request: Request) -> None:
    """Metrics name the users: they are open to this machine itself, and to administrators."""
    is_direct = not any(name in request.headers for name in ("x-forwarded-for", "forwarded"))
    if not (is_direct and address_of(request) in ("127.0.0.1", "::1")):
        require(await current_principal(request), Permission.MANAGE_SERVER)


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "local"
