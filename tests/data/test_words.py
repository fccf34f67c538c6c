"""Word hashes against a plain reading of the text, and the hash table against a dictionary."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.data.hash_table import HashTable
from cairn.data.words import find_words, ngram_hashes

TEXT = st.lists(
    st.sampled_from(["the", "The", "cat", "é", "日本", " ", "\n", ", ", "-", "x1", "42", "'", "🙂"]),
    max_size=40,
).map("".join)


def plain_words(data: bytes) -> list[bytes]:
    return re.findall(rb"[0-9a-z\x80-\xff]+", data.lower())


@settings(max_examples=200, deadline=None)
@given(text=TEXT | st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_words_are_those_of_a_plain_reading(text: str) -> None:
    data = text.encode()
    words = find_words(data)
    spelled = [data[start:end].lower() for start, end in zip(words.starts, words.ends, strict=True)]
    assert spelled == plain_words(data)
    by_hash: dict[int, bytes] = {}
    for word, number in zip(spelled, words.hashes.tolist(), strict=True):
        assert by_hash.setdefault(number, word) == word
    assert len(by_hash) == len(set(spelled))


def test_long_texts_are_read_in_blocks() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"word{i}" for i in range(5000)]
    text = " ".join(vocabulary[i] for i in rng.integers(0, 5000, size=60_000))
    words = find_words(text.encode())
    assert len(words.hashes) == 60_000
    assert len(np.unique(words.hashes)) == 5000
    short = find_words(text[:1000].encode())
    assert (words.hashes[: len(short.hashes) - 1] == short.hashes[:-1]).all()
    assert len(find_words(b"a" * 300_000).hashes) == 5


@settings(max_examples=100, deadline=None)
@given(text=TEXT, size=st.integers(1, 6))
def test_ngrams(text: str, size: int) -> None:
    words = plain_words(text.encode())
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    hashes = ngram_hashes(find_words(text.encode()).hashes, size).tolist()
    assert len(hashes) == len(grams)
    assert len(set(hashes)) == len(set(grams))
    assert len(set(zip(grams, hashes, strict=True))) == len(set(grams))


@settings(max_examples=100, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 40), st.integers(0, 9))), max_size=8
    )
)
def test_the_table_is_a_dictionary(batches: list[list[tuple[int, int]]]) -> None:
    table, plain = HashTable(), dict[int, int]()
    for batch in batches:
        keys = np.array([key for key, _ in batch], np.uint64)
        found, values = table.find(keys)
        expected = [plain.get(max(key, 1)) for key, _ in batch]
        assert found.tolist() == [value is not None for value in expected]
        assert values.tolist() == [value or 0 for value in expected]
        table.add(keys, np.array([value for _, value in batch], np.uint32))
        for key, value in batch:
            plain.setdefault(max(key, 1), value)
        assert len(table) == len(plain)


def test_the_table_grows() -> None:
    table = HashTable()
    keys = np.random.default_rng(0).integers(1, 2**63, size=100_000).astype(np.uint64)
    for part in np.array_split(keys, 7):
        table.add(part, np.zeros(len(part), np.uint32))
    assert table.find(keys)[0].all()
    assert not table.find(keys + np.uint64(1 << 63))[0].any()
    assert table.num_bytes <= 35 * len(keys)
