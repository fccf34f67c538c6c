"""Reading and reranking here: the heads on the packaged encoder, as `Reader` and `Reranker`.

A head's matrices are merged into the encoder's as it is loaded, so each head takes the memory of an encoder
(`resident_bytes`). Requests of all callers are computed together, and nobody's result depends on whose. Never
imports torch.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cairn.core.bounded_cache import BoundedCache
from cairn.core.errors import IntegrityError, InvalidRequestError
from cairn.core.progress import Progress
from cairn.core.retrieval import Span
from cairn.data import Tokenizer
from cairn.data.span_encoder import Pieces, SpanEncoder, Window
from cairn.engine.native_encoder import Encoding, NativeEncoder
from cairn.engine.runner import FloatArray
from cairn.engine.weight_reader import WeightFormat
from cairn.models.encoder_heads import read_head_spec, read_token_weights
from cairn.providers.encoders import LocalEncoder
from cairn.providers.packaged_encoder import adopt_packaged_encoder
from cairn.providers.starter import HEADS, adopt_heads
from cairn.registry import Registry

HEAD = "head"
"""The kind of artifact."""
_OVERLAP = 64
"""Tokens that neighbouring windows of a long passage share."""
_SPANS_PER_WINDOW = 20
_READ_BYTES = 96 << 20
"""Rows of passages that a reranker keeps: some 600 of 200 tokens, for they are what a query waits for."""
_DEFAULT_LONGEST_ANSWER = 60


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span that may be the answer."""

    passage: int
    start: int
    end: int
    """Characters."""
    margin: float
    """By how much it is more likely than no answer in its window, in logits."""


class LocalHead(LocalEncoder):
    """An encoder with a head on it; `close` ends it."""

    def __init__(
        self, encoder: NativeEncoder, tokenizer: Tokenizer, head: Path, *, name: str = "", digest: str = ""
    ) -> None:
        super().__init__(encoder, tokenizer, name=name, artifact_digest=digest)
        self.spec = read_head_spec(head)
        self.spans = SpanEncoder(tokenizer)

    def calibrate(self, values: Mapping[str, float]) -> None:
        """Take other numbers for what the network's outputs mean."""
        self.spec = replace(self.spec, values={**self.spec.values, **values})

    def _value(self, name: str, default: float) -> float:
        value = self.spec.values.get(name, default)
        if not isinstance(value, int | float):
            raise IntegrityError(f"head.json: {name} is {value!r}, allowed: a number")
        return float(value)


class LocalReader(LocalHead):
    """The `Reader` of one head: the stretch of a passage that answers a question."""

    def read(self, question: str, passages: Sequence[str], *, limit: int = 1) -> list[Span]:
        """The best spans, best first; their confidence tells whether there is an answer at all."""
        slope, offset = self._value("slope", 1.0), self._value("offset", 0.0)
        found = []
        for each in self.candidates(question, passages, limit=limit):
            confidence = 0.5 + 0.5 * np.tanh((slope * each.margin + offset) / 2)
            text = passages[each.passage][each.start : each.end]
            found.append(Span(each.passage, each.start, each.end, text, float(confidence)))
        return found

    def candidates(self, question: str, passages: Sequence[str], *, limit: int = 1) -> list[Candidate]:
        """The spans of the greatest margins, of those that overlap the best alone."""
        asked, *read = self.spans.pieces([question, *passages])
        if not asked.ids:
            raise InvalidRequestError("the question is empty", remedy="ask something", param="question")
        windows = [
            (place, window)
            for place, passage in enumerate(read)
            if passage.ids
            for window in self.spans.windows(asked, passage, longest=self.max_tokens, overlap=_OVERLAP)
        ]
        rows = self.engine.submit([Encoding(each.token_ids, each.types) for _, each in windows]).result()
        found: list[Candidate] = []
        for (place, window), logits in zip(windows, rows, strict=True):
            found += self._spans_of(place, window, read[place], logits)
        best: list[Candidate] = []
        for each in sorted(found, key=lambda each: (-each.margin, each.passage, each.start, each.end)):
            if len(best) == limit:
                break
            if not any(_overlap(each, other) for other in best):
                best.append(each)
        return best

    def _spans_of(self, place: int, window: Window, passage: Pieces, logits: FloatArray) -> list[Candidate]:
        inside = logits[window.context : -1].astype(np.float64)
        longest = int(self._value("longest_answer", _DEFAULT_LONGEST_ANSWER))
        scores = inside[:, :1] + inside[None, :, 1]
        lengths = np.arange(len(inside))[None] - np.arange(len(inside))[:, None]
        scores[(lengths < 0) | (lengths >= longest)] = -np.inf
        nothing = float(logits[0].astype(np.float64).sum())
        best = nlargest(_SPANS_PER_WINDOW, range(scores.size), key=scores.ravel().__getitem__)
        spans = []
        for first, last in (divmod(index, len(inside)) for index in best):
            if np.isfinite(scores[first, last]):
                start = passage.offsets[window.first + first][0]
                end = passage.offsets[window.first + last][1]
                spans.append(Candidate(place, start, end, float(scores[first, last]) - nothing))
        return spans


class LocalReranker(LocalHead):
    """The `Reranker` of one head: how well the words of a query meet those of each passage."""

    def __init__(
        self, encoder: NativeEncoder, tokenizer: Tokenizer, head: Path, *, name: str = "", digest: str = ""
    ) -> None:
        super().__init__(encoder, tokenizer, head, name=name, digest=digest)
        self.token_weights = read_token_weights(head)
        self._read: BoundedCache[bytes, TextRows] = BoundedCache(_READ_BYTES)

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """A score for each passage, comparable within and between queries; more is better."""
        if not passages:
            return []
        keys = [hashlib.sha256(each.encode()).digest() for each in passages]
        found = {key: rows for key in keys if (rows := self._read.get(key)) is not None}
        new = {key: text for key, text in zip(keys, passages, strict=True) if key not in found}
        asked, *computed = self.rows([query, *new.values()])
        for key, rows in zip(new, computed, strict=True):
            found[key] = rows.halved()
            self._read.put(key, found[key], found[key].num_bytes)
        return [float(score) for score in self.score_rows(asked, [found[key] for key in keys])]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts, as far as they are read."""
        return sum(len(self.spans.single(each, self.max_tokens)) for each in self.spans.pieces(texts))

    def forget(self) -> None:
        """Hold nothing of the passages that were read."""
        self._read.clear()

    def score_rows(self, query: "TextRows", passages: "Sequence[TextRows]") -> NDArray[np.float64]:
        """The same, of texts whose rows are there."""
        weights = np.array([self._value(name, 1.0) for name in ("meeting_weight", "mean_weight")])
        scores: NDArray[np.float64] = meetings(query, passages) @ weights + self._value("offset", 0.0)
        return scores

    def rows(self, texts: Sequence[str]) -> "list[TextRows]":
        """The rows of each text's tokens, and how telling each token is."""
        encoded = [self.spans.single(each, self.max_tokens) for each in self.spans.pieces(texts)]
        rows = self.engine.submit([Encoding(each) for each in encoded]).result()
        return [TextRows(each, self.token_weights[ids]) for each, ids in zip(rows, encoded, strict=True)]


@dataclass(frozen=True, slots=True)
class TextRows:
    """A text as the reranker sees it, `[CLS]` and `[SEP]` included."""

    rows: "FloatArray | NDArray[np.float16]"
    """[tokens, width]"""
    weights: FloatArray
    """[tokens]"""

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return self.rows.nbytes + self.weights.nbytes

    def halved(self) -> "TextRows":
        """The same in half the memory, to three digits."""
        return TextRows(self.rows.astype(np.float16), self.weights)


def meetings(query: TextRows, passages: Sequence[TextRows]) -> NDArray[np.float64]:
    """[passages, 2]: the weighted mean of the greatest cosine of each of the query's tokens with one of the
    passage's (late interaction), and the cosine of the mean rows."""
    if len(query.rows) <= 2:
        raise InvalidRequestError("the query is empty", remedy="ask something", param="query")
    asked = query.rows.astype(np.float32)
    mean, tokens = _unit(asked.mean(0)), _unit(asked[1:-1])
    weights = query.weights[1:-1] / query.weights[1:-1].sum()
    found = []
    for each in passages:
        rows = each.rows.astype(np.float32)
        found.append(((_unit(rows) @ tokens.T).max(0) @ weights, _unit(rows.mean(0)) @ mean))
    return np.array(found, np.float64).reshape(-1, 2)


AnyHead = LocalReader | LocalReranker
H = TypeVar("H", bound=AnyHead)


def open_head(
    base: Path,
    head: Path,
    *,
    weights: WeightFormat = "bfloat16",
    num_threads: int | None = None,
    name: str = "",
    digest: str = "",
) -> AnyHead:
    """The head in a folder on the encoder in another; `close` ends it."""
    spec = read_head_spec(head)
    encoder = NativeEncoder(base, weights=weights, head=head, num_threads=num_threads)
    kind: type[AnyHead] = LocalReader if spec.task == "reading" else LocalReranker
    return kind(encoder, Tokenizer.load(base), head, name=name, digest=digest)


def load_head(
    registry: Registry,
    ref: str,
    kind: type[H],
    *,
    weights: WeightFormat = "bfloat16",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> H:
    """Load the head that `ref` names (`reader`, `reranker`) with the encoder it was trained on."""
    if ref in HEADS:
        adopt_heads(registry)
    artifact = registry.get(ref)
    if artifact.kind != HEAD:
        raise InvalidRequestError(
            f"{ref!r} is a {artifact.kind}, no head", remedy="name a reader or reranker"
        )
    adopt_packaged_encoder(registry)
    base = registry.get(read_head_spec(artifact.folder).base)
    found = open_head(
        base.folder,
        artifact.folder,
        weights=weights,
        num_threads=num_threads,
        name=ref,
        digest=artifact.digest,
    )
    if not isinstance(found, kind):
        found.close()
        raise InvalidRequestError(
            f"{ref!r} is for {found.spec.task}", remedy="name a head of the other sort", param="model"
        )
    return found


def _overlap(one: Candidate, other: Candidate) -> bool:
    return one.passage == other.passage and one.start < other.end and other.start < one.end


def _unit(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: FloatArray = rows / np.maximum(lengths, np.float32(1e-12))
    return unit
