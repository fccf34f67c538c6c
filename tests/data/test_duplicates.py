"""Exact and near duplicates, and what counts as contamination."""

import numpy as np
import pytest

from cairn.data.decontamination import DecontaminateConfig, EvaluationIndex, cut_hits
from cairn.data.duplicates import ExactConfig, ExactDuplicates, NearConfig, NearDuplicates, signature_of
from cairn.data.words import find_words

VOCABULARY = [f"word{i}" for i in range(4000)]


def random_text(rng: np.random.Generator, num_words: int) -> str:
    return " ".join(VOCABULARY[i] for i in rng.integers(0, len(VOCABULARY), size=num_words))


def changed(rng: np.random.Generator, text: str, num_changes: int) -> str:
    words = text.split()
    for place in rng.choice(len(words), size=num_changes, replace=False):
        words[place] = "changed"
    return " ".join(words)


def jaccard(left: str, right: str) -> float:
    shingles = [{tuple(t.split()[i : i + 5]) for i in range(len(t.split()) - 4)} for t in (left, right)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def found_share(num_changes: int, count: int = 40) -> tuple[float, float]:
    """Share of changed copies that are found, and their mean similarity."""
    rng = np.random.default_rng(num_changes)
    found, similarity = 0, 0.0
    for _ in range(count):
        seen = NearDuplicates(NearConfig())
        text = random_text(rng, 300)
        other = changed(rng, text, num_changes)
        assert not seen.is_repeated(signature_of(find_words(text.encode()), NearConfig()))
        found += seen.is_repeated(signature_of(find_words(other.encode()), NearConfig()))
        similarity += jaccard(text, other)
    return found / count, similarity / count


def test_near_duplicates_are_found_as_the_theory_says() -> None:
    for num_changes, least, most in ((0, 1.0, 1.0), (3, 0.97, 1.0), (9, 0.6, 0.95), (40, 0.0, 0.05)):
        share, similarity = found_share(num_changes)
        expected = 1 - (1 - similarity**8) ** 14
        assert least <= share <= most, (num_changes, similarity, share)
        assert abs(share - expected) < 0.2


def test_different_texts_are_not_near() -> None:
    rng = np.random.default_rng(7)
    seen = NearDuplicates(NearConfig())
    assert not any(
        seen.is_repeated(signature_of(find_words(random_text(rng, 200).encode()), NearConfig()))
        for _ in range(300)
    )


def test_too_short_for_a_shingle() -> None:
    seen = NearDuplicates(NearConfig())
    signature = signature_of(find_words(b"only four words here"), NearConfig())
    assert not len(signature)
    assert not seen.is_repeated(signature)
    assert not seen.is_repeated(signature)


def test_exact_documents() -> None:
    seen = ExactDuplicates(ExactConfig())
    texts = ["One two, three.", "one  TWO three!", "three two one", "one two three four"]
    assert [seen.is_repeated(find_words(text.encode())) for text in texts] == [False, True, False, False]


def test_repeated_paragraphs() -> None:
    rng = np.random.default_rng(0)
    first, second, third = (random_text(rng, 40) for _ in range(3))
    seen = ExactDuplicates(ExactConfig())
    assert seen.without_repeated_paragraphs(f"{first}\n\n{second}\n\nshort\n\nshort") == (
        f"{first}\n\n{second}\n\nshort\n\nshort"
    )
    assert seen.without_repeated_paragraphs(f"{third}\n\n{first.upper()}\n\nend") == f"{third}\n\nend"
    assert seen.without_repeated_paragraphs(f"{third}\n\n{third}") == ""


QUESTION = "Natalia sold clips to forty-eight of her friends in April, and then she sold half as many in May."


def test_contamination() -> None:
    index = EvaluationIndex(
        {
            "gsm8k": [QUESTION],
            "short": ["What is the capital city of the country France?"],
            "tiny": ["yes no"],
        }
    )
    clean = "Somebody sold clips to her friends.\n\nMany of them in April."
    assert index.hits(find_words(clean.encode())) == []
    middle = "She said: natalia SOLD clips, to forty eight of her friends in April and then she left."
    dirty = f"Before, é.\n\n{middle}\n\nAfter."
    hits = index.hits(find_words(dirty.encode()))
    assert {hit.dataset for hit in hits} == {"gsm8k"}
    assert cut_hits(dirty, hits) == "Before, é.\n\nAfter."
    short = "Ask: what is the capital city of the country France? Paris."
    assert [hit.dataset for hit in index.hits(find_words(short.encode()))] == ["short"]
    assert index.hits(find_words(b"yes no")) == []


@pytest.mark.parametrize("shared", [11, 12, 13, 14])
def test_thirteen_words_make_a_hit(shared: int) -> None:
    rng = np.random.default_rng(shared)
    item = random_text(rng, 40)
    text = " ".join([random_text(rng, 20), *item.split()[5 : 5 + shared], random_text(rng, 20)])
    hits = EvaluationIndex({"set": [item]}).hits(find_words(text.encode()))
    assert bool(hits) == (shared >= 13)
    assert bool(
        EvaluationIndex({"set": [item]}, DecontaminateConfig(ngram=11)).hits(find_words(text.encode()))
    )
