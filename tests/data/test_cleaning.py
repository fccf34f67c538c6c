"""Cleaning mends what is certain, leaves the rest, and has nothing left to do the second time."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.data import CleanConfig, clean_text
from cairn.data.cleaning import normalise_unicode, remove_frames, repair_mojibake, unwrap_paragraphs


@pytest.mark.parametrize(
    "text", ["don’t", "“quoted” — and…", "café naïve", "£5 and €6", "Ærøskøbing", "日本", "🙂"]
)
def test_mojibake_is_mended(text: str) -> None:
    broken = "".join(
        bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
        for byte in text.encode()
    )
    assert broken != text
    assert repair_mojibake(f"It said {broken}.") == f"It said {text}."


@pytest.mark.parametrize("text", ["Ângela e SÃO", "naïve Ünï “x”", "ÀÉÎ", "100 Â", "Ãno"])
def test_real_text_is_left(text: str) -> None:
    assert repair_mojibake(text) == text


def test_mojibake_of_mojibake() -> None:
    assert repair_mojibake("donÃ¢â‚¬â„¢t") == "don’t"


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x20AC), max_size=20))
def test_mending_twice_is_mending_once(text: str) -> None:
    assert repair_mojibake(repair_mojibake(text)) == repair_mojibake(text)


def test_unicode() -> None:
    text = "e\u0301\u00a0a\u200bb\r\nc\x00\x07d\u2028e\ufeff\u00ad\x85f\rg"
    assert normalise_unicode(text) == "é ab\ncd\ne\nf\ng"


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["word", " ", "  ", "\n", "\n\n", "\t", "é", "e\u0301", "\xa0", "\x00", "\u2028", "- item", "---"]
        )
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        max_size=30,
    ).map("".join)
)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    config = CleanConfig(frames=False, mojibake=False)
    once, _ = clean_text(text, config)
    assert clean_text(once, config)[0] == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\r" not in once
    assert "\n\n\n" not in once
    assert not any(line.endswith((" ", "\t")) for line in once.split("\n"))


def test_gutenberg_frame() -> None:
    text = (
        "The Project Gutenberg eBook of Emma\n\nTitle: Emma\nAuthor: Jane Austen\n\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\n\nEmma Woodhouse, handsome.\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***\n\nlicence"
    )
    body, facts = remove_frames(text)
    assert body.strip() == "Emma Woodhouse, handsome."
    assert facts == {"title": "Emma", "author": "Jane Austen"}


def test_front_matter() -> None:
    body, facts = clean_text(
        "# Title: Alice\n\n## Author: Lewis Carroll\n\n## Year: 1865\n\n-------\n\n## Chapter 1\n\nText."
    )
    assert body == "## Chapter 1\n\nText."
    assert facts == {"title": "Alice", "author": "Lewis Carroll", "year": "1865"}
    assert clean_text('---\ntitle: "A page"\ntags:\n  - x\n---\nText.')[0] == "Text."
    assert clean_text("---\nNot front matter.\n---\nText.")[0] == "---\nNot front matter.\n---\nText."


WRAPPED = (
    "Once upon a time there were\nfour little Rabbits, and their\n"
    "names were Flopsy, Mopsy, Cot-\nton-tail, and Peter."
)


def test_wrapped_paragraphs_are_joined() -> None:
    text = "\n\n".join([WRAPPED] * 6)
    joined = unwrap_paragraphs(text).split("\n\n")
    assert (
        joined
        == [
            "Once upon a time there were four little Rabbits, "
            "and their names were Flopsy, Mopsy, Cot-ton-tail, and Peter."
        ]
        * 6
    )


def test_verse_and_lists_stay() -> None:
    verse = "How doth the little crocodile\n  Improve his shining tail,\nAnd pour the waters of the Nile"
    prose = ["A paragraph on a single line, as most are in this text."] * 20
    assert unwrap_paragraphs("\n\n".join([*prose, verse])).endswith(verse)
    listed = "\n".join(f"- item number {i} of a long list" for i in range(5))
    assert unwrap_paragraphs("\n\n".join([*[WRAPPED] * 8, listed])).endswith(listed)


def test_parts_can_be_switched_off() -> None:
    off = CleanConfig(mojibake=False, unicode=False, frames=False, unwrap=False, whitespace=False)
    text = "# Title: x\n\ndonâ€™t  \r\n\n\n\n"
    assert clean_text(text, off) == (text, {})
