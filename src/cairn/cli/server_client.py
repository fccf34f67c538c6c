"""Asking a running server, as its administrator: the one over this home, any other by address and key."""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cairn.core.errors import CairnError, InvalidRequestError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from cairn.registry import Registry

KEY_VARIABLE = "CAIRN_API_KEY"
_SESSION_SECONDS = 3600.0
_PATIENCE_SECONDS = 3600.0
"""A load answers when the model is in memory, and may wait for others first."""


class RefusedError(CairnError):
    """What a server answered instead of doing what it was asked."""

    code = "server.refused"


class ServerClient:
    """A server and what shows it who asks."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self.address = address.rstrip("/")
        self._headers = headers

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, patience: float = _PATIENCE_SECONDS
    ) -> Any:
        """GET a path, or POST a body to it; the JSON that comes back."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self.address + path, data, headers)
            with _OPENER.open(request, timeout=patience) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnavailableError(
                f"no Cairn answers at {self.address}: {getattr(error, 'reason', error)}",
                remedy="check that the server runs there: cairn up",
            ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The API never redirects, and a key is for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def _refusal(answer: urllib.error.HTTPError) -> CairnError:
    try:
        error = json.load(answer)["error"]
        message, remedy = str(error["message"]), str(error.get("remedy") or "")
        # The message ends with the remedy, for clients that show nothing else.
        return RefusedError(message.removesuffix(remedy).rstrip("; ") if remedy else message, remedy=remedy)
    except (ValueError, KeyError, TypeError):
        return RefusedError(f"{answer.url} answered {answer.code}", remedy="check the address")


@contextmanager
def server_client(registry: "Registry", address: str = "") -> Iterator[ServerClient]:
    """The server at an address, or the one that serves this home: then in a session that ends here."""
    from cairn.server.identity import ADMIN, COOKIE, Identity
    from cairn.server.running import running_servers

    if address:
        if not address.startswith(("http://", "https://")):
            raise InvalidRequestError(f"{address!r} is no address", remedy="give http://HOST:PORT")
        if not (key := os.environ.get(KEY_VARIABLE, "")):
            raise InvalidRequestError(
                f"a server elsewhere needs a key, {KEY_VARIABLE} is not set",
                remedy="set it to a key of that server",
            )
        yield ServerClient(address, {"Authorization": f"Bearer {key}"})
        return
    if not (addresses := running_servers(registry.settings.home)):
        raise NotFoundError(
            f"no server runs over {registry.settings.home}",
            remedy="start one: cairn up; or name it: --address",
        )
    identity = Identity(registry.database)
    cookie = identity.create_session(ADMIN, seconds=_SESSION_SECONDS)
    try:
        yield ServerClient(addresses[0], {"Cookie": f"{COOKIE}={cookie}", "Origin": addresses[0]})
    finally:
        identity.end_session(cookie)
