"""Guessing from a sequence's own text: what followed the last few tokens when they stood there before.

Prompt lookup decoding (Saxena 2023). It costs nothing and is right where text is copied: summaries, edits
of code, repeated phrases.
"""

from collections.abc import Sequence as Tokens

_GRAM = 3
"""Tokens that must agree; shorter beginnings are found too often, longer ones too late."""


class Lookup:
    """Where every run of three tokens of one sequence stood last."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._num_read = _GRAM

    def draft(self, token_ids: Tokens[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may come next."""
        for place in range(self._num_read, len(token_ids)):
            self._after[tuple(token_ids[place - _GRAM : place])] = place
        self._num_read = max(len(token_ids), _GRAM)
        found = self._after.get(tuple(token_ids[-_GRAM:]))
        return () if found is None else tuple(token_ids[found : found + most])
