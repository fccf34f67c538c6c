"""A collection with two embedders at hand."""

from cairn.core import NotFoundError
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.encoders import Encoders
from cairn.retrieval.following import Indexes
from tests.retrieval.exact import WordEmbedder, count_tokens

FIRST, OTHER = "all-minilm-l6-v2", "other"


class TwoEmbedders:
    """An `EncoderSource` of two; the other one reads less and has other dimensions."""

    def __init__(self) -> None:
        self.first = self._of(WordEmbedder(), "sha256:words")
        self.other = self._of(WordEmbedder(dimensions=48, max_tokens=24), "sha256:other")
        self.is_missing = False

    def __call__(self, name: str, digest: str) -> Encoders:
        if name == OTHER and self.is_missing:
            raise NotFoundError("the other one is not here")
        found = self.first if name == FIRST else self.other
        assert found.digest == digest
        return found

    def open(self, registry: Registry, indexes: Indexes) -> Collection:
        return Collection.open(registry, "notes", self.first, indexes, self)

    @staticmethod
    def _of(embedder: WordEmbedder, digest: str) -> Encoders:
        return Encoders(embedder=embedder, digest=digest, count_tokens=count_tokens)
