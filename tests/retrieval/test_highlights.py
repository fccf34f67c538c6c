"""Highlights mark the words a search would match, in the bytes of the passage."""

from hypothesis import given
from hypothesis import strategies as st

from cairn.retrieval.highlights import highlights
from cairn.retrieval.terms import terms


def marked(query: str, text: str) -> list[str]:
    return [text.encode()[start:end].decode() for start, end in highlights(query, text)]


def test_every_form_of_a_word_is_marked() -> None:
    text = "Die Überfahrt: canoes were paddled; a Canoe, paddling."
    assert marked("how to paddle the canoe", text) == ["canoes", "paddled", "Canoe", "paddling"]
    assert marked("überfahrt", text) == ["Überfahrt"]
    assert marked("what is the canoe", "The canoe is what it is.") == ["canoe"]
    assert marked("who are you", "You are what you are.") == ["You", "are", "you", "are"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_marks_are_whole_words_in_order(query: str, text: str) -> None:
    wanted = set(terms(query))
    end = 0
    for start, stop in highlights(query, text):
        assert end <= start < stop
        assert not wanted.isdisjoint(terms(text.encode()[start:stop].decode()))
        end = stop
