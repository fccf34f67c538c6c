"""An identity provider over HTTP: OpenID Connect's code flow with PKCE, as strict as the standard asks.

`wrong` makes its next ID tokens bad in one way, to see that they are refused.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "cairn-test", "a secret of the client"


class Provider:
    """The state of the provider: who signs in at it next, and what it has given out."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.key = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.user: dict[str, Any] = {"sub": "1"}
        self.wrong = ""
        self.grants: dict[str, dict[str, str]] = {}
        self.access: dict[str, dict[str, Any]] = {}
        self.groups_by_userinfo = False

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
        }

    def authorize(self, asked: dict[str, str]) -> str:
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        assert len(asked["nonce"]) >= 32
        assert len(asked["state"]) >= 32
        code = secrets.token_urlsafe(16)
        self.grants[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        kind, _, coded = authorization.partition(" ")
        client = base64.b64decode(coded).decode() if kind == "Basic" else ""
        grant = self.grants.pop(asked.get("code", ""), None)
        if unquote(client) != f"{CLIENT}:{SECRET}" or grant is None:
            return 400, {"error": "invalid_grant"}
        if (
            asked["redirect_uri"] != grant["redirect_uri"]
            or create_s256_code_challenge(asked["code_verifier"]) != grant["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        access = secrets.token_urlsafe(16)
        self.access[access] = dict(self.user)
        token = self._id_token(grant["nonce"], access)
        return 200, {"access_token": access, "token_type": "Bearer", "expires_in": 60, "id_token": token}

    def _id_token(self, nonce: str, access: str) -> str:
        now = int(time.time())
        half = hashlib.sha256(access.encode()).digest()[:16]
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
            **self.user,
        }
        if self.groups_by_userinfo:
            claims.pop("groups", None)
        wrongs: dict[str, dict[str, Any]] = {
            "nonce": {"nonce": "another"},
            "audience": {"aud": "another"},
            "issuer": {"iss": "https://evil.example"},
            "expired": {"exp": now - 3600, "iat": now - 7200},
            "at_hash": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        }
        claims |= wrongs.get(self.wrong, {})
        key, header = self.key, {"alg": "RS256", "kid": "first"}
        if self.wrong == "key":
            key = RSAKey.generate_key(2048, {"kid": "first"})
        if self.wrong == "unsigned":
            parts = ({"alg": "none"}, claims)
            return ".".join(_coded(json.dumps(part).encode()) for part in parts) + "."
        return jwt.encode(header, claims, key)


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    provider: ClassVar[Provider]

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, _fields(urlsplit(self.path).query)
        if path == "/authorize":
            self.send_response(302)
            self.send_header("location", self.provider.authorize(asked))
            self.end_headers()
        elif path == "/.well-known/openid-configuration":
            self._say(200, self.provider.metadata())
        elif path == "/jwks":
            self._say(200, {"keys": [self.provider.key.as_dict(private=False)]})
        elif path == "/userinfo":
            bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
            found = self.provider.access.get(bearer)
            self._say(200 if found else 401, found or {})
        else:
            self._say(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self._say(*self.provider.token(_fields(body), self.headers.get("authorization", "")))

    def _say(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def _fields(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider that answers while the context is open."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        provider = handler.provider = Provider(server.server_port)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
