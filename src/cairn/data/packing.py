"""Packing: fixed-size batches of whole and cut documents over one flat token axis.

A batch is a pure function of (step, micro, rank, seed) and its sizes, so training resumes exactly
without saving a sampler's state. Every epoch visits every token once, its documents in a new order.
Attention never crosses a document: `cu_seqlens` bounds each piece and `positions` restart in it.

Documents longer than `max_document` (or a batch) are cut into pieces of that length, and the pieces are
shuffled. Then there are two ways to fill a batch. Without a loss mask the pieces form one endless stream, cut
every `tokens` tokens; the last token before a cut still has its target. With a loss mask (conversations)
a piece is never cut to fill a batch, because half a conversation lacks its prompt: batches are
filled with whole pieces and may be shorter than `tokens`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cairn.core.digests import digest_json
from cairn.core.errors import IntegrityError, InvalidRequestError
from cairn.data.shards import ShardIndex, read_index, verify_shards

IGNORED = -100
_ORDERS_KEPT = 4
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro batch. T tokens in len(cu_seqlens) - 1 document pieces."""

    input_ids: Ints
    """[T]."""
    labels: Ints
    """[T], already shifted: the target of each position, -100 where there is none to learn."""
    positions: Ints
    """[T], from 0 in each piece."""
    cu_seqlens: NDArray[np.int32]
    """[pieces + 1], where pieces begin, and T."""
    num_bytes: int | None
    """Bytes of text these tokens stand for; summed over an epoch, exactly the text's."""


@dataclass(frozen=True, slots=True)
class _Order:
    """The pieces of one epoch in their order."""

    starts: Ints
    """[pieces], in tokens from the beginning of the first shard."""
    lengths: Ints
    ends: Ints
    """Running sum of lengths."""
    bins: Ints
    """[batches + 1], the first piece of each batch; used where pieces stay whole."""


class PackedDataset:
    """Memory-mapped shards, sampled in a seeded order. Open with `PackedDataset.open(folder)`."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        self.folder = folder
        self.index = index
        self.num_tokens = index.num_tokens
        self.num_documents = index.num_documents
        self.num_bytes = index.num_bytes
        self.keeps_whole = index.has_mask
        names = [f"{place:05d}" for place in range(len(index.shard_tokens))]
        self._tokens = [_map(folder / f"{name}.tokens", index.dtype) for name in names]
        self._masks = [_map(folder / f"{name}.mask", "u1") for name in names] if index.has_mask else []
        self._shard_starts = np.concatenate([[0], np.cumsum(index.shard_tokens)]).astype(np.int64)
        self._documents = _map(folder / "documents", "<u8").astype(np.int64, copy=False)
        self._bytes = _map(folder / "bytes", "<u4")
        self._orders: dict[tuple[int | None, int, int, int], _Order] = {}

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> Self:
        """Open a folder that `write_shards` made; `IntegrityError` names a file that is damaged."""
        index = read_index(folder)
        if verify:
            verify_shards(folder, index)
        if not index.num_tokens:
            raise IntegrityError(f"{folder} holds no tokens", remedy="check what went into it")
        return cls(folder, index)

    @property
    def digest(self) -> str:
        """Of all its files."""
        return digest_json([file.sha256 for file in self.index.files])

    def batch(
        self,
        step: int,
        *,
        tokens: int,
        seed: int,
        micro: int = 0,
        num_micro: int = 1,
        max_document: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> Batch:
        """Micro batch `micro` of `num_micro` of a step, for one of `world` ranks, of at most `tokens` tokens.

        Documents longer than `max_document` are cut into pieces of that length.
        """
        if not 0 <= micro < num_micro or not 0 <= rank < world:
            raise InvalidRequestError(
                f"micro batch {micro} of {num_micro}, rank {rank} of {world}; allowed: each below its number"
            )
        place = (step * num_micro + micro) * world + rank
        limit = _piece_limit(max_document, tokens)
        if self.keeps_whole:
            return self._whole_batch(place, tokens, seed, limit)
        return self._stream_batch(place, tokens, seed, limit)

    def sequential(self, tokens: int, *, max_document: int | None = None) -> Iterator[Batch]:
        """Every token once, in the order written, in batches of at most `tokens`: for validation."""
        limit = _piece_limit(max_document, tokens)
        order = self._order(None, 0, limit, tokens)
        if self.keeps_whole:
            for first, last in zip(order.bins[:-1], order.bins[1:], strict=True):
                yield self._gather(order.starts[first:last], order.lengths[first:last])
            return
        for begin in range(0, self.num_tokens, tokens):
            yield self._gather(*_cut(order, begin, min(begin + tokens, self.num_tokens)))

    def document(self, place: int) -> tuple[Ints, NDArray[np.bool_]]:
        """Token ids and loss mask of one document, in the order written."""
        start, stop = int(self._documents[place]), int(self._documents[place + 1])
        ids = self._read(self._tokens, start, stop - start).astype(np.int64)
        if not self._masks:
            return ids, np.ones(len(ids), np.bool_)
        return ids, self._read(self._masks, start, stop - start).astype(np.bool_)

    def _stream_batch(self, place: int, tokens: int, seed: int, limit: int) -> Batch:
        """Window `place` of the endless stream of epochs; it may reach from one epoch into the next."""
        begin, end = place * tokens, (place + 1) * tokens
        starts: list[Ints] = []
        lengths: list[Ints] = []
        while begin < end:
            epoch, offset = divmod(begin, self.num_tokens)
            stop = min(offset + end - begin, self.num_tokens)
            piece_starts, piece_lengths = _cut(self._order(seed, epoch, limit, tokens), offset, stop)
            starts.append(piece_starts)
            lengths.append(piece_lengths)
            begin += stop - offset
        return self._gather(np.concatenate(starts), np.concatenate(lengths))

    def _whole_batch(self, place: int, tokens: int, seed: int, limit: int) -> Batch:
        epoch = 0
        order = self._order(seed, epoch, limit, tokens)
        while place >= len(order.bins) - 1:
            place -= len(order.bins) - 1
            epoch += 1
            order = self._order(seed, epoch, limit, tokens)
        first, last = order.bins[place], order.bins[place + 1]
        return self._gather(order.starts[first:last], order.lengths[first:last])

    def _order(self, seed: int | None, epoch: int, limit: int, tokens: int) -> _Order:
        """The epoch's order; None as a seed is the order written. The last few epochs are kept."""
        key = (seed, epoch, limit, tokens if self.keeps_whole else 0)
        if key not in self._orders:
            while len(self._orders) >= _ORDERS_KEPT:
                self._orders.pop(next(iter(self._orders)))
            starts, lengths = _pieces(np.asarray(self._documents), limit)
            if seed is not None:
                order = _permutation(len(starts), seed, epoch)
                starts, lengths = starts[order], lengths[order]
            ends = np.cumsum(lengths)
            bins = _next_fit(ends, tokens) if self.keeps_whole else np.zeros(1, np.int64)
            self._orders[key] = _Order(starts, lengths, ends, bins)
        return self._orders[key]

    def _gather(self, starts: Ints, lengths: Ints) -> Batch:
        """Copy pieces out of the maps, with the token after each piece as its last target."""
        total = int(lengths.sum())
        input_ids = np.empty(total, np.int64)
        labels = np.full(total, IGNORED, np.int64)
        documents = np.searchsorted(self._documents, starts, side="right") - 1
        document_ends = self._documents[documents + 1]
        filled = 0
        for start, length, document_end in zip(
            starts.tolist(), lengths.tolist(), document_ends.tolist(), strict=True
        ):
            # One token more than the piece where the document goes on: it is the last position's target.
            num_read = min(length + 1, document_end - start)
            ids = self._read(self._tokens, start, num_read)
            input_ids[filled : filled + length] = ids[:length]
            targets = ids[1:].astype(np.int64)
            if self._masks:
                targets[self._read(self._masks, start + 1, num_read - 1) == 0] = IGNORED
            labels[filled : filled + num_read - 1] = targets
            filled += length
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Batch(
            input_ids=input_ids,
            labels=labels,
            positions=np.arange(total) - np.repeat(offsets[:-1], lengths),
            cu_seqlens=offsets.astype(np.int32),
            num_bytes=int(self._bytes_of(starts, lengths, documents).sum()),
        )

    def _bytes_of(self, starts: Ints, lengths: Ints, documents: Ints) -> Ints:
        """Each piece's share of its document's bytes; the shares of a document add up to all of them."""
        begins = self._documents[documents]
        sizes = self._bytes[documents].astype(np.int64)
        total = self._documents[documents + 1] - begins
        before = starts - begins
        shares: Ints = sizes * (before + lengths) // total - sizes * before // total
        return shares

    def _read(self, maps: list[NDArray[Any]], start: int, length: int) -> NDArray[Any]:
        """A slice of one document; a document lies in one shard."""
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        shard = min(shard, len(maps) - 1)
        offset = start - int(self._shard_starts[shard])
        return maps[shard][offset : offset + length]


def _map(path: Path, dtype: str) -> NDArray[Any]:
    # mmap refuses an empty file.
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def _piece_limit(max_document: int | None, tokens: int) -> int:
    limit = tokens if max_document is None else min(max_document, tokens)
    if limit < 1:
        raise InvalidRequestError(f"tokens and max_document are {tokens}, {max_document}; allowed: 1 or more")
    return limit


def _permutation(count: int, seed: int, epoch: int) -> Ints:
    """Places sorted by a hash of (seed, epoch, place): the same in every numpy release."""
    mixed = _splitmix(np.array([seed % (1 << 64)], np.uint64)) ^ np.uint64(epoch)
    keys = _splitmix(np.arange(count, dtype=np.uint64) ^ _splitmix(mixed))
    return np.argsort(keys, kind="stable")


def _splitmix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014), elementwise, wrapping."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _pieces(documents: Ints, limit: int) -> tuple[Ints, Ints]:
    """Starts and lengths of the documents, the long ones cut into pieces of at most `limit` tokens."""
    starts, lengths = documents[:-1], np.diff(documents)
    if int(lengths.max()) <= limit:
        return starts, lengths
    counts = -(-lengths // limit)
    place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    piece_lengths = np.minimum(limit, np.repeat(lengths, counts) - place * limit)
    return np.repeat(starts, counts) + place * limit, piece_lengths


def _next_fit(ends: Ints, tokens: int) -> Ints:
    """Fill batches in order: a piece that does not fit begins the next one."""
    bins = [0]
    while bins[-1] < len(ends):
        before = ends[bins[-1] - 1] if bins[-1] else 0
        bins.append(int(np.searchsorted(ends, before + tokens, side="right")))
    return np.array(bins, dtype=np.int64)


def _cut(order: _Order, begin: int, end: int) -> tuple[Ints, Ints]:
    """Pieces of tokens [begin, end) of an epoch, the first and last cut where needed."""
    first = int(np.searchsorted(order.ends, begin, side="right"))
    last = int(np.searchsorted(order.ends, end, side="left"))
    starts = order.starts[first : last + 1].copy()
    lengths = order.lengths[first : last + 1].copy()
    lengths[-1] -= order.ends[last] - end
    skipped = begin - (order.ends[first] - order.lengths[first])
    starts[0] += skipped
    lengths[0] -= skipped
    return starts, lengths
