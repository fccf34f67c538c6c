"""The scores of a collection are those that trec_eval gives the rankings that were kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError
from cairn.core.retrieval import Hit, Span
from cairn.data.judged import Judged
from cairn.lifecycle.retrieval_scores import (
    chosen_queries,
    keep_report,
    score_generated,
    score_reader,
    score_search,
)
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.context import Context, Source
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders

READER = Principal("ann")
TEXTS = {
    "boats/canoe.md": "A canoe is paddled on the river.",
    "boats/kayak.md": "A kayak is paddled at sea.",
    "planes.md": "A glider sails on the wind.",
    "secret.md": "The canoe of the king is paddled by the queen.",
}
JUDGED = Judged(
    {},
    {"1": "canoe paddled on a river", "2": "what sails on the wind", "3": "not judged"},
    {"1": {"boats/canoe.md": 2, "boats/kayak.md": 1, "secret.md": 1}, "2": {"planes.md": 1}},
    {"1": ("the river",), "2": ()},
)


class WordCount:
    """The passage with most of the query's words first."""

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return [float(len(set(query.split()) & set(passage.split()))) for passage in passages]


@pytest.fixture
def collection(registry: Registry) -> Any:
    create_collection(registry, "notes", owner="ann", labels=["everyone"])
    models = replace(encoders(), reranker=WordCount())
    with Collection.open(registry, "notes", models, ExactIndexes()) as opened:
        for source, text in TEXTS.items():
            opened.put(document(source, text, ["user:king"] if source == "secret.md" else None))
        yield opened


def test_every_stage_as_trec_eval_measures_it(collection: Collection) -> None:
    import pytrec_eval

    registry = collection.registry

    def measure() -> Any:
        scores = score_search(collection, JUDGED, READER)
        return {"stages": scores.measures}, scores

    report, artifact = keep_report(registry, "notes", measure)
    assert json.loads((artifact.folder / "report.json").read_text()) == report
    [run] = registry.runs()
    assert (run.run_id, run.status, run.output) == (report["run"], "succeeded", artifact.digest)
    assert list(report["stages"]) == ["words", "dense", "fused", "reranked"]
    names = {"ndcg": "ndcg_cut", "mrr": "recip_rank", "map": "map_cut", "recall": "recall"}
    for stage, measures in report["stages"].items():
        ranked: dict[str, dict[str, float]] = {}
        for line in (artifact.folder / f"{stage}.trec").read_text().splitlines():
            query, _, name, _, score, _ = line.split()
            ranked.setdefault(query, {})[name] = float(score)
            assert name != "secret.md"
        for what, value in measures.items():
            metric, k = what.split("@")
            key = names[metric] if metric == "mrr" else f"{names[metric]}_{k}"
            wanted = {names[metric] if metric == "mrr" else f"{names[metric]}.{k}"}
            each = pytrec_eval.RelevanceEvaluator(JUDGED.relevant, wanted).evaluate(ranked)
            assert value == pytest.approx(sum(row[key] for row in each.values()) / 2), (stage, what)


def test_by_document_id_and_without_a_reranker(collection: Collection, registry: Registry) -> None:
    collection = Collection.open(registry, "notes", encoders(), ExactIndexes())
    info = next(info for info in collection.documents(None) if info.source == "planes.md")
    judged = replace(JUDGED, relevant={"2": {info.document_id: 1}})
    scores = score_search(collection, judged, READER)
    assert list(scores.measures) == ["words", "dense", "fused"]
    assert scores.measures["fused"]["recall@1"] == 1
    with pytest.raises(InvalidRequestError, match="no query has a judgement"):
        score_search(collection, replace(JUDGED, relevant={"x": {"planes.md": 1}}), READER)


def test_a_failure_is_kept_too(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError):
        keep_report(registry, "notes", lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    assert [(run.status, run.output) for run in registry.runs()] == [("failed", None)]


def hits(text: str) -> list[Hit]:
    from cairn.core.retrieval import Passage

    return [Hit(Passage(1, "file-1", "sha256:0", "a.md", text, (0, len(text)), 1), 1.0)]


def test_the_reader_counts_what_it_does_not_say() -> None:
    class Reader:
        def read(self, question: str, passages: Sequence[str], *, limit: int = 1) -> list[Span]:
            start = passages[0].find("river")
            return [Span(0, start, start + 5, "river", 0.9 if start >= 0 else 0.1)]

    found = {"1": hits("Paddled on the river."), "2": hits("Nothing."), "3": hits("no answer is known")}
    scores = score_reader(Reader(), JUDGED, found)
    # The second has no right answer, and none is given.
    assert scores == {"questions": 2, "answered": 0.5, "em": 1.0, "f1": 1.0}


def test_citations_are_checked_one_by_one() -> None:
    sources = {1: "A canoe is paddled on the river.", 2: "A glider sails on the wind."}
    context = Context(
        "",
        tuple(Source(number, hits(text)[0].passage, (number,)) for number, text in sources.items()),
        0,
    )
    answers = {
        JUDGED.queries["1"]: "The canoe is paddled on the river [1][2]. Gliders are expensive toys [2].",
        JUDGED.queries["2"]: "The glider sails on the wind [2]. Bread is baked every morning [3].",
    }
    found = {"1": hits(sources[1]), "2": hits(sources[2])}
    scores = score_generated(lambda question, _: (answers[question], context), JUDGED, found)
    assert (scores["sentences"], scores["citations"]) == (4, 5)
    assert scores["citation precision"] == pytest.approx(2 / 5)
    assert scores["faithfulness"] == pytest.approx(2 / 4)
    assert 0 < scores["f1"] < 1


def test_a_choice_of_queries_is_spread_over_all() -> None:
    judged = Judged({}, {str(n): "q" for n in range(10)}, {str(n): {"a": 1} for n in range(10)})
    assert list(chosen_queries(judged, 3).relevant) == ["0", "3", "6"]
    assert list(chosen_queries(judged, 0).relevant) == list(judged.relevant)
