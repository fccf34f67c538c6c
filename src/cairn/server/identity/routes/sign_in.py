"""Signing in by link, key or password, and out again."""

import secrets
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from starlette.responses import JSONResponse, RedirectResponse, Response

from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, CairnError
from cairn.server.auth import PUBLIC, SignedIn, address_of
from cairn.server.body import RequestBody
from cairn.server.errors import cairn_error_response
from cairn.server.identity import COOKIE
from cairn.server.identity.changes import digest_of
from cairn.server.identity.permissions import permissions_of
from cairn.server.identity.sessions import Browser
from cairn.server.identity.throttle import address_source
from cairn.server.state import ServerState, state_of

router = APIRouter(tags=["session"])

_DEVICE = "cairn_device"
_DEVICE_SECONDS = 365 * 86400


class KeyBody(RequestBody):
    """An API key, to be exchanged for a session."""

    key: Annotated[str, StringConstraints(max_length=1000)]


class PasswordBody(RequestBody):
    """Who signs in (user name or e-mail address), and the password."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    password: Annotated[str, StringConstraints(max_length=10_000)]


class SessionInfo(BaseModel):
    """Who is signed in, and what they may do."""

    user_id: str
    roles: list[str]
    groups: list[str]
    permissions: list[str]


@router.get("/sign-in", response_class=Response, include_in_schema=False, dependencies=[PUBLIC])
def sign_in_by_link(request: Request, token: str) -> Response:
    """Use a one-time link: sets the session cookie and leads to the page."""
    state = state_of(request)
    try:
        with attempt(request):
            principal = state.identity.redeem(token)
    except CairnError as error:
        # The page explains and offers the key form; a program sees the status and the error object.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/?sign-in=expired", 303)
        return cairn_error_response(error)
    return with_session(request, state, principal, RedirectResponse("/", 303))


@router.post("/api/sign-in", dependencies=[PUBLIC])
def sign_in_by_key(request: Request, body: KeyBody) -> SessionInfo:
    """Exchange a key for a session cookie. The session has all of its owner's permissions, so a narrowed
    key gives none."""
    state = state_of(request)
    with attempt(request):
        principal = state.identity.principal_for_key(body.key.strip())
    if principal.scopes is not None or principal.models is not None:
        raise AuthenticationError(
            "a key with scopes or models of its own cannot sign a browser in",
            remedy="sign in with your password, or with a key that is not narrowed",
        )
    return _answered(request, state, principal)


@router.post("/api/sign-in/password", dependencies=[PUBLIC])
def sign_in_by_password(request: Request, body: PasswordBody) -> SessionInfo:
    """Sign in with a password."""
    state = state_of(request)
    name, device = body.name.strip(), request.cookies.get(_DEVICE, "")
    # A browser that was here before waits for its own failures, not for those of strangers.
    is_known = bool(device) and state.identity.knows_device(name, device)
    source = f"device {digest_of(device)}" if is_known else f"account {digest_of(name.lower())}"
    with attempt(request, source):
        principal = state.identity.principal_for_password(name, body.password)
    device = device if is_known else secrets.token_urlsafe(32)
    state.identity.remember_device(principal.user_id, device)
    response = _answered(request, state, principal)
    _set_cookie(request, response, _DEVICE, device, _DEVICE_SECONDS)  # type: ignore[arg-type]  # a response
    return response


@router.post("/api/sign-out", status_code=204, dependencies=[PUBLIC])
def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    if cookie := request.cookies.get(COOKIE):
        state_of(request).identity.end_session(cookie)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=is_secure(request))
    return response


@router.get("/api/session")
def session_info(caller: SignedIn) -> SessionInfo:
    """Who is signed in; 401 when nobody is."""
    return _info(caller)


def attempt(request: Request, *sources: str) -> AbstractContextManager[None]:
    """A guess from an address, and from where else it is counted."""
    return state_of(request).failures.attempt(address_source(address_of(request)), *sources)


def with_session(request: Request, state: ServerState, principal: Principal, response: Response) -> Response:
    """A response that signs in: always with a new session, in the place of the one this browser had."""
    config, identity = state.config, state.identity
    if before := request.cookies.get(COOKIE):
        identity.end_session(before)
    cookie = identity.create_session(
        principal.user_id,
        seconds=config.session_seconds,
        most=config.session_max_seconds,
        browser=Browser(address_of(request), request.headers.get("user-agent", "")),
    )
    # The cookie is kept for as long as a session may last; when it ends unused, the server says.
    _set_cookie(request, response, COOKIE, cookie, int(config.session_max_seconds))
    return response


def _answered(request: Request, state: ServerState, principal: Principal) -> SessionInfo:
    response = JSONResponse(_info(principal).model_dump())
    return with_session(request, state, principal, response)  # type: ignore[return-value]  # a ready response


def _set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, httponly=True, samesite="strict", secure=is_secure(request)
    )


def is_secure(request: Request) -> bool:
    """Whether a cookie may be kept to HTTPS."""
    return request.url.scheme == "https"


def _info(principal: Principal) -> SessionInfo:
    return SessionInfo(
        user_id=principal.user_id,
        roles=sorted(principal.roles),
        groups=sorted(principal.groups),
        permissions=sorted(permissions_of(principal)),
    )
