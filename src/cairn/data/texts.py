"""Texts of named data sets: documents to learn from, and what evaluation sets ask.

Held-out documents follow the table: whole books every 12th by sorted path, the last tenth of stories, a
set's own splits. Evaluation texts are what decontamination looks for: the questions, not the names.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cairn.core.errors import ConfigError
from cairn.data.datasets import LocalDataset
from cairn.data.documents import Document, Source
from cairn.data.readers import read_documents
from cairn.data.rows import Split, read_rows, split_rows

_EVERY = 12


def load_documents(local: LocalDataset, split: Split = "train") -> Iterator[Document]:
    """The documents of a set, as they lie there (not cleaned); `held_out` are those never trained on."""
    reader = _DOCUMENTS.get(local.spec.name)
    if reader is None:
        raise ConfigError(
            f"data set {local.spec.name!r} holds no documents, those that do: "
            + ", ".join(sorted(_DOCUMENTS)),
            remedy="name one of these",
        )
    return reader(local.folder, split)


def evaluation_texts(local: LocalDataset) -> Iterator[str]:
    """The items of an evaluation set (or of a set's own test split) that training text must not hold."""
    reader = _EVALUATION.get(local.spec.name)
    if reader is None:
        raise ConfigError(
            f"data set {local.spec.name!r} holds no evaluation items, those that do: "
            + ", ".join(sorted(_EVALUATION)),
            remedy="name one of these",
        )
    return (text for text in reader(local.folder) if text.strip())


def _books(folder: Path, split: Split) -> Iterator[Document]:
    for place, path in enumerate(
        sorted(folder.rglob("*.md"), key=lambda path: path.relative_to(folder).as_posix())
    ):
        if (place % _EVERY == _EVERY - 1) == (split == "held_out"):
            yield from read_documents(path)


_CHAPTER = re.compile(r"^(?=##\s)", re.MULTILINE)
_FRONT = re.compile(r"##? *(title|author|year):", re.IGNORECASE)


def _chapters(folder: Path, split: Split) -> Iterator[Document]:
    """Chapters and tales of the tutorial's books, one a document."""
    chapters = []
    for path in sorted(folder.glob("*.md")):
        parts = [part.strip() for part in _CHAPTER.split(path.read_text(encoding="utf-8"))]
        chapters += [Document(part, Source(path.name)) for part in parts if part and not _FRONT.match(part)]
    for place, document in enumerate(chapters):
        if (place % _EVERY == _EVERY - 1) == (split == "held_out"):
            yield document


def story_documents(folder: Path, split: Split) -> Iterator[Document]:
    """The stories of `tinystories-2mb`."""
    text = (folder / "tinystories_sample.txt").read_text(encoding="utf-8")
    # The sample is a range of bytes: its first and last story are cut off.
    stories = [story.strip() for story in text.split("<|endoftext|>")[1:-1] if story.strip()]
    for story in split_rows(stories, split):
        yield Document(story, Source("tinystories_sample.txt"))


def _fairytales(folder: Path, split: Split) -> Iterator[Document]:
    for part in ("train",) if split == "train" else ("val", "test"):
        for path in sorted((folder / "data-by-train-split" / "section-stories" / part).glob("*.csv")):
            sections = [" ".join(row["text"].split()) for row in read_rows(path)]
            yield Document("\n\n".join(filter(None, sections)), Source(path.name))


def _shakespeare(folder: Path, split: Split) -> Iterator[Document]:
    return read_documents(folder / "input.txt") if split == "train" else iter(())


def _wikitext(folder: Path, split: Split) -> Iterator[Document]:
    return read_documents([folder / "valid.txt", folder / "test.txt"]) if split == "held_out" else iter(())


_DOCUMENTS: dict[str, Callable[[Path, Split], Iterator[Document]]] = {
    "children-books": _books,
    "classic-books": _books,
    "tutorial": _chapters,
    "tinystories-2mb": story_documents,
    "fairytaleqa": _fairytales,
    "tinyshakespeare": _shakespeare,
    "wikitext2-eval": _wikitext,
}


def _fields(pattern: str, *names: str) -> Callable[[Path], Iterator[str]]:
    """The named fields of every row of the files that match, joined: one text a row."""

    def read(folder: Path) -> Iterator[str]:
        for path in sorted(folder.glob(pattern)):
            for row in read_rows(path):
                yield "\n".join(_text(row.get(name, "")) for name in names)

    return read


# Around these questions stands the same sentence in every row, in training files too.
_QUESTION = re.compile(r"(?:question|sentence|goal)s?: *(.*?)(?=\n\n|\Z)", re.IGNORECASE | re.DOTALL)


def _bare_questions(pattern: str) -> Callable[[Path], Iterator[str]]:
    """The question inside the `instruction` of every row."""

    def read(folder: Path) -> Iterator[str]:
        for text in _fields(pattern, "instruction")(folder):
            match = _QUESTION.search(text)
            yield match[1] if match else text

    return read


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    return value if isinstance(value, str) else ""


def _paragraphs(*names: str) -> Callable[[Path], Iterator[str]]:
    return lambda folder: (
        line for name in names for line in (folder / name).read_text(encoding="utf-8").split("\n")
    )


_EVALUATION: dict[str, Callable[[Path], Iterator[str]]] = {
    "bbh": _fields("bbh/*.json", "input"),
    "commonsense-train": _bare_questions("dataset/*/test.json"),
    "fairytaleqa": _fields("data-by-train-split/questions/[tv]*[tl]/*.csv", "question"),
    "gsm8k": _fields("test.jsonl", "question"),
    "humaneval": _fields("data/HumanEval.jsonl.gz", "prompt", "canonical_solution"),
    "math500": _fields("math500/test.jsonl", "question"),
    "mbpp": _fields("mbpp.jsonl", "text", "code"),
    "medqa": _fields("*.jsonl", "question"),
    "mmlu": _fields("*/*.csv", "question"),
    "mtbench": _fields("data/mt_bench/question.jsonl", "turns"),
    "openfunctions": _bare_questions("openfunction/openfunction_test.json"),
    "truthfulqa": _fields("TruthfulQA.csv", "question"),
    "wikitext2-eval": _paragraphs("valid.txt", "test.txt"),
}
