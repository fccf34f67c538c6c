"""The corpus on disk: one JSON line a document, the same names and readers in every stage."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cairn.core.progress import Task
from cairn.data import Document, Tokenizer, document_examples, read_documents

CORPUS_TRAIN = "train.jsonl"
CORPUS_HELD_OUT = "held_out.jsonl"


def read_corpus(path: Path, task: Task | None = None) -> Iterator[Document]:
    """The documents of a corpus file; the name of their source is in their metadata."""
    for document in read_documents(path):
        yield document
        if task is not None:
            task.advance()


def read_texts(path: Path, task: Task | None = None) -> Iterator[str]:
    """The texts of a corpus file."""
    return (document.text for document in read_corpus(path, task))


def token_documents(texts: Sequence[str], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """Each text as ids with its end token behind it (and none before), as scores are computed on them."""
    examples = document_examples(tokenizer, map(Document, texts))
    return [ids[1:].astype(np.int64) for ids, _, _ in examples]
