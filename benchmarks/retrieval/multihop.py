"""Questions that need two passages, made by rule from books, stories and articles.

- `books`: a bridge. A sentence of one passage, with a name taken out of it, and another name that several
  passages have; only one of these speaks of the name that was taken out too. That one shares no telling words
  with the sentence: it can be told from the others by the missing name alone.
- `stories` and `articles`: of two questions that people asked about different passages, the second one names
  the first one's answer; there it is replaced with "that" (as MuSiQue composes its questions, Trivedi et al.
  2022). Most words of both answers' passages are in the question, so a search without a graph does well.

Each has a part to tune on and a part for numbers: other books, other stories, other articles.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from cairn.data.datasets import get_dataset
from cairn.data.questions import Question, load_questions

Part = Literal["tuning", "test"]
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,}){0,2}")
_SENTENCE = re.compile(r"[^.!?]+[.!?]")
_ARTICLE = re.compile(r"^(?:the|an?|his|her|their|its) ", re.IGNORECASE)
_PASSAGE_WORDS, _PASSAGES, _MOST = 70, 60, 150
_EVERY, _TUNING_BOOKS = 12, 8


@dataclass(frozen=True, slots=True)
class MultiHop:
    """Passages by name, questions of two passages, and questions of one."""

    documents: Mapping[str, str]
    double: Mapping[str, tuple[str, frozenset[str]]]
    """Question, and the names of both passages."""
    single: Mapping[str, tuple[str, frozenset[str]]]


def books(part: Part) -> MultiHop:
    """Every twelfth book for numbers, some others for tuning; sixty passages of 70 words of each."""
    files = sorted(get_dataset("classic-books").folder.rglob("*.md"))
    held_out = files[_EVERY - 1 :: _EVERY]
    chosen = held_out if part == "test" else [file for file in files if file not in held_out][5::12]
    documents, found = dict[str, str](), list[tuple[str, frozenset[str]]]()
    for number, file in enumerate(chosen[: None if part == "test" else _TUNING_BOOKS]):
        words = file.read_text().split()
        middle = max(len(words) // 2 - _PASSAGE_WORDS * _PASSAGES // 2, 0)
        passages = {
            f"{number}-{n}": " ".join(words[start : start + _PASSAGE_WORDS])
            for n, start in enumerate(range(middle, len(words) - _PASSAGE_WORDS, _PASSAGE_WORDS))
            if n < _PASSAGES
        }
        documents |= passages
        found += _bridges(passages)
    return MultiHop(documents, _numbered(found), {})


def _bridges(passages: Mapping[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
    names = {each: set(_NAME.findall(text)) for each, text in passages.items()}
    spread = Counter(name for found in names.values() for name in found)
    for first, text in passages.items():
        for missing in sorted(names[first]):
            if not 2 <= spread[missing] <= 6:
                continue
            sentence = next((s.strip() for s in _SENTENCE.findall(text) if missing in s), "")
            others = sorted(
                (other, second)
                for second, found in names.items()
                if second != first and missing in found
                for other in found
                if other not in text and spread[other] >= 4 and missing not in other and other not in missing
            )
            both = Counter(other for other, _ in others)
            for other, second in others:
                if both[other] == 1 and 5 <= len(sentence.split()) <= 40:
                    question = f"{sentence.replace(missing, '...')} What has that to do with {other}?"
                    yield question, frozenset({first, second})
                    break


def stories(part: Part) -> MultiHop:
    """FairytaleQA: its test stories for numbers, forty of the others for tuning."""
    local = get_dataset("fairytaleqa")
    questions = load_questions(local, "held_out" if part == "test" else "train")
    groups = sorted({each.group for each in questions})
    kept = set(groups if part == "test" else random.Random(3).sample(groups, 40))
    return _composed([each for each in questions if each.group in kept], is_within=True)


def articles(part: Part) -> MultiHop:
    """XQuAD against all of its passages: the last ten articles for numbers, the others for tuning."""
    local = get_dataset("xquad-en")
    chosen = load_questions(local, "held_out" if part == "test" else "train")
    found = _composed(chosen, is_within=False)
    data = json.loads((local.folder / "xquad.en.json").read_text())["data"]
    others = (paragraph["context"] for article in data for paragraph in article["paragraphs"])
    missing = [text for text in others if text not in set(found.documents.values())]
    return MultiHop(
        {**found.documents, **{f"other {n}": text for n, text in enumerate(missing)}},
        found.double,
        found.single,
    )


def _composed(questions: list[Question], *, is_within: bool) -> MultiHop:
    names = {text: f"p{n}" for n, text in enumerate(dict.fromkeys(each.passage for each in questions))}
    by_group = defaultdict[str, list[Question]](list)
    for each in questions:
        by_group[each.group if is_within else ""].append(each)
    found = [
        (text, frozenset({names[one.passage], names[other.passage]}))
        for group in by_group.values()
        for one in group
        for other in group
        if one.passage != other.passage and (text := _chained(one, other, any_case=is_within))
    ]
    single = [(each.text, frozenset({names[each.passage]})) for each in questions]
    return MultiHop({name: text for text, name in names.items()}, _numbered(found), _numbered(single))


def _chained(one: Question, other: Question, *, any_case: bool) -> str:
    """Both questions as one; empty where the second does not name the first one's answer."""
    answer = _ARTICLE.sub("", one.answers[0].strip().rstrip("."))
    is_name = any_case or any(word[:1].isupper() for word in answer.split())
    if not is_name or len(answer) < 3 or len(answer.split()) > 4:
        return ""
    flags = re.IGNORECASE if any_case else re.NOFLAG
    named = re.compile(rf"\b(?:(?:the|an?|his|her) )?{re.escape(answer)}\b", flags)
    match = named.search(other.text)
    if match is None or named.search(one.text) or not named.search(other.passage):
        return ""
    return f"{one.text.strip()} {other.text[: match.start()]}that{other.text[match.end() :]}".strip()


def _numbered(found: list[tuple[str, frozenset[str]]]) -> dict[str, tuple[str, frozenset[str]]]:
    """At most so many, each pair of passages once."""
    shuffled = sorted(found, key=lambda each: (sorted(each[1]), each[0]))
    once = [next(group) for _, group in groupby(shuffled, key=lambda each: sorted(each[1]))]
    chosen = found if found and len(found[0][1]) == 1 else once
    picked = random.Random(7).sample(chosen, min(len(chosen), _MOST))
    return {str(number): each for number, each in enumerate(picked)}


SETS = {"books": books, "stories": stories, "articles": articles}
