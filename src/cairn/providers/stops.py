"""Stop strings, found also when they are spread over several tokens.

Text that may be the beginning of a stop string waits until it is known not to be; neither the stop
string nor anything behind it is ever handed on.
"""

from collections.abc import Sequence


class StopMatcher:
    """Watches one growing text for the first of several stop strings."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._pending = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that is safe to show, and the stop string that ended it, if one did."""
        if not self._stops:
            return text, None
        self._pending += text
        # The earliest match wins; at the same place the first one that was asked for.
        found = min(
            ((at, order) for order, stop in enumerate(self._stops) if (at := self._pending.find(stop)) >= 0),
            default=None,
        )
        if found is not None:
            at, order = found
            safe, self._pending = self._pending[:at], ""
            return safe, self._stops[order]
        held = max(suffix_that_begins(self._pending, stop) for stop in self._stops)
        cut = len(self._pending) - held
        safe, self._pending = self._pending[:cut], self._pending[cut:]
        return safe, None

    def finish(self) -> str:
        """What was held back, now that no more text comes."""
        safe, self._pending = self._pending, ""
        return safe


def suffix_that_begins(text: str, marker: str) -> int:
    """Length of the longest proper beginning of `marker` that `text` ends with."""
    longest = min(len(text), len(marker) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(marker[:size])), 0)
