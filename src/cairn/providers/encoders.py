"""Embedding and classification of texts by an encoder here: tokenizer, engine, and what the head says.

Requests of all callers are computed together (`EncoderEngine`), and nobody's result depends on whose. Never
imports torch. A text that is too long is refused unless the caller says that it may be cut.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from cairn.core.embedding import Classifications, Embeddings, PairInput, TextInput
from cairn.core.errors import InvalidRequestError
from cairn.data import Tokenizer, check_fits
from cairn.data.text_encoder import TextEncoder, too_long
from cairn.engine.encoder_engine import EncoderEngine
from cairn.engine.native_encoder import Encoding, NativeEncoder
from cairn.engine.runner import FloatArray

_INLINE_CHARACTERS = 4000
"""Shorter requests are encoded without the cost of a thread switch."""


class LocalEncoder:
    """An encoder's tokenizer and engine; `close` ends it."""

    def __init__(
        self,
        encoder: NativeEncoder,
        tokenizer: Tokenizer,
        *,
        name: str = "",
        artifact_digest: str = "",
        max_waiting: int = 256,
    ) -> None:
        self.config, self.weights, self.resident_bytes = (
            encoder.config,
            encoder.weights,
            encoder.num_weight_bytes,
        )
        self.name, self.artifact_digest = name, artifact_digest
        check_fits(tokenizer, self.config.vocab_size)
        self._text_encoder = TextEncoder(tokenizer, self.config.max_tokens)
        self.engine = EncoderEngine(encoder, max_waiting=max_waiting)

    @property
    def max_tokens(self) -> int:
        """Longest text, special tokens included."""
        return self.config.max_tokens

    @property
    def spare_bytes(self) -> int:
        """It does without nothing."""
        return 0

    def trim(self, num_bytes: int) -> int:
        """Free none of it."""
        return 0

    @property
    def is_healthy(self) -> bool:
        """Whether it still answers."""
        return self.engine.is_running

    def close(self) -> None:
        """Let go of the thread; the memory of the weights is free with the last reference."""
        self.engine.close()

    def _encode(self, texts: Sequence[TextInput | PairInput], truncate: bool) -> list[Encoding]:
        plain = [self._prompted(text) for text in texts if not isinstance(text, list)]
        encoded = iter(self._text_encoder.encode(plain, truncate=truncate))
        found = []
        for place, text in enumerate(texts):
            if isinstance(text, list):
                found.append(self._given(place, text, truncate))
            else:
                each = next(encoded)
                found.append(Encoding(each.token_ids, each.types))
        return found

    def _prompted(self, text: str | tuple[str, str]) -> str | tuple[str, str]:
        return self.config.prompt + text if isinstance(text, str) else text

    def _given(self, place: int, token_ids: list[int], truncate: bool) -> Encoding:
        if not token_ids:
            raise InvalidRequestError(f"text {place} has no tokens", remedy="leave it out", param="input")
        beyond = [token_id for token_id in token_ids if not 0 <= token_id < self.config.vocab_size]
        if beyond:
            raise InvalidRequestError(
                f"text {place} holds token id {beyond[0]}, the vocabulary has {self.config.vocab_size}",
                remedy="send text, or ids of this model's own tokenizer",
                param="input",
            )
        if len(token_ids) > self.max_tokens and not truncate:
            raise too_long(place, len(token_ids), self.max_tokens, "input")
        return Encoding(token_ids[: self.max_tokens])

    def _compute(
        self, texts: Sequence[TextInput | PairInput], truncate: bool
    ) -> tuple[list[FloatArray], list[Encoding]]:
        encodings = self._encode(texts, truncate)
        return self.engine.submit(encodings).result(), encodings

    async def _compute_async(
        self, texts: Sequence[TextInput | PairInput], truncate: bool
    ) -> tuple[list[FloatArray], list[Encoding]]:
        if sum(map(_size, texts)) <= _INLINE_CHARACTERS:
            encodings = self._encode(texts, truncate)
        else:
            encodings = await asyncio.to_thread(self._encode, texts, truncate)
        return await asyncio.wrap_future(self.engine.submit(encodings)), encodings

    def _stacked(self, rows: Sequence[FloatArray]) -> FloatArray:
        return np.concatenate(rows) if rows else np.empty((0, self.config.out_width), np.float32)


class LocalEmbedder(LocalEncoder):
    """The `Embedder` of one artifact."""

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return self.config.out_width

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that each text would take, special ones and the model's prompt included."""
        return self._text_encoder.count([self.config.prompt + text for text in texts])

    def embed(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        """Vectors of texts; a text that is too long is refused, or cut where `truncate` says so."""
        return self._embeddings(*self._compute(texts, truncate))

    async def embed_async(self, texts: Sequence[TextInput], *, truncate: bool = False) -> Embeddings:
        """The same, computed together with what others ask for at the time."""
        return self._embeddings(*await self._compute_async(texts, truncate))

    def _embeddings(self, rows: Sequence[FloatArray], encodings: Sequence[Encoding]) -> Embeddings:
        return Embeddings(self._stacked(rows), sum(map(len, encodings)))


class LocalClassifier(LocalEncoder):
    """The `Classifier` of one artifact: whole texts, or pairs as a cross-encoder takes them."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the scores are for."""
        return self.config.head.labels

    def classify(self, texts: Sequence[PairInput], *, truncate: bool = False) -> Classifications:
        """Scores of texts; a text that is too long is refused, or cut where `truncate` says so."""
        return self._classifications(*self._compute(texts, truncate))

    async def classify_async(self, texts: Sequence[PairInput], *, truncate: bool = False) -> Classifications:
        """The same, computed together with what others ask for at the time."""
        return self._classifications(*await self._compute_async(texts, truncate))

    def _classifications(self, rows: Sequence[FloatArray], encodings: Sequence[Encoding]) -> Classifications:
        scores = as_scores(self._stacked(rows), self.config.head.scores)
        return Classifications(scores, sum(map(len, encodings)))


def _size(text: TextInput | PairInput) -> int:
    return sum(map(len, text)) if isinstance(text, tuple) else len(text)


def shortened(vectors: FloatArray, dimensions: int) -> FloatArray:
    """The first numbers of vectors [texts, ...], made of length one: what is left of them is a direction.

    Good where the model was trained for it (Kusupati et al. 2022, Matryoshka representations).
    """
    cut = vectors[:, :dimensions].astype(np.float64)
    lengths = np.sqrt(np.square(cut).sum(-1, keepdims=True))
    short: FloatArray = (cut / np.where(lengths, lengths, 1)).astype(np.float32)
    return short


def as_scores(logits: FloatArray, kind: str) -> FloatArray:
    """What a classifier says of its logits [..., labels]: shares of one, each for itself, or as they come."""
    if kind == "none":
        return logits
    if kind == "sigmoid":
        return (0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))).astype(np.float32)
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    shares: FloatArray = (powers / powers.sum(-1, keepdims=True)).astype(np.float32)
    return shares
