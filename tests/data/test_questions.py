"""Questions about passages: where the answer stands, and that tokens lead back to its characters."""

import json
from pathlib import Path

import pytest

from cairn.core import ConfigError
from cairn.data import LocalDataset, Tokenizer, find_dataset
from cairn.data.questions import find_answer, load_questions
from cairn.data.span_encoder import SpanEncoder
from tests.data.tiny_wordpiece import save_wordpiece

PASSAGE = "The cat sat on the red mat. A dog ran to the house."


def test_an_answer_in_other_words_is_found_where_it_shares_most() -> None:
    assert PASSAGE[slice(*(find_answer(PASSAGE, "the RED mat") or (0, 0)))] == "the red mat"
    assert PASSAGE[slice(*(find_answer(PASSAGE, "on that red mat") or (0, 0)))] == "on the red mat"
    assert find_answer(PASSAGE, "three green elephants") is None
    assert find_answer(PASSAGE, "") is None


def test_the_last_articles_of_xquad_are_held_out(tmp_path: Path) -> None:
    row = {"question": "Where?", "answers": [{"text": "the red mat", "answer_start": 15}]}
    article = {"paragraphs": [{"context": PASSAGE, "qas": [row]}]}
    (tmp_path / "xquad.en.json").write_text(json.dumps({"data": [article] * 48}))
    local = LocalDataset(find_dataset("xquad-en"), tmp_path)
    train, held_out = load_questions(local), load_questions(local, "held_out")
    assert (len(train), len(held_out)) == (38, 10)
    assert not {each.group for each in train} & {each.group for each in held_out}
    assert train[0].span is not None
    assert PASSAGE[slice(*train[0].span)] == train[0].answers[0] == "the red mat"


def test_a_set_without_questions_says_which_have_some(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fairytaleqa, policyqa, xquad-en"):
        load_questions(LocalDataset(find_dataset("tinyshakespeare"), tmp_path))


def test_windows_cover_a_passage_and_lead_back_to_it(tmp_path: Path) -> None:
    save_wordpiece(tmp_path)
    encoder = SpanEncoder(Tokenizer.load(tmp_path))
    question, passage = encoder.pieces(["where is the cat?", PASSAGE * 5])
    windows = encoder.windows(question, passage, longest=30, overlap=8)
    assert len(windows) > 2
    seen = set()
    for window in windows:
        assert len(window.token_ids) == len(window.types) <= 30
        inside = window.token_ids[window.context : -1]
        assert inside == passage.ids[window.first : window.first + len(inside)]
        assert window.types == [0] * window.context + [1] * (len(inside) + 1)
        seen |= set(range(window.first, window.first + len(inside)))
    assert seen == set(range(len(passage.ids)))
    short = encoder.pieces(["the cat [SEP]"])[0]
    assert len(encoder.windows(question, short, longest=30, overlap=8)) == 1
    # Text never becomes a control token.
    assert encoder.single(short, 40).count(windows[0].token_ids[-1]) == 1


def test_the_tokens_of_characters(tmp_path: Path) -> None:
    save_wordpiece(tmp_path)
    pieces = SpanEncoder(Tokenizer.load(tmp_path)).pieces([PASSAGE])[0]
    start = PASSAGE.index("red")
    found = pieces.tokens_of(start, start + len("red mat"))
    assert found is not None
    assert PASSAGE[pieces.offsets[found[0]][0] : pieces.offsets[found[1]][1]] == "red mat"
    assert pieces.tokens_of(len(PASSAGE) + 3, len(PASSAGE) + 5) is None
