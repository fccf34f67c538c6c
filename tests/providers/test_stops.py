"""Stop strings: found across cuts, never shown, nothing lost when there is none."""

from hypothesis import given
from hypothesis import strategies as st

from cairn.providers.stops import StopMatcher, suffix_that_begins

letters = st.text(alphabet="ab", max_size=12)


@given(pieces=st.lists(letters), stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3))
def test_equals_searching_the_whole_text(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown, found = "", None
    for piece in pieces:
        safe, found = matcher.push(piece)
        shown += safe
        if found is not None:
            break
    else:
        shown += matcher.finish()
    text = "".join(pieces)
    places = [text.find(stop) for stop in stops if stop in text]
    # The stream ends at the first moment a stop is whole; then the earliest one in it counts.
    if found is None:
        assert not places
        assert shown == text
    else:
        assert text.startswith(shown + found)
        assert all(stop not in shown for stop in stops)


def test_text_waits_while_it_may_be_a_stop() -> None:
    matcher = StopMatcher(["</s>"])
    assert matcher.push("a<") == ("a", None)
    assert matcher.push("/") == ("", None)
    assert matcher.push("b") == ("</b", None)
    assert matcher.push("</s>c") == ("", "</s>")


def test_suffix_that_begins() -> None:
    assert suffix_that_begins("x</", "</s>") == 2
    assert suffix_that_begins("</s>", "</s>") == 0
    assert suffix_that_begins("", "</s>") == 0
