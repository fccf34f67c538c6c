"""Keeping training text apart from what is held out, with `cairn.data`'s pipeline.

Long documents are filtered as passages, so that one repeated chapter does not cost a book; the
passages that stay are joined again in order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from cairn.core import Progress
from cairn.data import (
    Conversation,
    Document,
    EvaluationIndex,
    LocalDataset,
    PipelineReport,
    clean_text,
    evaluation_texts,
    run_pipeline,
)
from cairn.data.words import find_words
from cairn.lifecycle.recipe import DataStage

HELD_OUT = "held-out texts"
_REASONS_SHOWN = 2


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


def cleaned(text: str, config: DataStage) -> str:
    """A whole document after text repair; nothing is dropped."""
    return clean_text(text, config.filters.clean)[0] if config.filters.clean else text


def filtered(
    documents: Sequence[Document],
    config: DataStage,
    evaluation: EvaluationIndex,
    progress: Progress,
) -> tuple[list[tuple[int, str]], list[dict[str, Any]]]:
    """(place, what stays) of each document of which something stays, and per step what was dropped."""
    report = PipelineReport()
    pipeline = config.filters.model_copy(update={"clean": None})
    kept = run_pipeline(
        _passages(documents, config), pipeline, evaluation=evaluation, report=report, progress=progress
    )
    rows = [
        (place, "\n\n".join(passage.text for passage in group))
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
        text = "\n\n".join(message.text for message in conversation.messages)
        if evaluation.hits(find_words(text.encode())):
            dropped[conversation.source] += 1
        else:
            kept.append(conversation)
    return kept, dict(dropped)


def evaluation_index(
    held_out: Iterable[str], sets: Iterable[LocalDataset], config: DataStage
) -> EvaluationIndex:
    """All long runs of words of the held-out texts and of evaluation sets."""
    named: dict[str, Iterable[str]] = {local.spec.name: evaluation_texts(local) for local in sets}
    return EvaluationIndex({HELD_OUT: held_out, **named}, config.filters.decontaminate)


def _passages(documents: Sequence[Document], config: DataStage) -> Iterator[Document]:
    for place, document in enumerate(documents):
        for text in passages(cleaned(document.text, config), config.passage_characters):
            yield Document(text, metadata={"document": place})
