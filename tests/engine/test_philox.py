import numpy as np

from cairn.engine.philox import philox, uniforms


def _words(*values: int) -> np.ndarray:
    return np.array([[value] for value in values], np.uint64)


def test_known_answers_of_the_authors() -> None:
    """Random123's kat_vectors for philox4x32-10."""
    ones = 0xFFFFFFFF
    cases = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, expected in cases:
        assert tuple(philox(_words(*counter), _words(*key))[:, 0]) == expected


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    numbers = uniforms([7] * 20_000, list(range(20_000)), [0] * 20_000)
    assert 0 <= numbers.min() < numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8  # 99.9 % of 19 degrees of freedom


def test_every_part_of_the_key_matters_and_the_batch_does_not() -> None:
    alone = uniforms([-1], [5], [2])
    batch = uniforms([0, -1, -1, -1, 1 << 63], [5, 5, 6, 5, 5], [2, 2, 2, 3, 2])
    assert batch[1] == alone[0]
    assert len(set(batch)) == 5
    assert uniforms([(1 << 64) - 1], [5], [2]) == alone
