"""Documents of a text source, each marked as held out or not.

A book is a document, and so is a story of a set of stories. Which documents are held out depends
on their place in sorted order alone, so that no other setting can move a text from one side to
the other.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cairn.lifecycle.recipe import TextSource

_READABLE = (".md", ".txt", ".jsonl", ".csv", ".parquet")
_STORY_SEPARATOR = "<|endoftext|>"
_HEADING = re.compile(r"^#+[ \t]*(?:(?:Title|Author|Year):.*)?|^-{3,}[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*")


@dataclass(frozen=True, slots=True)
class TextDocument:
    """One document of a recipe."""

    text: str
    source: str
    path: str
    is_held_out: bool


def read_source(source: TextSource, folder: Path) -> Iterator[TextDocument]:
    """The documents of a source whose raw files lie in `folder`, in sorted order."""
    documents = [(path, text) for path, text in _documents(source, folder) if text]
    if source.limit:
        documents = documents[: source.limit]
    held_out = _held_out(source, len(documents))
    for place, (path, text) in enumerate(documents):
        yield TextDocument(text, source.name, path, place in held_out)


def _documents(source: TextSource, folder: Path) -> Iterator[tuple[str, str]]:
    if source.dataset == "tinystories-2mb":
        yield from _stories(folder / "tinystories_sample.txt")
    elif source.dataset == "fairytaleqa":
        yield from _fairytales(folder)
    else:
        yield from _files(source, folder)


def _files(source: TextSource, folder: Path) -> Iterator[tuple[str, str]]:
    from cairn.data.readers import read_documents

    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix not in _READABLE or not _is_chosen(name, source):
            continue
        for place, document in enumerate(read_documents(path)):
            yield (name if place == 0 else f"{name}#{place}"), plain_text(document.text)


def _is_chosen(name: str, source: TextSource) -> bool:
    included = not source.include or any(fnmatch(name, pattern) for pattern in source.include)
    return included and not any(fnmatch(name, pattern) for pattern in source.exclude)


def _stories(path: Path) -> Iterator[tuple[str, str]]:
    # The sample is a byte range: its first and last story are cut off.
    stories = path.read_text(encoding="utf-8").split(_STORY_SEPARATOR)[1:-1]
    for place, story in enumerate(stories):
        yield f"{path.name}#{place}", story.strip()


def _fairytales(folder: Path) -> Iterator[tuple[str, str]]:
    """Stories of the train split; the others are held out by the set itself."""
    root = folder / "data-by-train-split" / "section-stories" / "train"
    for path in sorted(root.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            sections = [" ".join(row["text"].split()) for row in csv.DictReader(file)]
        yield path.relative_to(folder).as_posix(), "\n\n".join(section for section in sections if section)


def _held_out(source: TextSource, count: int) -> set[int]:
    last = count - math.ceil(count * source.held_out_share)
    chosen = set(range(last, count))
    if source.held_out_every:
        chosen |= set(range(source.held_out_every - 1, count, source.held_out_every))
    return chosen


def plain_text(markdown: str) -> str:
    """A book's Markdown as plain paragraphs: its front matter, rules and heading marks are taken off."""
    lines = _HEADING.sub("", markdown.replace("\r\n", "\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(line.strip() for line in lines.splitlines())).strip()


def passages(text: str, characters: int) -> Sequence[str]:
    """A text cut at paragraphs into pieces of about `characters`; joined by blank lines they are the text."""
    pieces: list[list[str]] = [[]]
    size = 0
    for paragraph in text.split("\n\n"):
        if pieces[-1] and size + len(paragraph) > characters:
            pieces.append([])
            size = 0
        pieces[-1].append(paragraph)
        size += len(paragraph)
    return ["\n\n".join(piece) for piece in pieces]
