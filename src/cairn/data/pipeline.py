"""The pipeline: cleaning, rules, language, duplicates and decontamination, composed over a stream.

Documents flow through one at a time (in worker processes, in chunks, for all that needs no memory of other
documents), so a corpus need not fit in memory. The order of the output is that of the input whatever
the number of workers. The report says per step what came in, what went out, and why.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from typing import Any

from pydantic import Field

from cairn.core.config import Config
from cairn.core.progress import Progress, Silent
from cairn.data.cleaning import CleanConfig, clean_text
from cairn.data.decontamination import DecontaminateConfig, EvaluationIndex, cut_hits
from cairn.data.documents import Document
from cairn.data.duplicates import ExactConfig, ExactDuplicates, NearConfig, NearDuplicates, signature_of
from cairn.data.language import detect_language
from cairn.data.quality import QualityConfig, broken_rule
from cairn.data.words import Hashes, Words, find_words

STEPS = ("clean", "quality", "language", "exact", "near", "decontaminate")
_NUM_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 160
_CHUNK_CHARACTERS = 1 << 21
_MAX_HITS_NAMED = 100


class PipelineConfig(Config):
    """Which steps run, in this order; a step that is not given (None) is left out."""

    clean: CleanConfig | None = Field(default=CleanConfig(), description="text repair and evening out")
    quality: QualityConfig | None = Field(default=QualityConfig(), description="quality rules")
    languages: tuple[str, ...] = Field(default=(), description="ISO 639-1 codes to keep; empty: all")
    min_language_probability: float = Field(
        default=0.5, ge=0, le=1, description="least certainty about the language"
    )
    exact: ExactConfig | None = Field(default=ExactConfig(), description="exact duplicates")
    near: NearConfig | None = Field(default=NearConfig(), description="near duplicates")
    decontaminate: DecontaminateConfig | None = Field(
        default=DecontaminateConfig(), description="runs shared with evaluation sets, when an index is given"
    )
    workers: int = Field(default=1, ge=1, le=64, description="processes for the steps that need no memory")


@dataclass(slots=True)
class StepReport:
    """What one step did."""

    num_in: int = 0
    num_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why documents were dropped or changed, and how many."""
    examples: list[dict[str, str]] = field(default_factory=list)
    """A few of the dropped: source, reason, beginning of the text."""


@dataclass(slots=True)
class PipelineReport:
    """What a run did; filled while its documents are consumed."""

    steps: dict[str, StepReport] = field(default_factory=dict)
    contaminated: list[dict[str, Any]] = field(default_factory=list)
    """Documents that share runs with evaluation sets: source, and hits by set (the first hundred)."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        # `asdict` would make a Counter of a Counter's pairs.
        steps = {name: asdict(replace(step, reasons=Counter())) for name, step in self.steps.items()}
        for name, step in self.steps.items():
            steps[name]["reasons"] = dict(step.reasons)
        return {"steps": steps, "contaminated": self.contaminated}


@dataclass(slots=True)
class _Item:
    """A document on its way, with what later steps need and workers can compute."""

    document: Document
    words: Words
    signature: Hashes | None = None
    size: int = 0


def run_pipeline(
    documents: Iterable[Document],
    config: PipelineConfig | None = None,
    *,
    evaluation: EvaluationIndex | None = None,
    report: PipelineReport | None = None,
    progress: Progress | None = None,
) -> Iterator[Document]:
    """The documents that pass every step, in order; `report` fills as they are consumed."""
    config = config or PipelineConfig()
    report = report if report is not None else PipelineReport()
    report.steps.update((name, StepReport()) for name in STEPS if _is_on(config, name, evaluation))
    with (progress or Silent()).task("filtering documents") as task:
        stateful = _Stateful(config, evaluation, report)
        for survivors in _prepared(documents, config, report):
            for item in survivors:
                task.advance(1)
                document = stateful.run(item)
                if document is not None:
                    yield document


def _is_on(config: PipelineConfig, name: str, evaluation: EvaluationIndex | None) -> bool:
    if name == "language":
        return bool(config.languages)
    if name == "decontaminate" and evaluation is None:
        return False
    return getattr(config, name) is not None


def _prepared(
    documents: Iterable[Document], config: PipelineConfig, report: PipelineReport
) -> Iterator[list[_Item]]:
    """Chunks after the steps that look at one document alone."""
    chunks = _chunks(documents)
    if config.workers == 1:
        results: Iterable[tuple[list[_Item], dict[str, StepReport]]] = (
            _prepare(chunk, config) for chunk in chunks
        )
    else:
        results = _in_processes(chunks, config)
    for items, steps in results:
        for name, step in steps.items():
            _merge(report.steps[name], step)
        yield items


def _in_processes(
    chunks: Iterator[list[Document]], config: PipelineConfig
) -> Iterator[tuple[list[_Item], dict[str, StepReport]]]:
    # Not forked: the parent may hold threads (of the tokenizer, of torch) that a fork would break.
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[tuple[list[_Item], dict[str, StepReport]]]] = []
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_prepare, chunk, config))
                # Bounded, so that a slow consumer does not fill the memory.
                if len(waiting) > config.workers + 1:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    held = 0
    for document in documents:
        chunk.append(document)
        held += len(document.text)
        if held >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _prepare(chunk: Sequence[Document], config: PipelineConfig) -> tuple[list[_Item], dict[str, StepReport]]:
    """Clean, judge and hash a chunk; runs in a worker."""
    steps = {name: StepReport() for name in STEPS[:3] if _is_on(config, name, None)}
    items = [item for document in chunk if (item := _prepare_one(document, config, steps)) is not None]
    return items, steps


def _prepare_one(document: Document, config: PipelineConfig, steps: dict[str, StepReport]) -> _Item | None:
    size = len(document.text.encode())
    if config.clean is not None:
        with _counted(steps["clean"], size) as step:
            text, facts = clean_text(document.text, config.clean)
            if text != document.text:
                step.reasons["changed"] += 1
                document = replace(document, text=text, metadata={**facts, **document.metadata})
            size = len(text.encode())
            if _is_dropped(step, document, "" if text else "empty"):
                return None
    words = find_words(document.text.encode())
    if config.quality is not None:
        with _counted(steps["quality"], size) as step:
            if _is_dropped(step, document, broken_rule(document.text, config.quality, words)):
                return None
    if config.languages:
        with _counted(steps["language"], size) as step:
            code, probability = detect_language(document.text)
            is_kept = code in config.languages and probability >= config.min_language_probability
            document = replace(document, metadata={**document.metadata, "language": code})
            if _is_dropped(step, document, "" if is_kept else f"language {code}"):
                return None
    signature = signature_of(words, config.near) if config.near is not None else None
    return _Item(document, words, signature, size)


class _Stateful:
    """The steps that remember earlier documents."""

    def __init__(
        self, config: PipelineConfig, evaluation: EvaluationIndex | None, report: PipelineReport
    ) -> None:
        self._config = config
        self._report = report
        self._exact = ExactDuplicates(config.exact) if config.exact else None
        self._near = NearDuplicates(config.near) if config.near else None
        self._evaluation = evaluation if config.decontaminate else None

    def run(self, item: _Item) -> Document | None:
        steps = self._report.steps
        if self._exact is not None:
            with _counted(steps["exact"], item.size) as step:
                if _is_dropped(step, item.document, self._find_exact(item, step)):
                    return None
        if self._near is not None and item.signature is not None:
            with _counted(steps["near"], item.size) as step:
                reason = "near duplicate" if self._near.is_repeated(item.signature) else ""
                if _is_dropped(step, item.document, reason):
                    return None
        if self._evaluation is not None:
            with _counted(steps["decontaminate"], item.size) as step:
                if _is_dropped(step, item.document, self._decontaminate(item, step)):
                    return None
        return item.document

    def _find_exact(self, item: _Item, step: StepReport) -> str:
        """Why to drop the document, or nothing; may take repeated paragraphs out of it."""
        assert self._exact is not None
        assert self._config.exact is not None
        if self._config.exact.documents and self._exact.is_repeated(item.words):
            return "exact duplicate"
        if self._config.exact.paragraphs:
            text = self._exact.without_repeated_paragraphs(item.document.text, item.words)
            if text != item.document.text:
                step.reasons["paragraphs removed"] += 1
                _set_text(item, text)
        return "" if item.document.text.strip() else "every paragraph repeated"

    def _decontaminate(self, item: _Item, step: StepReport) -> str:
        assert self._evaluation is not None
        hits = self._evaluation.hits(item.words)
        if not hits:
            return ""
        counts = Counter(hit.dataset for hit in hits)
        step.reasons.update({f"hit {name}": 1 for name in counts})
        if len(self._report.contaminated) < _MAX_HITS_NAMED:
            self._report.contaminated.append({"source": str(item.document.source), "hits": dict(counts)})
        if self._evaluation.config.action == "drop":
            return "contaminated"
        _set_text(item, cut_hits(item.document.text, hits))
        return "" if item.document.text.strip() else "contaminated"


def _set_text(item: _Item, text: str) -> None:
    data = text.encode()
    item.document = replace(item.document, text=text)
    item.words = find_words(data)
    item.size = len(data)


@contextmanager
def _counted(step: StepReport, size: int) -> Iterator[StepReport]:
    """Count a document of `size` bytes into a step and time it there."""
    step.num_in += 1
    step.bytes_in += size
    started = time.perf_counter()
    try:
        yield step
    finally:
        step.seconds += time.perf_counter() - started


def _is_dropped(step: StepReport, document: Document, reason: str) -> bool:
    """Count a document out of a step, or as dropped when there is a reason."""
    if not reason:
        step.num_out += 1
        step.bytes_out += len(document.text.encode())
        return False
    step.reasons[reason] += 1
    if len(step.examples) < _NUM_EXAMPLES:
        text = document.text[:_EXAMPLE_CHARACTERS]
        step.examples.append({"source": str(document.source), "reason": reason, "text": text})
    return True


def _merge(total: StepReport, part: StepReport) -> None:
    total.num_in += part.num_in
    total.num_out += part.num_out
    total.bytes_in += part.bytes_in
    total.bytes_out += part.bytes_out
    total.seconds += part.seconds
    total.reasons.update(part.reasons)
    total.examples = [*total.examples, *part.examples][:_NUM_EXAMPLES]
