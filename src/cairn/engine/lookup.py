"""Guessing ahead from a sequence's own text: what followed the last few tokens when they stood there before.

Prompt lookup decoding (Saxena 2023). Guesses are computed in the same step as the newest token, each as a
decode token; the sampler then chooses as it always does, and a guess counts as long as it equals the choice.
So the tokens are those that would have come without it, greedy or drawn. It pays where text is copied
(summaries, edits of code) and rests where it does not.
"""

from collections.abc import Sequence as Tokens

_GRAM = 3
"""Tokens that must agree; shorter beginnings are found too often, longer ones too late."""
_FIRST, _LONGEST = 4, 256
_SHORTEST_REST, _LONGEST_REST = 8, 128


class Lookup:
    """The guesses of one sequence, and how good they were."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._num_read = _GRAM
        self._length = _FIRST
        self._rest = 0
        self._next_rest = _SHORTEST_REST

    def draft(self, token_ids: Tokens[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may come next; nothing while it rests."""
        if self._rest:
            self._rest -= 1
            return ()
        for place in range(self._num_read, len(token_ids)):
            self._after[tuple(token_ids[place - _GRAM : place])] = place
        self._num_read = max(len(token_ids), _GRAM)
        found = self._after.get(tuple(token_ids[-_GRAM:]))
        return () if found is None else tuple(token_ids[found : found + min(most, self._length)])

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        """Guess further after a guess that was right to its end; less, and at last not, after wrong ones."""
        if num_accepted == num_drafted:
            self._length, self._next_rest = min(2 * num_drafted, _LONGEST), _SHORTEST_REST
        elif num_accepted:
            self._length = max(1, (self._length + num_accepted) // 2)
        elif self._length > 1:
            self._length //= 2
        else:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
