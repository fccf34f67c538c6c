"""Words of texts, and the stemmer against its authors' own."""

import pytest

from cairn.retrieval.stemmer import stem
from cairn.retrieval.terms import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The max_tokens of GPT-4, 3.11", ["the", "max", "token", "of", "gpt", "4", "3", "11"]),
        ("Don’t! It's Ada's", ["don't", "it", "ada"]),
        ("Straße café CAFÉ ﬁne", ["straße", "café", "café", "fine"]),
        ("検索エンジン is 한국", ["検索", "索エ", "エン", "ンジ", "ジン", "is", "한국"]),
        ("x字y", ["x", "字", "y"]),
        ("Москва ΑΘΗΝΑ", ["москва", "αθηνα"]),
        ("... -- ''", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("consistently", "consist"), ("consignment", "consign"), ("knightly", "knight"), ("knots", "knot"),
        ("generously", "generous"), ("communism", "communism"), ("arsenal", "arsenal"), ("hopping", "hop"),
        ("hoped", "hope"), ("falling", "fall"), ("flies", "fli"), ("ties", "tie"), ("agreed", "agre"),
        ("feed", "feed"), ("skies", "sky"), ("dying", "die"),
        ("news", "news"), ("happily", "happili"), ("relational", "relat"),
        ("geologist", "geolog"), ("apologies", "apolog"), ("youth's", "youth"), ("say", "say"), ("by", "by"),
        ("cries", "cri"), ("controlling", "control"), ("rationalisation", "rationalis"),
    ],
)  # fmt: skip
def test_stems(word: str, expected: str) -> None:
    assert stem(word) == expected
