"""Judged sets by name: Cranfield, CISI, MED, and XQuAD's passages, as documents, queries and judgements."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cairn.data.datasets import get_dataset
from cairn.data.judged import Judged, titled

_HELD_OUT_ARTICLES = slice(38, 48)
_FIELD = re.compile(r"^\.([A-Z])[ \t]*(\d*)[^\n]*\n?", re.MULTILINE)


def cranfield() -> Judged:
    """1,400 abstracts of aerodynamics; queries are joined to judgements by their order."""
    folder = get_dataset("cranfield").folder
    text = (folder / "cran.all.1400.xml").read_text()
    documents = {
        _element(part, "docno"): titled(_element(part, "title"), _element(part, "text"))
        for part in re.findall(r"<doc>.*?</doc>", text, re.DOTALL)
    }
    tops = re.findall(r"<top>.*?</top>", (folder / "cran.qry.xml").read_text(), re.DOTALL)
    queries = {str(n): _element(part, "title") for n, part in enumerate(tops, start=1)}
    rows = [line.split() for line in (folder / "cranqrel.trec.txt").read_text().splitlines()]
    return Judged(documents, queries, _relevant((row[0], row[2], int(row[3])) for row in rows))


def cisi() -> Judged:
    """1,460 abstracts of information science."""
    return _smart(get_dataset("cisi-med").folder / "cisi", "CISI", column=1)


def med() -> Judged:
    """1,033 abstracts of medicine."""
    return _smart(get_dataset("cisi-med").folder / "med", "MED", column=2)


def xquad() -> Judged:
    """All 240 passages, and the questions on those of the held-out articles, the last ten in the file."""
    found = list(get_dataset("xquad-en").folder.rglob("xquad.en.json"))
    articles = json.loads(found[0].read_text())["data"]
    documents, queries, relevant, answers = {}, {}, {}, {}
    held_out = set(range(len(articles))[_HELD_OUT_ARTICLES])
    for number, article in enumerate(articles):
        for place, paragraph in enumerate(article["paragraphs"]):
            name = f"{number}-{place}"
            documents[name] = paragraph["context"]
            if number in held_out:
                queries.update({each["id"]: each["question"] for each in paragraph["qas"]})
                relevant.update({each["id"]: {name: 1} for each in paragraph["qas"]})
                for each in paragraph["qas"]:
                    answers[each["id"]] = tuple(answer["text"] for answer in each["answers"])
    return Judged(documents, queries, relevant, answers)


JUDGED_SETS: Mapping[str, Callable[[], Judged]] = {
    "cranfield": cranfield,
    "cisi": cisi,
    "med": med,
    "xquad": xquad,
}


def _smart(folder: Path, name: str, column: int) -> Judged:
    """A collection in SMART's format; judgements have the document in a column."""
    documents = {
        number: titled(fields.get("T", ""), fields.get("W", ""))
        for number, fields in _records((folder / f"{name}.ALL").read_text(errors="replace"))
    }
    queries = {
        number: fields["W"]
        for number, fields in _records((folder / f"{name}.QRY").read_text(errors="replace"))
    }
    rows = [line.split() for line in (folder / f"{name}.REL").read_text().splitlines() if line.strip()]
    return Judged(documents, queries, _relevant((row[0], row[column], 1) for row in rows))


def _records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    marks = list(_FIELD.finditer(text))
    number, fields = "", dict[str, str]()
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        if mark[1] == "I":
            if number:
                yield number, fields
            number, fields = mark[2], {}
        else:
            body = text[mark.end() : following.start() if following else len(text)].strip()
            fields.setdefault(mark[1], body)
    yield number, fields


def _relevant(rows: Iterator[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for query, document, relevance in rows:
        if relevance > 0:
            found.setdefault(query, {})[document] = relevance
    return found


def _element(text: str, name: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return match[1].strip() if match else ""
