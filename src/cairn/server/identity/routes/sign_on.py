"""Signing in at an identity provider: away to it, and back."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import RedirectResponse, Response

from cairn.core.errors import AuthenticationError, CairnError
from cairn.server.auth import PUBLIC
from cairn.server.errors import cairn_error_response
from cairn.server.identity.routes.sign_in import attempt, is_secure, with_session
from cairn.server.identity.sign_on import account_of
from cairn.server.state import state_of

router = APIRouter(tags=["session"], dependencies=[PUBLIC])

_HANDLE = "cairn_sign_on"
_PATH = "/sign-in/oidc"
_SECONDS = 600


class SignInWays(BaseModel):
    """How one may sign in, besides by password, key and link."""

    single_sign_on: str | None
    """What the identity provider is called; null: there is none."""


@router.get("/api/sign-in")
def sign_in_ways(request: Request) -> SignInWays:
    """How one may sign in here."""
    config = state_of(request).config.sign_on
    return SignInWays(single_sign_on=config.name if config else None)


@router.get(_PATH, response_class=Response, include_in_schema=False)
def begin_sign_on(request: Request) -> Response:
    """Send the browser to the identity provider."""
    url, handle = state_of(request).sign_on.begin(
        f"{request.url.scheme}://{request.url.netloc}{_PATH}/callback"
    )
    response = RedirectResponse(url, 303)
    # Lax, because the way back begins on a page of the provider's.
    kept: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": is_secure(request)}
    response.set_cookie(_HANDLE, handle, max_age=_SECONDS, path=_PATH, **kept)
    return response


@router.get(f"{_PATH}/callback", response_class=Response, include_in_schema=False)
def finish_sign_on(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Back from the identity provider: makes the account the first time, and signs in."""
    server = state_of(request)

    try:
        with attempt(request):
            if error or not code:
                said = error or "it sent no code"
                raise AuthenticationError(f"the identity provider refused: {said}"[:200])
            handle = request.cookies.get(_HANDLE, "")
            claims = server.sign_on.finish(handle, state=state, code=code)
            with server.identity.changing("single sign-on") as change:
                user_id = account_of(change, server.sign_on.config, claims)
            principal = server.identity.principal_of(user_id)
    except CairnError as problem:
        # The page explains and offers the other ways; a program sees the status and the error object.
        is_browser = "text/html" in request.headers.get("accept", "")
        response: Response = (
            RedirectResponse("/?sign-in=failed", 303) if is_browser else cairn_error_response(problem)
        )
    else:
        response = with_session(request, server, principal, RedirectResponse("/", 303))
    response.delete_cookie(_HANDLE, path=_PATH, httponly=True, samesite="lax", secure=is_secure(request))
    return response
