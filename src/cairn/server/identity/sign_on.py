"""Single sign-on: OpenID Connect's code flow with state, nonce and PKCE, through Authlib.

What an identity provider says is believed when its signature, issuer, audience, nonce and times are right.
A sign-in that was begun can be ended once, in the browser in which it began, within ten minutes.
An account is found by issuer and subject, never by name or e-mail address: who can choose these at the
provider must not become somebody else here.
"""

import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cairn.core.errors import AuthenticationError, ConfigError, MissingExtraError, UnavailableError
from cairn.server.config import SignOnConfig
from cairn.server.identity import people
from cairn.server.identity.changes import Change
from cairn.server.identity.permissions import checked_roles
from cairn.server.tables import ExternalLoginRow, GroupRow, MembershipRow

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session

logger = logging.getLogger("cairn.server")

_PENDING_SECONDS = 600.0
_MAX_PENDING = 10_000
_METADATA_SECONDS = 3600.0
_PATIENCE = 10.0
_LEEWAY_SECONDS = 60
# Signatures by a key that only the provider has. Never `none`, and no secret shared with us.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True, slots=True)
class _Pending:
    state: str
    nonce: str
    verifier: str
    callback: str
    expires_at: float


class SignOn:
    """An identity provider, and the sign-ins that were begun and not ended."""

    def __init__(self, config: SignOnConfig) -> None:
        try:
            import authlib  # noqa: F401, PLC0415 - an extra
            import joserfc  # noqa: F401, PLC0415
            import requests  # noqa: F401, PLC0415
        except ImportError:
            raise MissingExtraError("single sign-on", "oidc") from None
        parts = urlsplit(config.issuer)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigError(f"issuer is {config.issuer!r}, allowed: an https address")
        checked_roles(config.roles)
        self.config = config
        self._lock = Lock()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._read: dict[str, tuple[Any, float]] = {}

    def begin(self, callback: str) -> tuple[str, str]:
        """Where to send the browser, and the handle that it has to come back with."""
        handle, now = secrets.token_urlsafe(32), time.monotonic()
        pending = _Pending(
            *(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48)),
            callback,
            now + _PENDING_SECONDS,
        )
        with self._session(callback) as session:
            url, _ = session.create_authorization_url(
                self._metadata()["authorization_endpoint"],
                state=pending.state,
                nonce=pending.nonce,
                code_verifier=pending.verifier,
            )
        with self._lock:
            self._pending[handle] = pending
            while len(self._pending) > _MAX_PENDING:
                self._pending.popitem(last=False)
        return str(url), handle

    def finish(self, handle: str, *, state: str, code: str) -> dict[str, Any]:
        """What the provider says of who signed in; `AuthenticationError` when it is not to be believed."""
        with self._lock:
            pending = self._pending.pop(handle, None)
        if pending is None or time.monotonic() > pending.expires_at:
            raise _refused("it was not begun in this browser, or too long ago")
        if not hmac.compare_digest(state.encode(), pending.state.encode()):
            raise _refused("its state is another one")
        from authlib.integrations.base_client import OAuthError  # noqa: PLC0415 - an extra
        from joserfc.errors import JoseError  # noqa: PLC0415
        from requests import RequestException, get  # noqa: PLC0415

        metadata = self._metadata()
        try:
            with self._session(pending.callback) as session:
                token = session.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=pending.verifier, timeout=_PATIENCE
                )
            claims = self._claims(token, pending.nonce)
            endpoint = metadata.get("userinfo_endpoint")
            if endpoint and self.config.groups and self.config.groups_claim not in claims:
                bearer = {"authorization": f"Bearer {token['access_token']}"}
                more = get(endpoint, headers=bearer, timeout=_PATIENCE).json()
                if more.get("sub") != claims["sub"]:
                    raise _refused("what it says of the user is of another one")
                claims = {**more, **claims}
        except RequestException as error:
            raise UnavailableError(f"the identity provider does not answer: {error}") from None
        except (OAuthError, JoseError, ValueError, KeyError) as error:
            raise _refused(str(error)) from None
        return claims

    def _claims(self, token: dict[str, Any], nonce: str) -> dict[str, Any]:
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 - an extra
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.jwk import KeySet  # noqa: PLC0415

        keys = KeySet.import_key_set(self._json(self._metadata()["jwks_uri"]))
        decoded = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "value": self.config.issuer},
                "aud": {"essential": True, "value": self.config.client_id},
                "sub": {"essential": True},
                "nonce": {"essential": True, "value": nonce},
            },
            params={
                "nonce": nonce,
                "client_id": self.config.client_id,
                "access_token": token.get("access_token"),
            },
        )
        claims.validate(leeway=_LEEWAY_SECONDS)
        return dict(claims)

    def _session(self, callback: str) -> "OAuth2Session":
        from authlib.integrations.requests_client import OAuth2Session  # noqa: PLC0415 - an extra

        return OAuth2Session(
            self.config.client_id,
            self.config.client_secret,
            scope=" ".join(self.config.scopes),
            redirect_uri=callback,
            code_challenge_method="S256",
        )

    def _metadata(self) -> dict[str, Any]:
        found = self._json(f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(found, dict) or found.get("issuer") != self.config.issuer:
            raise UnavailableError(
                f"the identity provider calls itself {found.get('issuer')!r}, not {self.config.issuer!r}",
                remedy="give its issuer exactly as it calls itself",
            )
        return found

    def _json(self, url: str) -> Any:
        """A document of the provider's, read at most once an hour; its keys may change, so not for ever."""
        import requests  # noqa: PLC0415 - an extra

        found, until = self._read.get(url, (None, 0.0))
        if time.monotonic() < until:
            return found
        try:
            answer = requests.get(url, timeout=_PATIENCE)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise UnavailableError(f"the identity provider does not answer: {error}") from None
        self._read[url] = (found, time.monotonic() + _METADATA_SECONDS)
        return found


def account_of(change: Change, config: SignOnConfig, claims: dict[str, Any]) -> str:
    """The account of who signed in, made the first time; in the groups that the provider says."""
    session, subject = change.session, str(claims["sub"])
    login = session.get(ExternalLoginRow, (config.issuer, subject))
    if login is None:
        verified = claims.get("email") if claims.get("email_verified") is True else None
        row = people.add(
            change,
            _free_name(change, claims),
            roles=config.roles,
            display_name=str(claims.get("name") or ""),
            email=_free_email(change, verified),
        )
        login = ExternalLoginRow(issuer=config.issuer, subject=subject, user_id=row.user_id)
        session.add(login)
        session.flush()
        change.note("user.link", row.user_id, issuer=config.issuer, account=subject)
    _set_groups(change, config, login.user_id, claims)
    return login.user_id


def _set_groups(change: Change, config: SignOnConfig, user_id: str, claims: dict[str, Any]) -> None:
    """Exactly those of the configured groups that the provider says; others are none of its business."""
    said = claims.get(config.groups_claim) or []
    told = {said} if isinstance(said, str) else {str(each) for each in said}
    for name in sorted(set(config.groups.values())):
        is_member = any(group == name and claim in told for claim, group in config.groups.items())
        if is_member and change.session.get(GroupRow, name) is None:
            people.add_group(change, name)
        if is_member:
            people.join(change, name, user_id)
        elif change.session.get(MembershipRow, (name, user_id)) is not None:
            people.leave(change, name, user_id)


def _free_name(change: Change, claims: dict[str, Any]) -> str:
    wished = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    name = re.sub(r"[^A-Za-z0-9._@+-]", "-", wished).lstrip("._@+-")[:80] or "user"
    is_free = people.holder(change.session, name) is None
    return name if is_free else f"{name}-{secrets.token_hex(3)}"


def _free_email(change: Change, email: Any) -> str | None:
    is_free = isinstance(email, str) and people.holder(change.session, email) is None
    return email if is_free else None


def _refused(why: str) -> AuthenticationError:
    logger.warning("a single sign-on was refused: %s", why)
    return AuthenticationError(
        f"the sign-in at the identity provider does not hold: {why}", remedy="try again"
    )
