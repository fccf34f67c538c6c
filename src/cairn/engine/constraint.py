"""Constrained decoding: which tokens may come next, so that a reply is what its grammar says.

A compiled grammar gives every sequence a matcher of its own, moved on by the sequence's own generated
tokens and by nothing else: being preempted, computed again or batched with others does not touch it. The
engine knows token ids only; who knows the vocabulary (`guidance`) is handed in as a `GrammarCompiler`.

End tokens are allowed exactly where the grammar would accept the end, and a sequence whose grammar has no
continuation ends at once. Masks are computed in a thread of their own while the network runs.
"""

from collections.abc import Sequence as Rows
from concurrent.futures import Future, ThreadPoolExecutor
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

    def start(self, seqs: Rows["Sequence"]) -> "Future[list[Allowed | None]] | None":
        """Begin computing the masks of sequences; None when none of them is constrained."""
        if not any(seq.matcher for seq in seqs):
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="cairn-masks")
        return self._thread.submit(self.compute, tuple(seqs))

    def compute(self, seqs: Rows["Sequence"]) -> list["Allowed | None"]:
        """The mask of each sequence, None for a free one. A mask without any token is a dead end."""
        return [None if seq.matcher is None else self._mask(seq.matcher, seq.end_token_ids) for seq in seqs]

    def _mask(self, matcher: Matcher, end_token_ids: tuple[int, ...]) -> Allowed:
        bits = np.zeros(-(-self._vocab_size // 32), np.int32)
        matcher.fill(bits)
        mask = np.unpackbits(bits.view(np.uint8), bitorder="little")[: self._vocab_size].view(np.bool_)
        if matcher.is_accepting:
            mask[list(end_token_ids)] = True
        return mask
