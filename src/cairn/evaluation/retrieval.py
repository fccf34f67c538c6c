"""Retrieval and answers in numbers: nDCG, MRR, recall, precision, MAP as trec_eval has them; EM, F1 as SQuAD.

Judgements are whole numbers, above 0 relevant; nDCG takes them as gains (Järvelin and Kekäläinen 2002), the
others as yes or no. What was not judged counts as not relevant. Every mean is over the judged queries that
have something relevant; one for which nothing was found counts 0.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

Judgements = Mapping[str, Mapping[str, int]]
"""Query to document to relevance."""
Rankings = Mapping[str, Sequence[str]]
"""Query to documents, best first, each once."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def ndcg(judged: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """Discounted cumulative gain of the first k, as a share of the best there could be."""
    ideal = sorted((gain for gain in judged.values() if gain > 0), reverse=True)
    best = _discounted(ideal[:k])
    return _discounted([max(judged.get(each, 0), 0) for each in ranking[:k]]) / best if best else 0.0


def reciprocal_rank(judged: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """One over the rank of the first relevant among the first k."""
    ranks = (rank for rank, each in enumerate(ranking[:k], start=1) if judged.get(each, 0) > 0)
    return 1 / next(ranks, math.inf)


def recall(judged: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """Share of the relevant that is among the first k."""
    return _num_relevant(judged, ranking[:k]) / max(_num_relevant(judged, list(judged)), 1)


def precision(judged: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """Share of k that is filled with relevant ones."""
    return _num_relevant(judged, ranking[:k]) / k


def average_precision(judged: Mapping[str, int], ranking: Sequence[str], k: int) -> float:
    """Mean over the relevant of the precision at their ranks; those beyond k count 0."""
    found, total = 0, 0.0
    for rank, each in enumerate(ranking[:k], start=1):
        if judged.get(each, 0) > 0:
            found += 1
            total += found / rank
    return total / max(_num_relevant(judged, list(judged)), 1)


Metric = Callable[[Mapping[str, int], Sequence[str], int], float]
METRICS: Mapping[str, Metric] = {
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "recall": recall,
    "precision": precision,
    "map": average_precision,
}


def mean_over_queries(metric: Metric, judgements: Judgements, rankings: Rankings, k: int) -> float:
    """A metric's mean over the queries that have something relevant."""
    judged = {query: each for query, each in judgements.items() if any(gain > 0 for gain in each.values())}
    values = [metric(each, rankings.get(query, ()), k) for query, each in judged.items()]
    return sum(values) / len(values) if values else 0.0


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Share of the first k that two rankings have in common; two empty ones agree."""
    most = max(len(one[:k]), len(other[:k]))
    return len(set(one[:k]) & set(other[:k])) / most if most else 1.0


def rank_correlation(one: Sequence[str], other: Sequence[str], k: int) -> float | None:
    """Kendall's tau over what both have among their first k; None where that is less than two."""
    place = {each: rank for rank, each in enumerate(other[:k])}
    shared = [place[each] for each in one[:k] if each in place]
    pairs = [(a, b) for n, a in enumerate(shared) for b in shared[n + 1 :]]
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs) if pairs else None


def normalised_answer(text: str) -> str:
    """An answer as SQuAD compares it (Rajpurkar et al. 2016): without case, punctuation and articles."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1 when an answer is one of the right ones; where there is none, only an empty answer is right."""
    right = gold or ("",)
    return float(any(normalised_answer(answer) == normalised_answer(each) for each in right))


def answer_f1(answer: str, gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, against the nearest right answer."""
    return max(_word_f1(normalised_answer(answer), normalised_answer(each)) for each in gold or ("",))


def _word_f1(answer: str, right: str) -> float:
    if not answer or not right:
        return float(answer == right)
    shared = (Counter(answer.split()) & Counter(right.split())).total()
    if not shared:
        return 0.0
    share_said, share_found = shared / len(answer.split()), shared / len(right.split())
    return 2 * share_said * share_found / (share_said + share_found)


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _num_relevant(judged: Mapping[str, int], documents: Sequence[str]) -> int:
    return sum(judged.get(each, 0) > 0 for each in documents)
