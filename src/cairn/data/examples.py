"""Examples of one or more short texts each, with a few numbers to learn from; for heads on an encoder.

A question with a passage and the place of the answer is one text of two segments and three numbers; a query
with passages that answer it or not is several texts. A batch holds whole examples and is a pure function
of (step, micro, seed) and its size, like a packed one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cairn.core.digests import digest_bytes
from cairn.core.errors import ConfigError, IntegrityError

Ints = NDArray[np.int64]
_ARRAYS = ("token_ids", "types", "text_bounds", "example_bounds", "labels")


@dataclass(frozen=True, slots=True)
class Example:
    """Texts as token ids and segments, and the numbers that say what is right."""

    texts: Sequence[tuple[Sequence[int], Sequence[int]]]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleBatch:
    """One micro batch: T tokens in texts, texts in examples."""

    input_ids: Ints
    """[T]."""
    types: Ints
    """[T], the segment of each token."""
    cu_seqlens: Ints
    """[texts + 1], where texts begin, and T."""
    example_bounds: Ints
    """[examples + 1], the first text of each example, and the number of texts."""
    labels: Ints
    """[examples, numbers]."""
    num_bytes: int | None = None


class ExampleSet:
    """All examples in memory; `save` and `open` keep them in one file."""

    def __init__(self, **arrays: Ints) -> None:
        self._arrays = {name: np.ascontiguousarray(arrays[name], np.int64) for name in _ARRAYS}
        self._sizes = np.diff(self._text_bounds[self._example_bounds])
        self.num_tokens = len(self._arrays["token_ids"])
        self.num_documents = len(self._example_bounds) - 1
        self._orders: dict[tuple[int | None, int, int], tuple[Ints, Ints]] = {}
        if not self.num_documents:
            raise ConfigError("there are no examples to learn from", remedy="check the recipe's sources")

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Self:
        """Gather examples."""
        token_ids: list[int] = []
        types: list[int] = []
        text_bounds, example_bounds, labels = [0], [0], []
        for example in examples:
            for ids, segments in example.texts:
                token_ids += ids
                types += segments
                text_bounds.append(len(token_ids))
            example_bounds.append(len(text_bounds) - 1)
            labels.append(list(example.labels))
        values = (token_ids, types, text_bounds, example_bounds, labels)
        return cls(**{name: np.array(value, np.int64) for name, value in zip(_ARRAYS, values, strict=True)})

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{name: stored[name] for name in _ARRAYS})
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(
                f"{path} is damaged: {error}", remedy="build the stage that made it again"
            ) from None

    def save(self, path: Path) -> None:
        """Write everything to one file."""
        with path.open("wb") as file:
            arrays: Any = {name: each.astype(np.int32) for name, each in self._arrays.items()}
            np.savez(file, **arrays)

    @property
    def digest(self) -> str:
        """Of all the numbers."""
        return digest_bytes(b"".join(self._arrays[name].tobytes() for name in _ARRAYS))

    @property
    def num_labels(self) -> int:
        """Numbers of an example."""
        return int(self._arrays["labels"].shape[1])

    @property
    def _text_bounds(self) -> Ints:
        return self._arrays["text_bounds"]

    @property
    def _example_bounds(self) -> Ints:
        return self._arrays["example_bounds"]

    def batch(
        self,
        step: int,
        *,
        tokens: int,
        seed: int,
        micro: int = 0,
        num_micro: int = 1,
        max_document: int | None = None,
    ) -> ExampleBatch:
        """Micro batch `micro` of `num_micro` of a step: whole examples of at most `tokens` tokens, or one."""
        place, epoch = step * num_micro + micro, 0
        order, bins = self._order(seed, epoch, tokens)
        while place >= len(bins) - 1:
            place -= len(bins) - 1
            epoch += 1
            order, bins = self._order(seed, epoch, tokens)
        return self._gather(order[bins[place] : bins[place + 1]])

    def sequential(self, tokens: int, *, max_document: int | None = None) -> Iterator[ExampleBatch]:
        """Every example once, in the order written."""
        order, bins = self._order(None, 0, tokens)
        for first, last in pairwise(bins.tolist()):
            yield self._gather(order[first:last])

    def _order(self, seed: int | None, epoch: int, tokens: int) -> tuple[Ints, Ints]:
        """The examples of an epoch in their order, and where each batch begins in it."""
        key = (seed, epoch, tokens)
        if key not in self._orders:
            order = np.arange(self.num_documents)
            if seed is not None:
                np.random.default_rng((seed, epoch)).shuffle(order)
            self._orders = {key: (order, _bins(self._sizes[order], tokens))}
        return self._orders[key]

    def _gather(self, chosen: Ints) -> ExampleBatch:
        firsts, lasts = self._example_bounds[chosen], self._example_bounds[chosen + 1]
        texts = np.concatenate([np.arange(a, b) for a, b in zip(firsts, lasts, strict=True)])
        starts, ends = self._text_bounds[texts], self._text_bounds[texts + 1]
        places = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        return ExampleBatch(
            input_ids=self._arrays["token_ids"][places],
            types=self._arrays["types"][places],
            cu_seqlens=_sums(ends - starts),
            example_bounds=_sums(lasts - firsts),
            labels=self._arrays["labels"][chosen],
        )


def _bins(sizes: Ints, tokens: int) -> Ints:
    """Where batches of at most `tokens` begin, and the number of examples."""
    bounds, filled = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if filled and filled + size > tokens:
            bounds.append(place)
            filled = 0
        filled += size
    return np.array([*bounds, len(sizes)], np.int64)


def _sums(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
