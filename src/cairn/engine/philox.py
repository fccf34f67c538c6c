"""Counter-based randomness: a uniform number from (seed, position, choice), and nothing else.

Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): no state to keep,
so a sample cannot depend on what else was drawn, on the batch, or on a sequence being preempted.
"""

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

Words = NDArray[np.uint64]


def philox(counter: Words, key: Words) -> Words:
    """Ten rounds over counters [4, n] and keys [2, n], each a 32-bit word -> [4, n] words."""
    for _ in range(10):
        products = counter[[0, 2]] * _MULTIPLIERS
        high, low = products >> _SHIFT, products & _LOW
        counter = np.stack([high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]])
        key = (key + _WEYL) & _LOW
    return counter


def uniforms(seeds: list[int], positions: list[int], indices: list[int]) -> NDArray[np.float64]:
    """One number in [0, 1) with 53 random bits per (seed modulo 2^64, position, choice index)."""
    seed = np.array([s % (1 << 64) for s in seeds], np.uint64)
    position = np.array(positions, np.uint64)
    index = np.array(indices, np.uint64)
    counter = np.stack([position & _LOW, position >> _SHIFT, index, np.zeros_like(index)])
    words = philox(counter, np.stack([seed & _LOW, seed >> _SHIFT]))
    bits = (words[0] << np.uint64(21)) ^ (words[1] >> np.uint64(11))
    numbers: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return numbers
