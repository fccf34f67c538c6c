"""`xz -9` as a baseline: how many bits a general-purpose compressor needs per byte of held-out text.

Two numbers, because a language model has read its training text and a plain compressor has
not: `plain` compresses the held-out text alone; `conditional` is what the held-out text adds
to the training text, size(training + held-out) - size(training). The dictionary is made as
large as the whole input, so that the conditional number can use all of it.
"""

import lzma
from dataclasses import dataclass

_LARGEST_DICTIONARY = 1536 << 20


@dataclass(frozen=True, slots=True)
class XzBaseline:
    """Bits per byte of held-out text under `xz -9e`."""

    plain: float
    conditional: float


def xz_bits_per_byte(held_out: bytes, training: bytes = b"") -> XzBaseline:
    """Both baselines; `held_out` must not be empty. Without `training` they are equal."""
    assert held_out, "nothing to compress"
    plain = _compressed_size(held_out)
    added = _compressed_size(training + held_out) - _compressed_size(training) if training else plain
    return XzBaseline(8 * plain / len(held_out), 8 * added / len(held_out))


def _compressed_size(data: bytes) -> int:
    dictionary = min(max(64 << 20, len(data)), _LARGEST_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)
    return len(compressor.compress(data)) + len(compressor.flush())
