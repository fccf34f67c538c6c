"""The corpus on disk: one JSON line a document, and shards packed from it.

Shared by the stages: who writes a corpus, who learns a tokenizer from it and who packs it read
and write the same way. Every document is packed as end token, text, end token, so that the
model learns where texts begin and end.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core.progress import Task
from cairn.data import Tokenizer

CORPUS_TRAIN = "train.jsonl"
CORPUS_HELD_OUT = "held_out.jsonl"
_BATCH = 256


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


def packed_texts(
    path: Path, tokenizer: Tokenizer, task: Task
) -> Iterator[tuple[NDArray[np.int64], None, int]]:
    """Documents for `write_shards`: ids with an end token on both sides, no mask, bytes of text."""
    start = np.array([tokenizer.eos_token_id], dtype=np.int64)
    for batch in _batched(read_texts(path), _BATCH):
        for text, ids in zip(batch, token_documents(batch, tokenizer), strict=True):
            yield np.concatenate([start, ids]), None, len(text.encode())
            task.advance()


def _batched(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
