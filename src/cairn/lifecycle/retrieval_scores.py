"""How well a collection is searched and answered from, measured on judged queries and kept as a run.

Every stage of the search is measured for itself: by words, by vectors, both fused, and reranked (what the
reranker does not read follows in the fused order). A document ranks where its best passage does. The run's
output is an artifact `scores` with `report.json` and the ranking of each query in TREC's format.
"""

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cairn.core import Progress, Settings, Silent
from cairn.core.chat import ChatRequest, Principal, SamplingParams, TextDelta, text_message
from cairn.core.errors import InvalidRequestError
from cairn.core.retrieval import Hit, Reader
from cairn.data.judged import Judged
from cairn.data.parsing import parse_bytes
from cairn.evaluation.retrieval import METRICS, answer_f1, exact_match, mean_over_queries
from cairn.providers.answering import CONTEXT_TOKENS
from cairn.providers.grounding import check_sentences, extract_answer, grounded_messages
from cairn.providers.knowledge import Library
from cairn.providers.local import LocalProvider
from cairn.registry import Artifact, Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.context import Context, build_context
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.index_folder import IndexFolder
from cairn.retrieval.search import Depth, SearchOptions, find

STAGES: Mapping[str, Depth] = {"words": "lexical", "dense": "dense", "fused": "fused", "reranked": "reranked"}
MEASURES = (("ndcg", 10), ("mrr", 10), ("recall", 1), ("recall", 10), ("recall", 100), ("map", 100))
READ = 5
"""Passages that are answered from, as `cairn ask` does."""
_DEPTH, _BATCH = 100, 64
_ANSWER_TOKENS = 512
_MARK = re.compile(r"\[\d{1,4}\]")
Rankings = dict[str, list[str]]
Hits = dict[str, list[Hit]]
Answerer = Callable[[str, list[Hit]], tuple[str, Context]]


@dataclass(slots=True)
class SearchScores:
    """Each stage's measures, its rankings, and the hits of the last."""

    measures: dict[str, dict[str, float]] = field(default_factory=dict)
    rankings: dict[str, Rankings] = field(default_factory=dict)
    hits: Hits = field(default_factory=dict)


@contextmanager
def judged_collection(library: Library, judged: Judged, embedder: str = "") -> Iterator[Collection]:
    """A collection of a judged set's documents in a home of its own, gone afterwards."""
    config = CollectionConfig(embedder=embedder) if embedder else CollectionConfig()
    with (
        tempfile.TemporaryDirectory(prefix="judged-", dir=library.registry.settings.home) as home,
        Registry.open(Settings(home=Path(home))) as registry,
    ):
        create_collection(registry, "judged", owner="judge", labels=["everyone"], config=config)
        indexes = IndexFolder(Path(home) / "indexes")
        with Collection.open(registry, "judged", library.encoders(config.embedder), indexes) as collection:
            items = list(judged.documents.items())
            for start in range(0, len(items), _BATCH):
                collection.put_all([_document(*item) for item in items[start : start + _BATCH]])
            yield collection


def score_search(
    collection: Collection, judged: Judged, reader: Principal, progress: Progress | None = None
) -> SearchScores:
    """Every stage there is, over the queries that have something relevant."""
    scores = SearchScores()
    wanted = {query: judged.queries[query] for query in judged.relevant if query in judged.queries}
    if not wanted:
        raise InvalidRequestError(
            "no query has a judgement", remedy="give both the same ids for queries", param="judgements"
        )
    stages = {n: d for n, d in STAGES.items() if d != "reranked" or collection.encoders.reranker is not None}
    with (progress or Silent()).task("searching", len(wanted) * len(stages)) as task:
        for name, depth in stages.items():
            limit = collection.info.config.reranked if depth == "reranked" else _DEPTH
            options = SearchOptions(limit=max(limit, 1), depth=depth)
            found: Rankings = {}
            for query, text in wanted.items():
                hits = scores.hits[query] = find(collection, text, reader, options)
                named = [_judged_as(hit, judged.relevant[query]) for hit in hits]
                if depth == "reranked":
                    named += scores.rankings["fused"][query]
                found[query] = list(dict.fromkeys(named))
                task.advance()
            scores.rankings[name] = found
            scores.measures[name] = {
                f"{measure}@{k}": mean_over_queries(METRICS[measure], judged.relevant, found, k)
                for measure, k in MEASURES
            }
    return scores


def score_reader(
    reader: Reader, judged: Judged, hits: Hits, progress: Progress | None = None
) -> dict[str, float]:
    """The extracted answers of the questions that have right ones; one that is not given counts as empty."""
    asked = [query for query in hits if query in judged.answers]
    exact = f1 = 0.0
    given = 0
    with (progress or Silent()).task("reading", len(asked)) as task:
        for query in asked:
            answer = extract_answer(reader, judged.queries[query], hits[query][:READ])
            said = answer.text if answer is not None else ""
            given += answer is not None
            exact += exact_match(said, judged.answers[query])
            f1 += answer_f1(said, judged.answers[query])
            task.advance()
    num = max(len(asked), 1)
    return {"questions": len(asked), "answered": given / num, "em": exact / num, "f1": f1 / num}


def score_generated(
    answer: Answerer, judged: Judged, hits: Hits, progress: Progress | None = None
) -> dict[str, float]:
    """A chat model's answers, held against their sources sentence by sentence.

    Citation precision: of all citations, the share whose source alone says the sentence. Faithfulness: of all
    sentences, the share that is supported by what it cites. Both are checks of words (`providers.grounding`).
    """
    sentences = supported = citations = right = 0
    exact, f1 = list[float](), list[float]()
    with (progress or Silent()).task("answering", len(hits)) as task:
        for query, found in hits.items():
            text, context = answer(judged.queries[query], found[:READ])
            for sentence in check_sentences(text, context):
                sentences += 1
                supported += sentence.is_supported
                words = _MARK.sub("", sentence.text).strip(" .!?")
                for mark in dict.fromkeys(_MARK.findall(sentence.text)):
                    citations += 1
                    right += all(each.is_supported for each in check_sentences(f"{words} {mark}", context))
            if query in judged.answers:
                exact.append(exact_match(text, judged.answers[query]))
                f1.append(answer_f1(text, judged.answers[query]))
            task.advance()
    scores: dict[str, float] = {
        "questions": len(hits),
        "sentences": sentences,
        "citations": citations,
        "citation precision": right / citations if citations else 0.0,
        "faithfulness": supported / sentences if sentences else 0.0,
    }
    if exact:
        scores |= {"em": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}
    return scores


def writer(provider: LocalProvider, collection: Collection, principal: Principal) -> Answerer:
    """A chat model that answers from passages as it does in a conversation, without chance."""

    def answer(question: str, hits: list[Hit]) -> tuple[str, Context]:
        budget = min(CONTEXT_TOKENS, provider.context_length // 2)
        context = build_context(collection, hits, principal, budget=budget, count=provider.count_tokens)
        request = ChatRequest(
            model=provider.name,
            messages=grounded_messages((text_message("user", question),), context),
            sampling=SamplingParams(temperature=0.0, max_tokens=_ANSWER_TOKENS),
            principal=principal,
        )
        return asyncio.run(_text(provider, request)), context

    return answer


async def _text(provider: LocalProvider, request: ChatRequest) -> str:
    async with aclosing(provider.stream(request)) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)]).strip()


def chosen_queries(judged: Judged, limit: int) -> Judged:
    """The set with at most `limit` of its judged queries, evenly over them all; 0: all."""
    queries = [query for query in judged.relevant if query in judged.queries]
    if limit and limit < len(queries):
        queries = [queries[place * len(queries) // limit] for place in range(limit)]
    return replace(judged, relevant={query: judged.relevant[query] for query in queries})


def keep_report(
    registry: Registry, subject: str, measure: Callable[[], tuple[dict[str, Any], SearchScores]]
) -> tuple[dict[str, Any], Artifact]:
    """Measure within a run; its output holds the report and the rankings."""
    run = registry.start_run(recipe="eval retrieval", config={"subject": subject})
    started = time.monotonic()
    try:
        report, scores = measure()
        report = {"run": run.run_id, "seconds": round(time.monotonic() - started, 1), **report}
        metadata = {"scores": report["stages"], "subject": subject}
        with registry.create("scores", metadata=metadata, run_id=run.run_id) as writer:
            (writer.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
            for stage, found in scores.rankings.items():
                (writer.folder / f"{stage}.trec").write_text("".join(_trec_lines(stage, found)))
    except BaseException as error:
        is_stopped = isinstance(error, KeyboardInterrupt)
        registry.finish_run(
            run.run_id, status="interrupted" if is_stopped else "failed", error=str(error) or repr(error)
        )
        raise
    registry.finish_run(run.run_id, status="succeeded", output=writer.artifact.digest)
    return report, writer.artifact


def _document(source: str, text: str) -> NewDocument:
    data = text.encode()
    return NewDocument(source=source, original=data, parsed=parse_bytes(data, f"{source}.md"))


def _judged_as(hit: Hit, judged: Mapping[str, int]) -> str:
    """What the judgements call a document: its name or its id."""
    passage = hit.passage
    return passage.document_id if passage.document_id in judged else passage.name


def _trec_lines(stage: str, found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for query, ranking in found.items():
        for rank, document in enumerate(ranking, start=1):
            name = document.replace(" ", "%20")
            yield f"{query} Q0 {name} {rank} {1 / rank:.6f} {stage}\n"
