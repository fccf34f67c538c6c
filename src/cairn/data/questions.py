"""Questions about passages: one small reader per set, each with the part that is held out.

An answer is a stretch of the passage. Where a set gives the answer in words of its own, the stretch that
shares most words with it is taken, if it shares enough; else the question has no answer to point at.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core.errors import ConfigError
from cairn.data.datasets import LocalDataset
from cairn.data.rows import Split, read_rows, split_rows

_XQUAD_TRAIN = 38
_LEAST_SHARED = 0.65
_LONGEST_ANSWER = 300
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the passage that answers it, and what counts as right."""

    text: str
    passage: str
    answers: tuple[str, ...]
    span: tuple[int, int] | None
    """Characters of the passage that answer it; None where no stretch of it does."""
    group: str
    """The article, policy or story the passage is from."""


def load_questions(local: LocalDataset, split: Split = "train") -> list[Question]:
    """The questions of a set; `held_out` are those never trained on."""
    reader = _READERS.get(local.spec.name)
    if reader is None:
        raise ConfigError(
            f"data set {local.spec.name!r} holds no questions about passages, those that do: "
            + ", ".join(sorted(_READERS)),
            remedy="name one of these",
        )
    return [each for each in reader(local.folder, split) if each.text and each.passage]


def _xquad(folder: Path, split: Split) -> Iterator[Question]:
    articles = _articles(folder / "xquad.en.json")
    part = "train" if split == "train" else "test"
    chosen = articles[:_XQUAD_TRAIN] if split == "train" else articles[_XQUAD_TRAIN:]
    return _squad(chosen, f"xquad-en/{part}")


def _policyqa(folder: Path, split: Split) -> Iterator[Question]:
    name = "dev.json" if split == "train" else "test.json"
    return _squad(_articles(folder / "data" / name), f"policyqa/{name}")


def _articles(path: Path) -> list[Any]:
    return list(json.loads(path.read_bytes())["data"])


def _squad(articles: list[Any], name: str) -> Iterator[Question]:
    """The layout of SQuAD (Rajpurkar et al. 2016)."""
    for place, article in enumerate(articles):
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                first, passage = row["answers"][0], paragraph["context"]
                span = first["answer_start"], first["answer_start"] + len(first["text"])
                answers = tuple(answer["text"] for answer in row["answers"])
                yield Question(row["question"].strip(), passage, answers, span, f"{name}/{place}")


def _fairytaleqa(folder: Path, split: Split) -> Iterator[Question]:
    """Its own validation and test splits are held out."""
    root = folder / "data-by-train-split"
    for part in ("train",) if split == "train" else ("val", "test"):
        for path in sorted((root / "questions" / part).glob("*.csv")):
            story = root / "section-stories" / part / path.name.replace("-questions", "-story")
            sections = {row["section"]: " ".join(row["text"].split()) for row in read_rows(story)}
            for row in read_rows(path):
                passage = sections.get(row["cor_section"].strip(), "")
                is_there = row["ex-or-im1"] == "explicit"
                yield _worded(row["question"], passage, row["answer1"], path.stem, is_there=is_there)


def _dolly(folder: Path, split: Split) -> Iterator[Question]:
    """The last tenth of the rows is held out."""
    for place, row in enumerate(split_rows(read_rows(folder / "dolly" / "dolly_train.json"), split)):
        if row["input"] and len(row["output"]) <= _LONGEST_ANSWER:
            yield _worded(row["instruction"], row["input"], row["output"], f"dolly/{place}")


def _worded(question: str, passage: str, answer: str, group: str, *, is_there: bool = True) -> Question:
    """A question whose answer is given in words."""
    answer = " ".join(answer.split()).rstrip(".")
    span = find_answer(passage, answer) if is_there else None
    return Question(question.strip(), passage, (answer,), span, group)


def find_answer(passage: str, answer: str, least: float = _LEAST_SHARED) -> tuple[int, int] | None:
    """The stretch of a passage that is an answer, or shares the most words with it (F1 at least `least`)."""
    start = passage.lower().find(answer.lower())
    if answer and start >= 0:
        return start, start + len(answer)
    words = [(match[0].lower(), *match.span()) for match in _WORD.finditer(passage)]
    wanted = Counter(_WORD.findall(answer.lower()))
    length, best, found = wanted.total(), least, None
    for first, (word, begin, _) in enumerate(words):
        if word not in wanted:
            continue
        seen: Counter[str] = Counter()
        shared = 0
        for last in range(first, min(first + 2 * length, len(words))):
            word, _, end = words[last]
            shared += seen[word] < wanted[word]
            seen[word] += 1
            if (score := 2 * shared / (last - first + 1 + length)) > best:
                best, found = score, (begin, end)
    return found


_READERS: dict[str, Callable[[Path, Split], Iterator[Question]]] = {
    "xquad-en": _xquad,
    "policyqa": _policyqa,
    "fairytaleqa": _fairytaleqa,
    "dolly-2k": _dolly,
}
