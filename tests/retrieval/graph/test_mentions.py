"""What is read out of one passage."""

import json

import pytest

from cairn.retrieval.graph.abbreviations import definitions
from cairn.retrieval.graph.mentions import Mention, dump_extract, load_extract, phrase_key, read_passage
from cairn.retrieval.graph.words import singular, word_key

TEXT = """The Denver Broncos' defence beat the Carolina Panthers in Super Bowl 50. Many Normans settled in the
Kingdom of England. Chloroplasts hold their own DNA; a chloroplast divides. Hierarchical Navigable Small World
(HNSW) graphs are fast, and HNSW is old. In 1893 Nikola Tesla spoke."""


def mentions(text: str, context: str = "") -> dict[str, Mention]:
    return {mention.key: mention for mention in read_passage(context, text).mentions}


def test_names_stand_in_capitals_and_hold_shorter_ones() -> None:
    found = mentions(TEXT)
    names = {key for key, mention in found.items() if mention.num_named}
    assert {
        "denver bronco", "bronco", "carolina panther", "super bowl", "super bowl 50", "norman",
        "kingdom of england", "england", "nikola tesla", "tesla", "DNA", "HNSW",
    } <= names  # fmt: skip
    assert found["denver bronco"].name == "Denver Broncos"
    assert not {"the", "many", "many norman", "in", "of england", "bronco defence"} & found.keys()


def test_terms_are_words_without_common_ones() -> None:
    found = mentions(TEXT)
    chloroplast = found["chloroplast"]
    assert (chloroplast.count, chloroplast.num_named, chloroplast.num_common) == (2, 0, 1)
    assert chloroplast.sentences == [2]
    assert not {"hold", "their", "own", "and", "is", "1893"} & (found.keys() - {"hold"})


def test_a_capital_where_a_sentence_begins_tells_nothing() -> None:
    water = mentions("Water is wet. It holds water.")["water"]
    assert (water.count, water.num_named, water.num_common) == (2, 0, 1)
    told = mentions("Everybody knows Denver. Denver is high.")["denver"]
    assert (told.count, told.num_named, told.num_common) == (2, 1, 0)


def test_capitals_of_a_heading_tell_nothing() -> None:
    found = mentions("It is easy.", context="Installing The Native Module\nALL ABOUT WATER")
    assert all(mention.num_named == 0 for mention in found.values())
    assert {"native", "module", "water"} <= found.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the Hierarchical Navigable Small World (HNSW)", [("HNSW", "Hierarchical Navigable Small World")]),
        ("of NASA (National Aeronautics and Space Administration) today",
         [("NASA", "National Aeronautics and Space Administration")]),
        ("the Health Care Administration (HCA)", [("HCA", "Health Care Administration")]),
        ("chloroplast DNA (cpDNA)", [("cpDNA", "chloroplast DNA")]),
        ("We met them. Yes (HNSW)", []),
        ("it was sold (in 1999) by them (see Figure 2)", []),
        ("a (b) c (", []),
    ],
)  # fmt: skip
def test_abbreviations_where_they_are_introduced(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(definitions(text)) == expected


def test_both_forms_are_mentions() -> None:
    extract = read_passage("", TEXT)
    assert extract.aliases == (("HNSW", "hierarchical navigable small world"),)
    assert "hierarchical navigable small world" in {mention.key for mention in extract.mentions}


def test_case_plural_and_points_make_no_difference() -> None:
    assert phrase_key("Denver Broncos") == phrase_key("denver bronco")
    assert phrase_key("U.S.") == phrase_key("US") == "US" != phrase_key("us")
    assert word_key("LLMs") == word_key("LLM") == "LLM"
    assert word_key("Tesla's") == word_key("tesla")
    assert [singular(word) for word in ("cities", "buses", "glass", "boxes", "trees", "gas", "its")] == [
        "city", "buse", "glass", "boxe", "tree", "gas", "its",
    ]  # fmt: skip


def test_an_extract_comes_back_as_it_was_kept() -> None:
    extract = read_passage("A heading", TEXT)
    assert load_extract(json.loads(json.dumps(dump_extract(extract)))) == extract


@pytest.mark.parametrize(
    "text", ["", " ", "((((", "a" * 5000, "A " * 3000, "Ünïcode Wörter ß", "知识 图谱", "\n\n|-|-|\n"]
)
def test_any_text_can_be_read(text: str) -> None:
    extract = read_passage(text, text)
    assert all(mention.key and mention.count > 0 and mention.sentences for mention in extract.mentions)
