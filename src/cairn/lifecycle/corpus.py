"""The corpus on disk: one JSON line a document, written and read the same way by every stage."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core.progress import Task
from cairn.data import Document, Source, Tokenizer

CORPUS_TRAIN = "train.jsonl"
CORPUS_HELD_OUT = "held_out.jsonl"


def write_rows(rows: Iterable[Any], path: Path) -> int:
    """One JSON line a row; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of `write_rows`, in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_texts(path: Path, task: Task | None = None) -> Iterator[str]:
    """The texts of a corpus file."""
    for row in read_rows(path):
        yield row["text"]
        if task is not None:
            task.advance()


def token_documents(texts: Sequence[str], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """Each text as ids with its end token behind it (and none before)."""
    assert tokenizer.eos_token_id is not None
    return [np.array([*ids, tokenizer.eos_token_id], dtype=np.int64) for ids in tokenizer.encode_batch(texts)]


def read_corpus(path: Path, task: Task | None = None) -> Iterator[Document]:
    """The documents of a corpus file."""
    for row in read_rows(path):
        yield Document(row["text"], Source(row["path"]), {"source": row["source"]})
        if task is not None:
            task.advance()
