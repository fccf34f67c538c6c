"""Words of a text as 64-bit hashes, found and hashed by numpy without one Python object a word.

A word is a run of letters, digits and non-ASCII bytes; ASCII case does not count. Everything that
compares texts (near-duplicates, repetition, decontamination) sees them through these hashes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2^64
_BLOCK = 1 << 16  # small enough for the processor's cache


def _word_bytes() -> NDArray[np.uint8]:
    """The byte as it counts in a word (lower case), or 0 for a byte between words."""
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            table[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
    return table


def _powers(count: int) -> Hashes:
    powers = np.full(count, _BASE)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_WORD_BYTES = _word_bytes()
_POWERS = _powers(_BLOCK + 1)
_INVERSES = np.multiply.accumulate(
    np.concatenate([[np.uint64(1)], np.full(_BLOCK, np.uint64(pow(int(_BASE), -1, 1 << 64)))])
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: [words] hashes, and where they begin and end in its UTF-8 bytes."""

    hashes: Hashes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def find_words(data: bytes) -> Words:
    """The words of UTF-8 text. A word longer than 64 KiB is cut."""
    if len(data) > _BLOCK:
        return _in_blocks(data)
    mapped = _WORD_BYTES[np.frombuffer(data, np.uint8)]
    inside = np.zeros(len(mapped) + 2, np.int8)
    inside[1:-1] = mapped != 0
    edges = np.flatnonzero(np.diff(inside))
    starts, ends = edges[::2], edges[1::2]
    # A polynomial hash of every prefix; a word's hash is a difference, shifted back to place 0.
    prefix = np.zeros(len(mapped) + 1, np.uint64)
    np.cumsum(mapped * _POWERS[: len(mapped)], out=prefix[1:])
    hashes = (prefix[ends] - prefix[starts]) * _INVERSES[starts]
    return Words(mix(hashes), starts, ends)


def _in_blocks(data: bytes) -> Words:
    """Split a long text between words, so that the tables of powers suffice."""
    parts: list[Words] = []
    begin = 0
    while begin < len(data):
        end = min(begin + _BLOCK, len(data))
        if end < len(data):
            space = max(data.rfind(b" ", begin, end), data.rfind(b"\n", begin, end))
            end = space if space > begin else end
        words = find_words(data[begin:end])
        parts.append(Words(words.hashes, words.starts + begin, words.ends + begin))
        begin = end
    return Words(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.ends for part in parts]),
    )


def mix(values: Hashes) -> Hashes:
    """Spread every input bit over all output bits (the finaliser of SplitMix64)."""
    z = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def ngram_hashes(hashes: Hashes, size: int) -> Hashes:
    """[words - size + 1] hashes of all runs of `size` words; empty when there are fewer words."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    total = hashes[:count].copy()
    for place in range(1, size):
        total *= _BASE
        total += hashes[place : place + count]
    return mix(total)
