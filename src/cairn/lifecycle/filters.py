"""Keeping training text apart from what is held out, with `cairn.data`'s pipeline.

Long documents are filtered as passages, so that one repeated chapter does not cost a book; the
passages that stay are joined again in order.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cairn.core import Progress
from cairn.data.cleaning import clean_text
from cairn.data.decontamination import EvaluationIndex
from cairn.data.documents import Document
from cairn.data.pipeline import PipelineReport, run_pipeline
from cairn.data.words import find_words
from cairn.lifecycle.conversations import Conversation
from cairn.lifecycle.recipe import DataStage
from cairn.lifecycle.texts import TextDocument, passages

HELD_OUT = "held-out texts"
_EVALUATION_SPLITS = ("test", "val", "dev")
_REASONS_SHOWN = 2


def cleaned(text: str, config: DataStage) -> str:
    """A whole document after text repair; nothing is dropped."""
    return clean_text(text, config.filters.clean)[0] if config.filters.clean else text


def filtered(
    documents: Sequence[TextDocument],
    config: DataStage,
    evaluation: EvaluationIndex,
    progress: Progress,
) -> tuple[list[tuple[TextDocument, str]], list[dict[str, Any]]]:
    """What stays of each document, and per step what was kept and dropped."""
    report = PipelineReport()
    pipeline = config.filters.model_copy(update={"clean": None})
    kept = run_pipeline(
        _passages(documents, config), pipeline, evaluation=evaluation, report=report, progress=progress
    )
    rows = [
        (documents[place], "\n\n".join(passage.text for passage in group))
        for place, group in groupby(kept, key=lambda passage: int(passage.metadata["document"]))
    ]
    return rows, step_rows(report)


def step_rows(report: PipelineReport) -> list[dict[str, Any]]:
    """`{step, kept, dropped, why}` of each step, for metadata and reports."""
    return [
        {
            "step": name,
            "kept": step.num_out,
            "dropped": step.num_in - step.num_out,
            "why": ", ".join(
                f"{reason} ({count:,})" for reason, count in step.reasons.most_common(_REASONS_SHOWN)
            ),
        }
        for name, step in report.steps.items()
    ]


def apart(
    conversations: Iterable[Conversation], evaluation: EvaluationIndex
) -> tuple[list[Conversation], dict[str, int]]:
    """Conversations that share no long run of words with held-out text; the others counted by source."""
    kept: list[Conversation] = []
    dropped: Counter[str] = Counter()
    for conversation in conversations:
        text = f"{conversation.user}\n\n{conversation.assistant}"
        if evaluation.hits(find_words(text.encode())):
            dropped[conversation.source] += 1
        else:
            kept.append(conversation)
    return kept, dict(dropped)


def evaluation_index(
    held_out: Iterable[str], folders: Mapping[str, Path], config: DataStage
) -> EvaluationIndex:
    """All long runs of words of the held-out texts and of the named evaluation sets in `folders`."""
    sets: dict[str, Iterable[str]] = {name: _texts(folder) for name, folder in folders.items()}
    return EvaluationIndex({HELD_OUT: held_out, **sets}, config.filters.decontaminate)


def _passages(documents: Sequence[TextDocument], config: DataStage) -> Iterator[Document]:
    for place, document in enumerate(documents):
        for text in passages(cleaned(document.text, config), config.passage_characters):
            yield Document(text, metadata={"document": place})


def _texts(folder: Path) -> Iterator[str]:
    """Every text in an evaluation set's files; of a set with splits, those of its evaluation splits."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    split = [
        path
        for path in files
        if any(name in path.relative_to(folder).as_posix() for name in _EVALUATION_SPLITS)
    ]
    for path in split or files:
        if path.suffix in (".json", ".jsonl"):
            yield from _strings(_json(path))
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                yield from (cell for row in csv.reader(file) for cell in row)
        elif path.suffix in (".txt", ".md", ".tokens"):
            yield from path.read_text(encoding="utf-8", errors="replace").splitlines()


def _json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return (
        json.loads(text)
        if path.suffix == ".json"
        else [json.loads(line) for line in text.splitlines() if line]
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child)
