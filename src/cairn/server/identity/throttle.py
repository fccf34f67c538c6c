"""A limit on failed sign-ins per address, in bounded memory."""

import time
from collections import OrderedDict, deque

from cairn.core.errors import OverloadedError

_WINDOW_SECONDS = 300.0
_MAX_ADDRESSES = 4096


class FailureLimiter:
    """At most `limit` failures per address in five minutes; the least recent are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise `OverloadedError` when the address must wait."""
        times = self._failures.get(address)
        now = time.monotonic()
        while times and times[0] < now - _WINDOW_SECONDS:
            times.popleft()
        if times and len(times) >= self._limit:
            raise OverloadedError(
                "too many failed sign-ins from this address",
                remedy="wait a few minutes",
                retry_after=times[0] + _WINDOW_SECONDS - now,
            )

    def failed(self, address: str) -> None:
        """Count a failure."""
        times = self._failures.setdefault(address, deque(maxlen=self._limit))
        times.append(time.monotonic())
        self._failures.move_to_end(address)
        while len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
