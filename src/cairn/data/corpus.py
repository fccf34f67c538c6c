"""From files to a clean corpus on disk, and from documents to examples for packing."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core.errors import ConfigError
from cairn.core.file_writing import replace_file
from cairn.core.progress import Progress
from cairn.data.decontamination import EvaluationIndex
from cairn.data.documents import Document
from cairn.data.pipeline import PipelineConfig, PipelineReport, run_pipeline
from cairn.data.readers import ReadConfig, ReadReport, read_documents
from cairn.data.tokenizer import Tokenizer


def clean_to_file(
    paths: Iterable[Path],
    out: Path,
    *,
    reading: ReadConfig | None = None,
    config: PipelineConfig | None = None,
    evaluation: EvaluationIndex | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, int], PipelineReport]:
    """Read, filter and write one JSON line a document; the file appears whole or not at all."""
    read_report, report = ReadReport(), PipelineReport()
    documents = run_pipeline(
        read_documents(paths, reading, read_report),
        config,
        evaluation=evaluation,
        report=report,
        progress=progress,
    )
    rows = (json.dumps(document_row(each), ensure_ascii=False, default=str) for each in documents)
    replace_file(out, (f"{row}\n".encode() for row in rows))
    return asdict(read_report), report


def document_row(document: Document) -> dict[str, Any]:
    """A document as a JSON row that `read_documents` reads again."""
    return {**document.metadata, "text": document.text, "source": str(document.source)}


def document_examples(
    tokenizer: Tokenizer, documents: Iterable[Document]
) -> Iterator[tuple[NDArray[np.uint32], None, int]]:
    """Documents for `write_shards`: ids between end-of-text tokens, so that beginnings are learned too."""
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end token", remedy="set eos_token in its tokenizer_config.json"
        )
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    first, last = np.array([start], np.uint32), np.array([tokenizer.eos_token_id], np.uint32)
    for document in documents:
        ids = tokenizer.encode_array(document.text)
        yield np.concatenate([first, ids, last]), None, len(document.text.encode())
