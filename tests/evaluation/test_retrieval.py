"""Metrics against trec_eval, and answers as SQuAD's own script judges them."""

import random

import pytest

from cairn.evaluation.retrieval import (
    METRICS,
    answer_f1,
    exact_match,
    mean_over_queries,
    ndcg,
    normalised_answer,
    overlap,
    rank_correlation,
)


def judged(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    chance = random.Random(seed)
    documents = [f"d{n}" for n in range(40)]
    judgements = {
        f"q{n}": {name: chance.choice([0, 1, 1, 2, 3]) for name in chance.sample(documents, 12)}
        for n in range(20)
    }
    for each in judgements.values():
        each[documents[0]] = 1
    rankings = {query: chance.sample(documents, chance.randint(1, 30)) for query in judgements}
    return judgements, rankings


@pytest.mark.parametrize("k", [1, 5, 10, 100])
@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_those_of_trec_eval(name: str, k: int) -> None:
    import pytrec_eval

    measure = {
        "ndcg": "ndcg_cut",
        "mrr": "recip_rank",
        "recall": "recall",
        "precision": "P",
        "map": "map_cut",
    }[name]
    judgements, rankings = judged(k)
    runs = {
        query: {each: 1000.0 - rank for rank, each in enumerate(ranking[:k])}
        for query, ranking in rankings.items()
    }
    wanted = measure if measure == "recip_rank" else f"{measure}.{k}"
    results = pytrec_eval.RelevanceEvaluator(judgements, {wanted}).evaluate(runs)
    key = measure if measure == "recip_rank" else f"{measure}_{k}"
    theirs = sum(each[key] for each in results.values()) / len(results)
    assert mean_over_queries(METRICS[name], judgements, rankings, k) == pytest.approx(theirs)


def test_by_hand() -> None:
    assert ndcg({"a": 3, "b": 1}, ["x", "a"], 10) == pytest.approx(
        (3 / 1.584963) / (3 + 1 / 1.584963), rel=1e-5
    )
    assert mean_over_queries(METRICS["recall"], {"q": {"a": 1}, "empty": {"a": 0}}, {}, 10) == 0.0
    assert mean_over_queries(METRICS["mrr"], {"q": {"a": 1}, "r": {"b": 1}}, {"q": ["x", "a"]}, 10) == 0.25
    assert mean_over_queries(METRICS["mrr"], {}, {}, 10) == 0.0


def test_how_far_two_rankings_agree() -> None:
    from scipy.stats import kendalltau  # type: ignore[import-untyped]

    chance = random.Random(3)
    names = [f"d{n}" for n in range(14)]
    for _ in range(30):
        one, other = chance.sample(names, 10), chance.sample(names, chance.randint(0, 12))
        shared = [each for each in one if each in other[:10]]
        assert overlap(one, other, 10) == len(shared) / 10
        found = rank_correlation(one, other, 10)
        if len(shared) < 2:
            assert found is None
        else:
            theirs = kendalltau([one.index(each) for each in shared], [other.index(each) for each in shared])
            assert found == pytest.approx(theirs.statistic)
    assert overlap([], [], 10) == 1


def test_answers() -> None:
    assert normalised_answer("The  Eiffel-Tower, a tower!") == "eiffeltower tower"
    assert exact_match("the Canoe.", ["A canoe", "kayak"]) == 1
    assert exact_match("", []) == 1
    assert exact_match("canoe", []) == 0
    assert answer_f1("red canoe", ["the canoe"]) == pytest.approx(2 / 3)
    assert answer_f1("red canoe", ["a raft", "canoe red"]) == 1
    assert answer_f1("", ["raft"]) == 0
    assert answer_f1("a", ["the"]) == 1
