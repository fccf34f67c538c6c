"""xz baselines."""

import lzma

import pytest

from cairn.evaluation import xz_bits_per_byte


def test_plain_is_what_the_xz_tool_would_write() -> None:
    text = b"the quick brown fox jumps over the lazy dog. " * 40
    expected = 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
    assert xz_bits_per_byte(text).plain == pytest.approx(expected)


def test_training_text_helps_when_it_resembles_the_held_out_text() -> None:
    held_out = bytes(range(256)) * 8
    score = xz_bits_per_byte(held_out, training=held_out + b"and more")
    assert score.conditional < score.plain / 2


def test_without_training_text_both_are_equal() -> None:
    score = xz_bits_per_byte(b"abcabcabc")
    assert score.plain == score.conditional
