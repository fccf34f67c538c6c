"""What embeds texts and what classifies them: the protocols through which other rooms ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TextInput = str | list[int]
"""A text, or the model's own token ids of one, special tokens included."""
PairInput = str | tuple[str, str]
"""A text, or two that are judged together: a question and a passage."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts, in the order of the texts."""

    vectors: "NDArray[np.float32]"
    """[texts, dimensions]"""
    num_tokens: int
    """Tokens of all texts together, special ones included."""


@dataclass(frozen=True, slots=True)
class Classifications:
    """Scores of texts for each label, in the order of the texts."""

    scores: "NDArray[np.float32]"
    """[texts, labels]; as the model says: shares of one, each for itself, or as they come."""
    num_tokens: int


class Embedder(Protocol):
    """Turns texts into vectors that are near where their meanings are."""

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest text, special tokens included."""
        ...

    def embed(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        """Vectors of texts; a text that is too long is refused, or cut where `truncate` says so."""
        ...

    async def embed_async(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        """The same, computed together with what others ask for at the time."""
        ...


class Classifier(Protocol):
    """Scores texts, or pairs of texts, for each of its labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the scores are for."""
        ...

    def classify(self, texts: Sequence[PairInput], *, truncate: bool = False) -> Classifications:
        """Scores of texts; a text that is too long is refused, or cut where `truncate` says so."""
        ...

    async def classify_async(self, texts: Sequence[PairInput], *, truncate: bool = False) -> Classifications:
        """The same, computed together with what others ask for at the time."""
        ...
