"""Questions made from passages: their answers stand in the passage, and the passage's words ask for them."""

import random

from cairn.data.clozes import clozes
from cairn.data.questions import Question

PASSAGE = (
    "The bridge over the Tamar was opened in 1859 by Prince Albert after eleven years of work. "
    "It carries the railway from Plymouth to Saltash, and was drawn by Isambard Brunel in London. "
    "Trains pass it slowly because the curve at each end is tight. "
    "About 46 trains cross the old bridge every day, and 12 thousand people walk near it."
)


def made(count: int, seed: int = 0, passage: str = PASSAGE) -> list[Question]:
    given = Question("unused?", passage, ("unused",), None, "article 7")
    return list(clozes([given], count, random.Random(seed)))


def test_answers_stand_in_the_passage_and_their_words_are_not_in_the_question() -> None:
    found = [each for seed in range(20) for each in made(8, seed)]
    assert len(found) > 80
    words = set(PASSAGE.lower().replace(".", " ").replace(",", " ").split())
    for each in found:
        assert each.span is not None
        assert PASSAGE[slice(*each.span)] == each.answers[0] != ""
        assert each.group == "article 7"
        said = each.text.rstrip("?").lower().replace(".", "").split()
        assert set(said[2 if each.text.startswith("how many") else 1 :]) <= words
    asked = {each.text.split()[0]: each.answers[0] for each in found}
    assert {"when", "how", "where", "who", "why", "what"} <= set(asked)
    assert asked["when"] == "1859"
    assert asked["why"] == "the curve at each end is tight"


def test_as_many_as_asked_for_each_place_once_and_always_the_same() -> None:
    found = made(5)
    assert len(found) == 5
    assert len({each.span for each in found}) == 5
    assert found == made(5)
    assert found != made(5, seed=1)
    assert made(0) == []


def test_a_passage_without_sentences_gives_none() -> None:
    assert made(5, passage="Too short. Really!") == []
