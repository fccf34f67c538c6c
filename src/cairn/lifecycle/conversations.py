"""Instruction sets as conversations: one small reader per shape of set, and their held-out parts.

A set with splits of its own keeps them; of the others the last share is held out, by position,
so that the split never depends on chance. Stories become "Tell me a story about ..." by their
most telling words (tf-idf over the set), which is deterministic too.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core import ConfigError
from cairn.core.chat import Message, text_message

_WORD = re.compile(r"[a-z]{3,}")
_CALCULATION = re.compile(r"<<[^>]*>>")
_BREAK_INSIDE_WORDS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One exchange to learn from."""

    user: str
    assistant: str
    source: str

    @property
    def messages(self) -> tuple[Message, ...]:
        return (text_message("user", self.user), text_message("assistant", self.assistant))

    @property
    def characters(self) -> int:
        return len(self.user) + len(self.assistant)


@dataclass(frozen=True, slots=True)
class Split:
    """Exchanges to train on, and those that are never trained on."""

    train: list[Conversation]
    held_out: list[Conversation]


def read_split(name: str, folder: Path, *, held_out_share: float) -> Split:
    """The conversations of a named set in `folder`."""
    reader = _READERS.get(name)
    if reader is None:
        raise ConfigError(
            f"data set {name!r} cannot be read as instructions, allowed: {', '.join(sorted(_READERS))}",
            remedy="name one of these, or give a JSON file with path",
        )
    return reader(folder, name, held_out_share)


def read_file(path: Path, *, name: str, held_out_share: float) -> Split:
    """A JSON list or JSON Lines file of {instruction, input?, output}."""
    return _cut(_alpaca(_json_rows(path), name), held_out_share)


def _alpaca(rows: Sequence[Any], source: str) -> list[Conversation]:
    conversations = []
    for place, row in enumerate(rows):
        try:
            user = "\n\n".join(part for part in (row["instruction"], row.get("input", "")) if part)
            conversations.append(Conversation(user.strip(), row["output"].strip(), source))
        except (KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{source}: row {place + 1} is no instruction, allowed: {{instruction, input?, output}}"
            ) from None
    return [conversation for conversation in conversations if conversation.user and conversation.assistant]


def _alpaca_set(*path: str) -> Callable[[Path, str, float], Split]:
    def read(folder: Path, name: str, held_out_share: float) -> Split:
        return _cut(_alpaca(_json_rows(folder.joinpath(*path)), name), held_out_share)

    return read


def _openfunctions(folder: Path, name: str, held_out_share: float) -> Split:
    train = _alpaca(_json_rows(folder / "openfunction" / "openfunction_train.json"), name)
    return Split(train, _alpaca(_json_rows(folder / "openfunction" / "openfunction_test.json"), name))


def _gsm8k(folder: Path, name: str, held_out_share: float) -> Split:
    def conversation(row: Any) -> Conversation:
        steps, _, result = _CALCULATION.sub("", row["answer"]).partition("####")
        return Conversation(
            row["question"].strip(), f"{steps.strip()}\nThe answer is {result.strip()}.", name
        )

    # Its test split is an evaluation set and stays one: what is held out here comes from the train split.
    return _cut([conversation(row) for row in _json_rows(folder / "train.jsonl")], held_out_share)


def _fairytaleqa(folder: Path, name: str, held_out_share: float) -> Split:
    root = folder / "data-by-train-split"
    train, held_out = (
        [pair for split in splits for pair in _questions(root, split, name)]
        for splits in (("train",), ("val", "test"))
    )
    return Split(train, held_out)


def _questions(root: Path, split: str, source: str) -> Iterator[Conversation]:
    for path in sorted((root / "questions" / split).glob("*.csv")):
        story = root / "section-stories" / split / path.name.replace("-questions", "-story")
        sections = {row["section"]: _joined(row["text"]) for row in _csv_rows(story)}
        for row in _csv_rows(path):
            text = sections.get(row["cor_section"].strip(), "")
            answer, question = row["answer1"].strip(), row["question"].strip()
            if text and answer and question:
                answer = answer[0].upper() + answer[1:] + ("" if answer[-1] in ".!?\"'" else ".")
                yield Conversation(f"{text}\n\n{question}", answer, source)


def _tinystories(folder: Path, name: str, held_out_share: float) -> Split:
    text = (folder / "tinystories_sample.txt").read_text(encoding="utf-8")
    # The sample is a byte range: its first and last story are cut off.
    stories = [story.strip() for story in text.split("<|endoftext|>")[1:-1] if story.strip()]
    asked = [
        Conversation(f"Tell me a story about {subject}." if subject else "", story, name)
        for story, subject in zip(stories, _subjects(stories), strict=True)
    ]
    # Split before what has no subject is left out: the same stories are held out as texts.
    split = _cut(asked, held_out_share)
    return Split([each for each in split.train if each.user], [each for each in split.held_out if each.user])


def _subjects(stories: Sequence[str]) -> list[str]:
    """`a kayak and a lake` for each story: its two most telling words that follow `a` or `an` in it."""
    document_counts = Counter(word for story in stories for word in set(_WORD.findall(story.lower())))

    def subject(story: str) -> str:
        counts = Counter(_WORD.findall(story.lower()))
        weights = {
            noun: counts[noun] * math.log(len(stories) / document_counts[noun])
            for noun in _nouns(story)
            if counts[noun] > 1 and document_counts[noun] < _COMMON * len(stories)
        }
        best = sorted(weights, key=lambda noun: (-weights[noun], noun))[:2]
        return " and ".join(f"{_article(noun)} {noun}" for noun in best)

    return [subject(story) for story in stories]


_COMMON = 0.08
"""Words in more than this share of the stories (little, day, big) say nothing about one of them."""
_NOUN = re.compile(
    r"\b[Aa]n?(?: [a-z]+){0,2}? ([a-z]{3,})"
    r"(?=[.,!?]| (?:and|was|in|on|with|that|to|who|named|called|but|for|at|from)\b)"
)


def _nouns(story: str) -> set[str]:
    """Last words of phrases that begin with an article and end before a preposition or a stop: nouns."""
    return set(_NOUN.findall(story))


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _joined(text: str) -> str:
    # The sections were exported with the spaces at line ends lost in places; what is there is made single.
    return _BREAK_INSIDE_WORDS.sub(" ", text).strip()


def _cut(conversations: list[Conversation], held_out_share: float) -> Split:
    kept = len(conversations) - math.ceil(len(conversations) * held_out_share)
    return Split(conversations[:kept], conversations[kept:])


def _json_rows(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        value = (
            json.loads(text) if text.lstrip()[:1] == "[" else [json.loads(line) for line in text.splitlines()]
        )
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", remedy="mend that line") from None
    assert isinstance(value, list)
    return value


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_READERS: dict[str, Callable[[Path, str, float], Split]] = {
    "rasbt-instructions": _alpaca_set("instruction-data.json"),
    "dolly-2k": _alpaca_set("dolly", "dolly_train.json"),
    "openfunctions": _openfunctions,
    "gsm8k": _gsm8k,
    "fairytaleqa": _fairytaleqa,
    "tinystories-2mb": _tinystories,
}
