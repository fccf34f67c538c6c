"""Answers held against their sources."""

from cairn.core.retrieval import Hit, Passage, Span
from cairn.providers.grounding import (
    ExtractedAnswer,
    check_sentences,
    extract_answer,
    sentence_around,
)
from cairn.retrieval.context import Context, Source

TEXTS = ("Everybody has thirty days of holiday a year.", "Bicycles stand in the cellar.")


def passage(number: int) -> Passage:
    return Passage(number, "file-1", "sha256:0", "leave.md", TEXTS[number], (0, len(TEXTS[number])), 1)


CONTEXT = Context("", tuple(Source(n + 1, passage(n), (n,)) for n in range(2)), 0)


def test_sentences_are_held_against_what_they_cite() -> None:
    answer = (
        "Everybody has thirty days of holiday [1]. Bicycles stand in the cellar. [2] Bicycles stand in the "
        "cellar [1]. The moon is made of cheese. It has days of holiday [7]! Both, thirty days and bicycles "
        "in the cellar [1][2]"
    )
    checked = check_sentences(answer, CONTEXT)
    assert [(each.sources, each.is_supported) for each in checked] == [
        ((1,), True),
        ((2,), True),
        ((1,), False),  # says nothing of it
        ((), False),  # cites nothing
        ((), False),  # cites what was never given
        ((1, 2), True),
    ]
    assert " ".join(each.text for each in checked) == answer
    assert check_sentences("", CONTEXT) == []


class Fixed:
    def __init__(self, *spans: Span) -> None:
        self.spans = list(spans)

    def read(self, question: str, passages: object, *, limit: int = 1) -> list[Span]:
        return self.spans[:limit]


def test_an_unlikely_answer_is_none() -> None:
    hits = [Hit(passage(0), 1.0), Hit(passage(1), 0.5)]
    likely = extract_answer(Fixed(Span(1, 18, 28, "the cellar", 0.8)), "where", hits)
    assert likely is not None
    assert (likely.text, likely.source) == ("the cellar", 2)
    assert extract_answer(Fixed(Span(1, 18, 28, "the cellar", 0.4)), "where", hits) is None
    assert extract_answer(Fixed(), "where", hits) is None
    assert extract_answer(Fixed(Span(0, 0, 1, "E", 0.9)), "where", []) is None


def test_a_passage_that_was_found_later_must_answer_more_surely() -> None:
    hits = [Hit(passage(0), 1.0), Hit(passage(1), 0.5)]
    first = Span(0, 0, 1, "E", 0.6)
    for confidence, source in (
        (0.65, 1),
        (0.75, 2),
    ):  # odds of 1.86 and 3, by the root of 2
        found = extract_answer(Fixed(Span(1, 18, 28, "the cellar", confidence), first), "where", hits)
        assert found is not None
        assert found.source == source


def test_an_answer_stands_in_a_sentence_or_where_that_is_long_in_a_line() -> None:
    def around(text: str, words: str) -> str:
        start, end = sentence_around(text, ExtractedAnswer(words, 1, text.index(words), 0.1))
        return text[start:end]

    prose = "# House\n\nIt is old. The blue door leads to the cellar! Is it open?\n"
    assert around(prose, "blue") == "The blue door leads to the cellar!"
    assert around(prose, "open?") == "Is it open?"
    table = "\n".join(f"| row {number} | {'x' * 40} |" for number in range(20))
    assert around(table, "row 7") == f"| row 7 | {'x' * 40} |"
    assert around("x" * 1000 + " answer", "answer") == "answer"
    assert around(prose, "old. The blue") == "It is old. The blue door leads to the cellar! Is it open?"
