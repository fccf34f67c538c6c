"""A limit on failed sign-ins, by address, by account and by browser, in bounded memory.

A guess is counted when it is made and taken back when it was right, so that many at the same time are
not free. Of an account that is being guessed at only strange browsers have to wait: one in which somebody
signed in to it before is counted by itself.
"""

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from cairn.core.errors import AuthenticationError, CairnError, OverloadedError

_WINDOW_SECONDS = 300.0
_MAX_SOURCES = 16384


class FailureLimiter:
    """At most `limit` failures per source in five minutes; the least recent are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def failed(self, *sources: str) -> None:
        """Count a failure of each; `OverloadedError`, and nothing is counted, when one of them must wait."""
        now = time.monotonic()
        with self._lock:
            for source in sources:
                times = self._failures.get(source)
                while times and times[0] < now - _WINDOW_SECONDS:
                    times.popleft()
                if times and len(times) >= self._limit:
                    raise OverloadedError(
                        "too many failed sign-ins",
                        remedy="wait a few minutes",
                        retry_after=times[0] + _WINDOW_SECONDS - now,
                    )
            for source in sources:
                self._failures.setdefault(source, deque(maxlen=self._limit)).append(now)
                self._failures.move_to_end(source)
            while len(self._failures) > _MAX_SOURCES:
                self._failures.popitem(last=False)

    @contextmanager
    def attempt(self, *sources: str, wrong: type[CairnError] = AuthenticationError) -> Iterator[None]:
        """A guess; right unless its block ends with `wrong`."""
        self.failed(*sources)
        is_wrong = False
        try:
            yield
        except wrong:
            is_wrong = True
            raise
        finally:
            if not is_wrong:
                self._forgive(sources)

    def _forgive(self, sources: Sequence[str]) -> None:
        with self._lock:
            for source in sources:
                if times := self._failures.get(source):
                    times.pop()


def address_source(host: str) -> str:
    """Where failures of an address are counted: of IPv6 the /64, which is one customer's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address {host}"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return f"address {ipaddress.ip_network((address, 64), strict=False)}"
    return f"address {address}"
