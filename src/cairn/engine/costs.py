"""What guesses cost and how often they are right: from these two follows how far it pays to guess.

A step of n tokens takes `fixed + n * per_token` seconds: a line laid through the steps that were timed. A
plain step of S sequences gives S tokens, so a token is worth its S-th part; a guess costs `per_token` more.
Their ratio is the guess's price: the chance of being right from which it pays. It is small for one sequence,
whose step is mostly the reading of weights, and nears 1 in a large batch.

The chance that the i-th guess in a row counts is `chance ** i`, where `chance` is what was seen of late.
Both decide how fast tokens come, never which.
"""

from math import log

_FIXED_TOKENS = 15
"""How many tokens the fixed part is worth, as long as steps of one size only were seen."""
_PRIOR_VARIANCE = 0.05
_MEMORY = 50
"""Steps after which an old one has mostly been forgotten."""
_LARGEST_JUMP = 4.0
"""A step that took longer than this many times what was expected was held up by something else."""

_DECAY = 0.85
"""What the last test's weight is when the next is made."""
FIRST_CHANCE = 0.5
_FIRST_WEIGHT = 0.5
_LARGEST_CHANCE = 0.98
_SHORTEST_REST, _LONGEST_REST = 8, 128


class Costs:
    """The seconds of a step by its number of tokens: least squares over the last steps."""

    def __init__(self) -> None:
        self._num = 0
        self._tokens = self._seconds = 0.0
        self._variance = self._covariance = 0.0

    @property
    def is_known(self) -> bool:
        """Whether a step was timed."""
        return self._num > 0

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from one timed step."""
        if self._num:
            seconds = min(seconds, _LARGEST_JUMP * self.seconds(num_tokens))
        self._num = min(self._num + 1, _MEMORY)
        weight = 1 / self._num
        more_tokens, more_seconds = num_tokens - self._tokens, seconds - self._seconds
        self._tokens += weight * more_tokens
        self._seconds += weight * more_seconds
        self._variance = (1 - weight) * (self._variance + weight * more_tokens**2)
        self._covariance = (1 - weight) * (self._covariance + weight * more_tokens * more_seconds)

    @property
    def per_token(self) -> float:
        """Seconds that one more token adds."""
        if not self._num:
            return 1.0
        expected = self._seconds / (self._tokens + _FIXED_TOKENS)
        slope = (self._covariance + _PRIOR_VARIANCE * expected) / (self._variance + _PRIOR_VARIANCE)
        return min(max(slope, 0.0), self._seconds / self._tokens)

    def seconds(self, num_tokens: int) -> float:
        """What a step of so many tokens is expected to take."""
        if not self._num:
            return float(_FIXED_TOKENS + num_tokens)
        return self._seconds + self.per_token * (num_tokens - self._tokens)


class Pace:
    """How far one way of guessing goes for one sequence: further after hits, not at all after many misses."""

    def __init__(self, chance: float = FIRST_CHANCE) -> None:
        self._hits, self._tests = chance * _FIRST_WEIGHT, _FIRST_WEIGHT
        self._rest = 0
        self._next_rest = _SHORTEST_REST

    @property
    def chance(self) -> float:
        """How probable it is that a guess is right when those before it were."""
        return min(self._hits / self._tests, _LARGEST_CHANCE)

    @property
    def is_resting(self) -> bool:
        return self._rest > 0

    def passes(self, price: float) -> bool:
        """Whether `length` would give none now, and would so next time for all that is known."""
        return price >= 1 or self._rest > 1

    def length(self, price: float) -> int:
        """Guesses in a row that are worth their price. While it rests none; after that one, to look again."""
        if price >= 1:
            return 0
        if self._rest:
            self._rest -= 1
            if self._rest:
                return 0
            self._hits, self._tests = FIRST_CHANCE * _FIRST_WEIGHT, _FIRST_WEIGHT
            return 1
        if self.chance > price:
            return int(log(max(price, 1e-9)) / log(self.chance))
        self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
        return 0

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from guesses of which the first `num_accepted` were right."""
        for _ in range(num_accepted):
            self._test(1.0)
        if num_accepted < num_drafted:
            self._test(0.0)
        elif num_drafted > 1:
            self._next_rest = max(self._next_rest // 2, _SHORTEST_REST)

    def _test(self, hit: float) -> None:
        self._hits = _DECAY * self._hits + hit
        self._tests = _DECAY * self._tests + 1
