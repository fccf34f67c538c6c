"""Texts of a recipe's sources: what to train on, and what is held out.

Named data sets bring their own rule for what is held out; of files beside the recipe every n-th
or the last share is, by sorted path, so that the split never depends on chance.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from cairn.data import (
    Document,
    LocalDataset,
    Source,
    find_dataset,
    load_documents,
    plain_text,
    read_documents,
)
from cairn.data.readers import MARKDOWN_SUFFIXES, kind_of
from cairn.lifecycle.recipe import TextSource


@dataclass(frozen=True, slots=True)
class TextSplit:
    """Documents of one source."""

    train: list[Document]
    held_out: list[Document]


def read_source(source: TextSource, folder: Path) -> TextSplit:
    """The documents of a source whose raw files lie in `folder`."""
    if source.dataset:
        local = LocalDataset(find_dataset(source.dataset), folder)
        split = TextSplit(list(load_documents(local, "train")), list(load_documents(local, "held_out")))
    else:
        split = _split(list(read_documents(folder)), source)
    train = split.train[: source.limit] if source.limit else split.train
    return TextSplit(
        [_plain(each, folder) for each in train], [_plain(each, folder) for each in split.held_out]
    )


def _plain(document: Document, folder: Path) -> Document:
    """Plain text, and a path that is the same wherever the files lie."""
    path = Path(document.source.path)
    name = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
    text = plain_text(document.text) if kind_of(path.name) in MARKDOWN_SUFFIXES else document.text
    return Document(text, Source(name), document.metadata)


def _split(documents: list[Document], source: TextSource) -> TextSplit:
    last = len(documents) - math.ceil(len(documents) * source.held_out_share)
    chosen = set(range(last, len(documents)))
    if source.held_out_every:
        chosen |= set(range(source.held_out_every - 1, len(documents), source.held_out_every))
    return TextSplit(
        [each for place, each in enumerate(documents) if place not in chosen],
        [each for place, each in enumerate(documents) if place in chosen],
    )
