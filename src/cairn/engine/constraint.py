"""Constrained decoding: which tokens may come next, so that a reply is what its grammar says.

A compiled grammar gives every sequence a matcher of its own, moved on by the sequence's own generated
tokens and by nothing else: being preempted, computed again or batched with others does not touch it. The
engine knows token ids only; who knows the vocabulary (`guidance`) is handed in as a `GrammarCompiler`.

End tokens are allowed exactly where the grammar would accept the end, and a sequence whose grammar has no
continuation ends at once. Masks that take long are computed in a thread of their own while the network runs.
"""

import time
from collections.abc import Callable
from collections.abc import Sequence as Rows
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cairn.core.grammar import Grammar

if TYPE_CHECKING:
    from cairn.engine.sequence import Sequence

Allowed = NDArray[np.bool_]
"""[vocab]: whether a token may come next."""
Bits = NDArray[np.int32]
"""[ceil(vocab / 32)]: the same as bits, the lowest first."""


WORTH_A_THREAD = 300e-6
"""Seconds of work from which masks are computed beside the network: waking a thread costs some of its own."""
_SMOOTHING = 0.1


class Matcher(Protocol):
    """Where one sequence stands in its grammar."""

    @property
    def is_accepting(self) -> bool:
        """Whether the text so far is a whole one."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether it is whole and nothing can follow."""
        ...

    def fill(self, bits: Bits) -> None:
        """Set the bits of the tokens that may follow; end tokens are not among them."""
        ...

    def advance(self, token_id: int) -> None:
        """Go on by a token that was allowed."""
        ...

    def fork(self) -> "Matcher":
        """Another one at the same place, which goes its own way."""
        ...

    def forced(self) -> list[int]:
        """Tokens of the text that must follow, as far as only one may."""
        ...

    def num_allowed(self, token_ids: Rows[int]) -> int:
        """How many of these may follow one another; asking may cost the matcher, so ask a fork."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing follows although the text is not whole; empty where that is not known."""
        ...


class GrammarCompiler(Protocol):
    """Who knows the bytes of the vocabulary."""

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning; `InvalidRequestError` for a grammar that is wrong or allows nothing."""
        ...


class Masks:
    """The allowed tokens of a step's rows."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._thread: ThreadPoolExecutor | None = None
        self._seconds_per_mask = 0.0

    def start(self, seqs: Rows["Sequence"]) -> Callable[[], list[Allowed | None]]:
        """Begin with the masks of sequences; the call that is returned waits for them.

        A sequence without a grammar has None. A mask without any token is a dead end.
        """
        num_masks = sum(seq.matcher is not None for seq in seqs)
        if num_masks * self._seconds_per_mask <= WORTH_A_THREAD:
            return lambda: self._masks(seqs)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="cairn-masks")
        return self._thread.submit(self._masks, seqs).result

    def _masks(self, seqs: Rows["Sequence"]) -> list[Allowed | None]:
        masks: list[Allowed | None] = []
        for seq in seqs:
            if seq.matcher is None:
                masks.append(None)
                continue
            start = time.perf_counter()
            masks.append(self.mask(seq.matcher, seq.end_token_ids))
            self._seconds_per_mask += _SMOOTHING * (time.perf_counter() - start - self._seconds_per_mask)
        return masks

    def mask(self, matcher: Matcher, end_token_ids: tuple[int, ...]) -> Allowed:
        """The tokens that may follow, end tokens where the text is a whole one."""
        bits = np.zeros(-(-self._vocab_size // 32), np.int32)
        matcher.fill(bits)
        mask = np.unpackbits(bits.view(np.uint8), bitorder="little")[: self._vocab_size].view(np.bool_)
        if matcher.is_accepting:
            # A request may name stop tokens that this vocabulary does not have.
            mask[[token_id for token_id in end_token_ids if 0 <= token_id < self._vocab_size]] = True
        return mask
