"""The number formats of GGUF: how blocks of weights become float32, and three of them the way back.

A tensor is a row of blocks; each block holds `size` weights in `num_bytes` bytes, little-endian, laid out
as the numpy dtype beside its formula says. d and m are half-precision scale and offset:

    Q4_0, Q5_0   w = d * (q - 8 or 16)       nibbles of weights 0..15 are low, those of 16..31 high; the
    Q4_1, Q5_1   w = d * q + m               fifth bits are the 32 bits of h, weight 0 first
    Q8_0         w = d * q                   q signed
    Q4_K, Q5_K   w = d * s[i] * q - m * t[i] 8 groups of 32; s and t are 6 bits each, packed in 12 bytes:
                 groups 0..3: s = byte i, t = byte 4 + i, low 6 bits of each
                 groups 4..7: s = low nibble of byte 4 + i, t = the high one,
                 topped by bits 6..7 of byte i - 4 and of byte i
    Q6_K         w = d * s[i] * (q - 32)     16 groups of 16; 4 low bits in l, 2 high bits in h

Computed in the order of operations of ggml's reference, so that every float is the same. Quantising is
ggml's reference as well. Source: ggml-quants.c and ggml-common.h of ggml-org/llama.cpp.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Blocks = NDArray[np.void]
Nibbles = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BlockType:
    """One format; `number` is ggml's."""

    number: int
    name: str
    size: int
    """Weights in a block."""
    layout: np.dtype[np.void]
    decode: Callable[[Blocks], Floats]
    """Blocks [n] to weights [n, size]."""

    @property
    def num_bytes(self) -> int:
        return self.layout.itemsize

    def dequantise(self, data: NDArray[np.uint8]) -> Floats:
        """The weights of whole blocks as flat float32; not finite where the scales are not."""
        blocks = data.view(self.layout)
        whole = np.empty((len(blocks), self.size), np.float32)
        step = max(1, _WEIGHTS_AT_ONCE // self.size)
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(blocks), step):
                part = self.decode(blocks[start : start + step])
                whole[start : start + step] = part.reshape(-1, self.size)
        return whole.reshape(-1)


_WEIGHTS_AT_ONCE = 1 << 20
"""Bounds what decoding needs beside its result."""


def _plain(blocks: Blocks) -> Floats:
    return blocks["w"].astype(np.float32)


def _bf16(blocks: Blocks) -> Floats:
    return (blocks["w"].astype(np.uint32) << 16).view(np.float32)


def _scale(blocks: Blocks, name: str = "d") -> Floats:
    """A half-precision field as float32 [n, 1]."""
    return blocks[name].astype(np.float32)[:, None]


def _nibbles(blocks: Blocks) -> Nibbles:
    """Low nibbles of all bytes, then the high ones."""
    return np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1)


def _five_bits(blocks: Blocks) -> Nibbles:
    fifth: Nibbles = np.unpackbits(blocks["h"], axis=1, bitorder="little")
    return _nibbles(blocks) | fifth << np.uint8(4)


def _q4_0(blocks: Blocks) -> Floats:
    return _scale(blocks) * (_nibbles(blocks).astype(np.int8) - 8).astype(np.float32)


def _q5_0(blocks: Blocks) -> Floats:
    return _scale(blocks) * (_five_bits(blocks).astype(np.int8) - 16).astype(np.float32)


def _q4_1(blocks: Blocks) -> Floats:
    return _scale(blocks) * _nibbles(blocks).astype(np.float32) + _scale(blocks, "m")


def _q5_1(blocks: Blocks) -> Floats:
    return _scale(blocks) * _five_bits(blocks).astype(np.float32) + _scale(blocks, "m")


def _q8_0(blocks: Blocks) -> Floats:
    return _scale(blocks) * blocks["q"].astype(np.float32)


def _groups(blocks: Blocks) -> tuple[Floats, Floats]:
    """d * s and m * t of the eight groups, [n, 8] each."""
    first, second, last = np.split(blocks["s"], 3, axis=1)
    s = np.concatenate([first & 63, last & 15 | first >> 6 << 4], axis=1)
    t = np.concatenate([second & 63, last >> 4 | second >> 6 << 4], axis=1)
    return _scale(blocks) * s.astype(np.float32), _scale(blocks, "m") * t.astype(np.float32)


def _pairs(blocks: Blocks) -> Nibbles:
    """Nibbles [n, 8, 32]: 32 bytes hold two groups, the first in their low halves."""
    pairs = blocks["q"].reshape(-1, 4, 1, 32)
    return np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32)


def _weighted(blocks: Blocks, q: Nibbles) -> Floats:
    scale, offset = _groups(blocks)
    weights = scale[:, :, None] * q.astype(np.float32) - offset[:, :, None]
    return weights.reshape(-1, 256)


def _q4_k(blocks: Blocks) -> Floats:
    return _weighted(blocks, _pairs(blocks))


def _q5_k(blocks: Blocks) -> Floats:
    bits: Nibbles = blocks["h"][:, None, :] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)
    return _weighted(blocks, _pairs(blocks) | bits << np.uint8(4))


def _q6_k(blocks: Blocks) -> Floats:
    low = blocks["l"].reshape(-1, 2, 1, 64)
    high = blocks["h"].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    q = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32) | high << 4
    scale = _scale(blocks) * blocks["s"].astype(np.float32)
    weights: Floats = scale[:, :, None] * (q.astype(np.int8) - 32).reshape(-1, 16, 16).astype(np.float32)
    return weights.reshape(-1, 256)


def _type(number: int, name: str, size: int, decode: Callable[[Blocks], Floats], *fields: str) -> BlockType:
    """`fields` as `name:format` or `name:format:count`."""
    parts = [field.split(":") for field in fields]
    layout = np.dtype([(key, form, *map(int, count)) for key, form, *count in parts])
    return BlockType(number, name, size, layout, decode)


BLOCK_TYPES: dict[int, BlockType] = {
    each.number: each
    for each in (
        _type(0, "F32", 1, _plain, "w:<f4"),
        _type(1, "F16", 1, _plain, "w:<f2"),
        _type(2, "Q4_0", 32, _q4_0, "d:<f2", "q:u1:16"),
        _type(3, "Q4_1", 32, _q4_1, "d:<f2", "m:<f2", "q:u1:16"),
        _type(6, "Q5_0", 32, _q5_0, "d:<f2", "h:u1:4", "q:u1:16"),
        _type(7, "Q5_1", 32, _q5_1, "d:<f2", "m:<f2", "h:u1:4", "q:u1:16"),
        _type(8, "Q8_0", 32, _q8_0, "d:<f2", "q:i1:32"),
        _type(12, "Q4_K", 256, _q4_k, "d:<f2", "m:<f2", "s:u1:12", "q:u1:128"),
        _type(13, "Q5_K", 256, _q5_k, "d:<f2", "m:<f2", "s:u1:12", "h:u1:32", "q:u1:128"),
        _type(14, "Q6_K", 256, _q6_k, "l:u1:128", "h:u1:64", "s:i1:16", "d:<f2"),
        _type(30, "BF16", 1, _bf16, "w:<u2"),
    )
}
BY_NAME = {each.name: each for each in BLOCK_TYPES.values()}


def quantise(values: Floats, name: str) -> NDArray[np.uint8]:
    """Float32 rows as the bytes of blocks; F32, F16, BF16, Q8_0 and Q4_0, rows whole blocks long."""
    if name in ("F32", "F16"):
        return np.ascontiguousarray(values, BY_NAME[name].layout["w"]).reshape(-1).view(np.uint8)
    if name == "BF16":
        return _to_bf16(values).view(np.uint8)
    groups = values.reshape(-1, 32)
    return (_to_q8_0 if name == "Q8_0" else _to_q4_0)(groups).view(np.uint8)


def _to_bf16(values: Floats) -> NDArray[np.uint16]:
    """To the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _to_q8_0(groups: Floats) -> Blocks:
    scale = np.abs(groups).max(axis=1) / np.float32(127)
    block = np.zeros(len(groups), BY_NAME["Q8_0"].layout)
    scaled = groups * _inverse(scale)[:, None]
    # Half away from zero, as C's roundf; numpy rounds half to even.
    whole = np.trunc(scaled)
    block["d"], block["q"] = scale, whole + np.trunc(2 * (scaled - whole))
    return block


def _to_q4_0(groups: Floats) -> Blocks:
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    scale = extreme / np.float32(-8)
    block = np.zeros(len(groups), BY_NAME["Q4_0"].layout)
    levels = np.trunc(groups * _inverse(scale)[:, None] + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    block["d"], block["q"] = scale, levels[:, :16] | levels[:, 16:] << 4
    return block


def _inverse(scale: Floats) -> Floats:
    """1 / scale, and 0 where a block is zeros (or so near to them that its scale has no inverse)."""
    return np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > 1e-38)
