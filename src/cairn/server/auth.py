"""Sign-in: who a request comes from, by key or by cookie, and the routes that begin and end a session."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, RedirectResponse, Response

from cairn.core.chat import Principal
from cairn.core.errors import AuthenticationError, CairnError, ForbiddenError
from cairn.server.body import RequestBody
from cairn.server.errors import cairn_error_response
from cairn.server.identity import ADMIN, COOKIE
from cairn.server.state import ServerState, state_of

router = APIRouter(tags=["session"])


class KeyBody(RequestBody):
    """An API key, to be exchanged for a session."""

    key: str


class SessionInfo(BaseModel):
    """Who is signed in."""

    user_id: str
    roles: list[str]


def current_principal(request: Request) -> Principal:
    """Who asks; a Bearer key wins over a cookie."""
    state = state_of(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer":
            return state.identity.principal_for_key(key.strip())
        if cookie := request.cookies.get(COOKIE):
            return state.identity.principal_for_session(cookie)
    except AuthenticationError:
        # Right keys are never slowed down by somebody else's wrong ones behind the same address.
        state.failures.check(_address(request))
        state.failures.failed(_address(request))
        raise
    raise AuthenticationError(
        "this needs a key or a sign-in", remedy="send 'Authorization: Bearer <key>', or open the sign-in link"
    )


Caller = Annotated[Principal, Depends(current_principal)]


def _administrator(caller: Caller) -> Principal:
    if ADMIN not in caller.roles:
        raise ForbiddenError(
            f"{caller.user_id} is no administrator", remedy="sign in with an administrator's key"
        )
    return caller


Administrator = Annotated[Principal, Depends(_administrator)]


def may_read_metrics(request: Request) -> None:
    """Metrics name the users: they are open to this machine itself, and to administrators."""
    is_direct = not any(name in request.headers for name in ("x-forwarded-for", "forwarded"))
    if not (is_direct and _address(request) in ("127.0.0.1", "::1")):
        _administrator(current_principal(request))


@router.get("/sign-in", response_class=Response, include_in_schema=False)
def sign_in_by_link(request: Request, token: str) -> Response:
    """Use a one-time link: sets the session cookie and leads to the page."""
    state = state_of(request)
    try:
        principal = _attempt(request, lambda: state.identity.redeem(token))
    except CairnError as error:
        # The page explains and offers the key form; a program sees the status and the error object.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/?sign-in=expired", 303)
        return cairn_error_response(error)
    return _with_session(request, state, principal, RedirectResponse("/", 303))


@router.post("/api/sign-in")
def sign_in_by_key(request: Request, body: KeyBody) -> SessionInfo:
    """Exchange a key for a session cookie."""
    state = state_of(request)
    principal = _attempt(request, lambda: state.identity.principal_for_key(body.key.strip()))
    response = JSONResponse(_info(principal).model_dump())
    return _with_session(request, state, principal, response)  # type: ignore[return-value]  # a ready response


@router.post("/api/sign-out", status_code=204)
def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    if cookie := request.cookies.get(COOKIE):
        state_of(request).identity.end_session(cookie)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/api/session")
def session_info(caller: Caller) -> SessionInfo:
    """Who is signed in; 401 when nobody is."""
    return _info(caller)


def _attempt(request: Request, check: Callable[[], Principal]) -> Principal:
    state = state_of(request)
    state.failures.check(_address(request))
    try:
        return check()
    except AuthenticationError:
        state.failures.failed(_address(request))
        raise


def _with_session(request: Request, state: ServerState, principal: Principal, response: Response) -> Response:
    seconds = state.config.session_seconds
    response.set_cookie(
        COOKIE,
        state.identity.create_session(principal.user_id, seconds=seconds),
        max_age=int(seconds),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _info(principal: Principal) -> SessionInfo:
    return SessionInfo(user_id=principal.user_id, roles=sorted(principal.roles))


def _address(request: Request) -> str:
    return request.client.host if request.client else "local"
