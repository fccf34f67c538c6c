"""Damage done to files, the same for every reader, from a seed: what a disk, a network or an enemy makes."""

import random
import struct

_WORDS = (0, 1, 7, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_FLOATS = (float("nan"), float("inf"), -1.0, 1e38)


def damaged(content: bytes, seed: int, header: int) -> bytes:
    """The bytes with up to three wounds, four of five in the first `header` bytes, and at times cut short."""
    rng, out = random.Random(seed), bytearray(content)
    kind = rng.randrange(7)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(header if rng.random() < 0.8 else len(content))
        other, length = rng.randrange(header), rng.randint(1, 64)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            out[at : at + 8] = struct.pack("<Q", rng.choice(_WORDS))
        elif kind == 3:
            out[at : at + 4] = struct.pack("<I", rng.choice(_WORDS) & 0xFFFFFFFF)
        elif kind == 4:
            out[at : at + 4] = struct.pack("<f", rng.choice(_FLOATS))
        elif kind == 5:
            out[at : at + length] = content[other : other + length]
        else:  # a piece too many or too few
            out[at:at] = content[other : other + length]
            del out[other : other + rng.choice((0, length))]
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.05 else out)


def damaged_value(value: object, seed: int) -> object:
    """Another value for a field of JSON: a near one, or one of another kind."""
    rng = random.Random(seed)
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-4096, -32, -16, -1, 1, 16, 32, 4096))
    words: tuple[object, ...] = (
        *_WORDS,
        -1,
        -(1 << 63),
        1 << 64,
        0.5,
        True,
        None,
        "",
        "0",
        [],
        [0],
        {},
        float("nan"),
    )
    return rng.choice(words)
