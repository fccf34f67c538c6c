"""JSON over HTTP to a store, for those whose own clients would bring much; connections are kept."""

import http.client
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cairn.core.errors import ConfigError, StorageError, UnavailableError

_TIMEOUT_SECONDS = 60
_BUSY = (429, 502, 503, 504)


class Wire:
    """One server. Threads share it; a request that broke off is sent once more, so it must bear that."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a store", remedy="give it as https://host:port")
        self._is_secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path, self._headers = parts.path.rstrip("/"), {"Content-Type": "application/json", **headers}
        self._idle: LifoQueue[http.client.HTTPConnection] = LifoQueue()

    def ask(
        self, method: str, path: str, body: object = None, *, missing: object = None, **query: object
    ) -> Any:
        """The answer's JSON; `missing` where the server says 404 and that is given."""
        target = self._path + quote(path) + (f"?{urlencode(query, doseq=True)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        status, answer = self._sent(method, target, data)
        if status == 404 and missing is not None:
            return missing
        if status >= 300:
            self._refuse(method, path, status, answer)
        return json.loads(answer) if answer.strip() else {}

    def close(self) -> None:
        """Let go of the connections."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _sent(self, method: str, target: str, data: bytes | None) -> tuple[int, bytes]:
        for is_last in (False, True):
            connection = self._connection(is_new=is_last)
            try:
                connection.request(method, target, data, self._headers)
                response = connection.getresponse()
                status, answer = response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_last:
                    raise UnavailableError(
                        f"the store at {self._host} does not answer: {error or type(error).__name__}",
                        remedy="see that it runs and can be reached",
                    ) from None
                continue
            self._idle.put(connection)
            return status, answer
        raise AssertionError

    def _connection(self, *, is_new: bool) -> http.client.HTTPConnection:
        with suppress(Empty):
            if not is_new:
                return self._idle.get_nowait()
        if self._is_secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)

    def _refuse(self, method: str, path: str, status: int, answer: bytes) -> None:
        said = f"{method} {path}: {status} {answer[:300].decode(errors='replace')}"
        if status in _BUSY:
            raise UnavailableError(f"the store at {self._host} is busy: {said}", remedy="try again later")
        if status in (401, 403):
            raise ConfigError(f"the store at {self._host} refuses the key: {said}", remedy="check api_key")
        raise StorageError(f"the store at {self._host} refused: {said}", remedy="see its own log")
