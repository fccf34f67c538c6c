"""Judged sets are read from every format they come in, and mistakes are named with their line."""

import json
from pathlib import Path

import pytest

from cairn.core.errors import ConfigError, NotFoundError
from cairn.data.judged import read_judged, read_judgements, read_queries

RELEVANT = {"1": {"a.md": 2}, "2": {"b.md": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "1 0 a.md 2\n1 0 b.md 0\n2 0 b.md 1\n",
        "query-id\tcorpus-id\tscore\n1\ta.md\t2\n2\tb.md\t1\n",
        "1\ta.md\t2\n2\tb.md\t1\n2\tc.md\t-1\n",
        '{"query": "1", "document": "a.md", "relevance": 2}\n\n{"query": 2, "document": "b.md"}\n',
    ],
)
def test_judgements(tmp_path: Path, text: str) -> None:
    (tmp_path / "j").write_text(text)
    assert read_judgements(tmp_path / "j") == RELEVANT


def test_a_document_with_blanks_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("1\t0\tmy notes.md\t1\n")
    assert read_judgements(tmp_path / "j") == {"1": {"my notes.md": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 a.md 1\n2 0 b.md\textra 1 1\n", ":2:"),
        ("1 0 a.md 1\n1 0 b.md much\n", "judgement 2 says 'much'"),
        ('{"query": 1, "document": "a"}\n{"query"\n', ":2 is not JSON"),
        ('{"query": 1, "document": "a"}\n{"document": "b"}\n', r':2 lacks "query"'),
        ("\xff", "is not UTF-8"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "j").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=message):
        read_judgements(tmp_path / "j")


def test_queries(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("7\twhere is it\n8\twho\n")
    assert read_queries(tmp_path / "q").texts == {"7": "where is it", "8": "who"}
    (tmp_path / "q").write_text("where is it\n\nwho\n")
    assert read_queries(tmp_path / "q").texts == {"1": "where is it", "2": "who"}
    (tmp_path / "q").write_text(
        '{"_id": 7, "text": "where", "answers": ["here"]}\n{"id": "8", "text": "who"}\n'
    )
    found = read_queries(tmp_path / "q")
    assert (found.texts, found.answers) == ({"7": "where", "8": "who"}, {"7": ("here",)})


def test_a_folder_as_beir_has_it(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    rows = [{"_id": "a.md", "title": "A  boat", "text": "It floats."}, {"_id": "b.md", "text": "It flies."}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "what floats"}\n')
    with pytest.raises(NotFoundError, match="has none of judgements"):
        read_judged(tmp_path)
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta.md\t1\n")
    judged = read_judged(tmp_path)
    assert judged.documents == {"a.md": "# A boat\n\nIt floats.", "b.md": "It flies."}
    assert judged.relevant == {"1": {"a.md": 1}}
