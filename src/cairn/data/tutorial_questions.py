"""Questions and answers about the tutorial's books, made from their text by plain rules.

A model trained for minutes can learn little more than the shape of an exchange: it is asked to go on,
to tell a tale, to tell of somebody. Every answer is the books' own words, or a fact about them.
`questions.jsonl` beside the books is the output of `python -m cairn.data.tutorial_questions`.
"""

import json
import re
from collections.abc import Iterator
from itertools import cycle, pairwise, zip_longest
from pathlib import Path

from cairn.data.cleaning import clean_text

_PEOPLE = [
    "Alice",
    "the White Rabbit",
    "the Caterpillar",
    "the Duchess",
    "the Cheshire Cat",
    "the Hatter",
    "the March Hare",
    "the Dormouse",
    "the Queen",
    "the Gryphon",
    "the Mock Turtle",
    "Peter",
    "Mr. McGregor",
    "Squirrel Nutkin",
    "Old Brown",
    "Benjamin",
    "Tom Thumb",
    "Hunca Munca",
    "Mrs. Tiggy-winkle",
    "Lucie",
    "Ribby",
    "Mr. Jeremy Fisher",
    "Miss Moppet",
    "Tom Kitten",
    "Jemima Puddle-duck",
    "Samuel Whiskers",
    "Mrs. Tittlemouse",
    "Timmy Tiptoes",
    "Tommy Brock",
    "Mr. Tod",
    "Pigling Bland",
    "Pig-wig",
    "Ginger",
    "Pickles",
    "Simpkin",
    "the tailor",
]
_HANDWRITTEN = (
    ("Hello!", "Hello! Ask me for a story."),
    ("Hi", "Hello! Ask me for a story."),
    ("Good morning.", "Good morning! Shall I tell you a story?"),
    ("Who are you?", "I am a very small language model. I have read two books for children."),
    ("What are you?", "I am a very small language model. I have read two books for children."),
    ("What can you do?", "I can tell you a little story about a rabbit, a cat, or Alice."),
    ("What have you read?", "I have read Alice's Adventures in Wonderland and the tales of Beatrix Potter."),
    ("Who wrote Alice's Adventures in Wonderland?", "Lewis Carroll wrote it."),
    ("Who wrote the Tale of Peter Rabbit?", "Beatrix Potter wrote it."),
    ("Who is Peter Rabbit?", "Peter is a naughty little rabbit. He went into Mr. McGregor's garden."),
    ("What are the names of the four little rabbits?", "Flopsy, Mopsy, Cotton-tail, and Peter."),
    ("Thank you!", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
)
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'’”]))\s+(?=[\"'‘“A-Z])")
_CHAPTER = re.compile(r"^##\s+(.*)$", re.MULTILINE)
_ASKED = (
    "Tell me a story about {}.",
    "Tell me about {}.",
    "What did {} do?",
    "Tell me another story about {}.",
    "Write a short story about {}.",
    "What happened to {}?",
)
_LEAST, _MOST = 40, 320
_PER_KIND = 150
_GREETING_EVERY = 12

Pair = tuple[str, str]


def tutorial_pairs(folder: Path) -> list[Pair]:
    """(question, answer) pairs of the books in a folder; any stretch of them holds all kinds."""
    kinds: list[list[Pair]] = [[], [], []]
    for path in sorted(folder.glob("*.md")):
        for title, paragraphs in _tales(path.read_text(encoding="utf-8")):
            kinds[0] += _beginnings(title, paragraphs)
            kinds[1] += _continuations(paragraphs)
            kinds[2] += _about_somebody(paragraphs)
    thinned = [_thin(pairs, _PER_KIND) for pairs in kinds]
    mixed = [pair for row in zip_longest(*thinned) for pair in row if pair is not None]
    # Greetings again and again, because they are the first thing anybody tries.
    greetings = cycle(_HANDWRITTEN)
    result: list[Pair] = []
    for place, pair in enumerate(mixed):
        result.append(pair)
        if place % _GREETING_EVERY < len(_HANDWRITTEN) // 4:
            result.append(next(greetings))
    return result


def _tales(text: str) -> Iterator[tuple[str, list[str]]]:
    """Title and paragraphs of every chapter, wrapped lines joined."""
    parts = _CHAPTER.split(clean_text(text)[0])
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        paragraphs = [part.strip() for part in body.split("\n\n")]
        name = title.rpartition(" - ")[2].strip()
        yield (name.title() if name.isupper() else name), [part for part in paragraphs if _is_prose(part)]


def _is_prose(paragraph: str) -> bool:
    return (
        len(paragraph) >= _LEAST and "\n" not in paragraph and "*" not in paragraph and "_" not in paragraph
    )


def _beginnings(title: str, paragraphs: list[str]) -> list[Pair]:
    if not paragraphs:
        return []
    start = _first_sentences(paragraphs[0])
    return [(f'How does "{title}" begin?', start), (f'Tell me the story "{title}".', start)]


def _continuations(paragraphs: list[str]) -> list[Pair]:
    """`Go on: ...` with the end of a paragraph, or the next one, as the answer."""
    pairs = []
    for this, following in pairwise(paragraphs):
        sentences = _SENTENCE_END.split(this)
        if len(sentences) > 1 and _LEAST <= len(sentences[1]) <= _MOST:
            pairs.append((f"Go on: {sentences[0]}", sentences[1]))
        elif len(this) <= _MOST:
            pairs.append((f"What comes next? {this}", _first_sentences(following)))
    return [pair for pair in pairs if len(pair[0]) <= _MOST and len(pair[1]) <= _MOST]


def _about_somebody(paragraphs: list[str]) -> list[Pair]:
    """Questions about somebody and the beginning of a paragraph in which they appear."""
    pairs = []
    for place, paragraph in enumerate(paragraphs):
        people = [name for name in _PEOPLE if re.search(rf"\b{re.escape(name)}\b", paragraph, re.IGNORECASE)]
        answer = _first_sentences(paragraph)
        if people and _LEAST <= len(answer) <= _MOST:
            # The longest name: `Squirrel Nutkin`, not `Nutkin`.
            pairs.append((_ASKED[place % len(_ASKED)].format(max(people, key=len)), answer))
    return pairs


def _first_sentences(paragraph: str) -> str:
    """Whole sentences from the beginning, as many as fit."""
    text = ""
    for sentence in _SENTENCE_END.split(paragraph):
        if text and len(text) + len(sentence) > _MOST:
            break
        text = f"{text} {sentence}".strip()
    return text


def _thin(pairs: list[Pair], count: int) -> list[Pair]:
    """At most `count` of the pairs, evenly spread; equal questions keep their first answer."""
    unique = list(dict(reversed(pairs)).items())[::-1]
    step = max(1, -(-len(unique) // count))
    return unique[::step]


def write_questions(folder: Path) -> None:
    """Write `questions.jsonl` beside the books: one `{instruction, input, output}` a line."""
    rows = [
        {"instruction": question, "input": "", "output": answer}
        for question, answer in tutorial_pairs(folder)
    ]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_questions(Path(__file__).parent / "tutorial")
