"""judge: a head calibrated on what was kept back of its training data, then scored on what is held out.

Everything is computed as it will be served: by the native engine, through `LocalReader` and `LocalReranker`.
Reading: the margin over "not here" becomes a probability by logistic regression, over questions with the
right passage and as many with another one. Reranking: the features of pairs of a query with the right passage
and with others become a logit in the same way.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.lifecycle.stages.examples import KEPT_BACK, base_folder
from cairn.registry import Artifact

if TYPE_CHECKING:
    from cairn.core import Progress
    from cairn.providers.heads import LocalReader, LocalReranker

CALIBRATION, SCORES = "calibration.json", "scores.json"
_RIGHT = 0.5
"""F1 from which an answer counts as right."""
_OTHERS = 15
"""Wrong passages a query is calibrated with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the passage that answers it, and another that does not."""

    question: str
    passage: str
    answers: tuple[str, ...]
    other: str


def _config(recipe: HeadRecipe, recipe_path: Path) -> dict[str, Any]:
    return recipe.judge.model_dump(mode="json")


def _run(context: StageContext[HeadRecipe]) -> Artifact:
    from cairn.providers.heads import LocalReader, open_head

    head, examples = context.inputs["train"], context.inputs["examples"]
    rows = [json.loads(line) for line in (examples.folder / KEPT_BACK).read_text("utf-8").splitlines()]
    kept_back = asked([(row["question"], row["passage"], tuple(row["answers"])) for row in rows])
    limit = context.recipe.judge.num_calibration
    loaded = open_head(base_folder(context), head.folder)
    try:
        if isinstance(loaded, LocalReader):
            values = calibrate_reader(loaded, spread(kept_back, limit), context.progress)
            loaded.calibrate(values)
            scores = {name: score_reader(loaded, each, context.progress) for name, each in _held_out(context)}
        else:
            values = calibrate_reranker(loaded, spread(kept_back, limit), context.progress)
            loaded.calibrate(values)
            scores = {name: score_reranker(loaded, each) for name, each in _held_out(context)}
    finally:
        loaded.close()
    with context.registry.create(
        "scores", parents=[head.digest, examples.digest], metadata={"scores": scores}, run_id=context.run_id
    ) as writer:
        (writer.folder / CALIBRATION).write_text(json.dumps(values, indent=2) + "\n")
        (writer.folder / SCORES).write_text(json.dumps(scores, indent=2) + "\n")
    return writer.artifact


def _held_out(context: StageContext[HeadRecipe]) -> list[tuple[str, list[Asked]]]:
    """The held-out questions of each data set, as many as the recipe says."""
    from cairn.data import get_dataset

    judge, found = context.recipe.judge, []
    for name in judge.sources:
        local = get_dataset(name, context.settings, progress=context.progress)
        found.append((name, spread(held_out_questions(local), judge.num_questions)))
    return found


def held_out_questions(local: Any) -> list[Asked]:
    """What a data set holds out, each question with the passage of another one."""
    from cairn.data.questions import load_questions

    questions = [each for each in load_questions(local, "held_out") if each.span]
    return asked([(each.text, each.passage, each.answers) for each in questions])


def asked(rows: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[Asked]:
    """Questions with a passage of chance that is not theirs, always the same."""
    chance = random.Random(0)
    passages = list(dict.fromkeys(passage for _, passage, _ in rows))
    found = []
    for question, passage, answers in rows:
        other = chance.choice(passages)
        if other == passage:
            other = passages[passages.index(passage) - 1]
        found.append(Asked(question, passage, answers, other))
    return found


def spread(rows: Sequence[Asked], limit: int) -> list[Asked]:
    """At most `limit`, evenly over them all; 0: all."""
    if not limit or len(rows) <= limit:
        return list(rows)
    return [rows[place * len(rows) // limit] for place in range(limit)]


def calibrate_reader(reader: "LocalReader", rows: Sequence[Asked], progress: "Progress") -> dict[str, float]:
    """Slope and offset that make margins probabilities."""
    from cairn.evaluation.calibration import fit_logistic
    from cairn.evaluation.retrieval import answer_f1

    margins, is_right = [], []
    with progress.task("calibrating", len(rows)) as task:
        for row in rows:
            for passage in (row.passage, row.other):
                for best in reader.candidates(row.question, [passage]):
                    said = passage[best.start : best.end]
                    margins.append([best.margin])
                    is_right.append(passage == row.passage and answer_f1(said, row.answers) >= _RIGHT)
            task.advance()
    slope, offset = fit_logistic(margins, is_right)
    return {"slope": float(slope), "offset": float(offset)}


def score_reader(reader: "LocalReader", rows: Sequence[Asked], progress: "Progress") -> dict[str, float]:
    """Exact match and F1 with the right passage, and how well its confidence tells that from another one."""
    from cairn.evaluation.calibration import calibration_error, roc_auc
    from cairn.evaluation.retrieval import answer_f1, exact_match

    f1, exact, here, elsewhere, is_right = 0.0, 0.0, [], [], []
    with progress.task("scoring", len(rows)) as task:
        for row in rows:
            spans = reader.read(row.question, [row.passage])
            said = spans[0].text if spans else ""
            f1 += answer_f1(said, row.answers)
            exact += exact_match(said, row.answers)
            here.append(spans[0].confidence if spans else 0.0)
            is_right.append(answer_f1(said, row.answers) >= _RIGHT)
            others = reader.read(row.question, [row.other])
            elsewhere.append(others[0].confidence if others else 0.0)
            task.advance()
    return {
        "questions": len(rows),
        "f1": 100 * f1 / len(rows),
        "exact": 100 * exact / len(rows),
        "no_answer_auc": roc_auc(here, elsewhere),
        "calibration_error": calibration_error(here + elsewhere, is_right + [False] * len(elsewhere)),
    }


def calibrate_reranker(
    reranker: "LocalReranker", rows: Sequence[Asked], progress: "Progress"
) -> dict[str, float]:
    """Weights and offset that make the features of a pair a logit."""
    import numpy as np

    from cairn.evaluation.calibration import fit_logistic
    from cairn.providers.heads import meetings

    passages = list(dict.fromkeys(row.passage for row in rows))
    read = dict(zip(passages, reranker.rows(passages), strict=True))
    features, is_right = [], []
    with progress.task("calibrating", len(rows)) as task:
        for row, query in zip(rows, reranker.rows([row.question for row in rows]), strict=True):
            found = meetings(query, list(read.values()))
            near = np.argsort(-found.sum(1), kind="stable")[: _OTHERS + 1]
            right = passages.index(row.passage)
            for place in {right, *near.tolist()}:
                features.append(found[place])
                is_right.append(place == right)
            task.advance()
    meeting, mean, offset = fit_logistic(features, is_right)
    return {"meeting_weight": float(meeting), "mean_weight": float(mean), "offset": float(offset)}


def score_reranker(reranker: "LocalReranker", rows: Sequence[Asked]) -> dict[str, float]:
    """How often, and how far up, the right passage stands among all held-out ones of the set."""
    import numpy as np

    passages = list(dict.fromkeys(row.passage for row in rows))
    read = reranker.rows(passages)
    ranks = []
    for row, query in zip(rows, reranker.rows([row.question for row in rows]), strict=True):
        scores = reranker.score_rows(query, read)
        ranks.append(1 + int((scores > scores[passages.index(row.passage)]).sum()))
    places = np.array(ranks)
    return {
        "questions": len(rows),
        "passages": len(passages),
        "recall_at_1": float((places == 1).mean()),
        "mrr": float((1 / places).mean()),
    }


def score_rows(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """What was measured, in words, with its value; for card and report."""
    words = {
        "f1": ("F1", ".1f"),
        "exact": ("exact match", ".1f"),
        "no_answer_auc": ("telling no answer, ROC AUC", ".3f"),
        "calibration_error": ("calibration error", ".3f"),
        "recall_at_1": ("recall@1", ".3f"),
        "mrr": ("MRR", ".3f"),
    }
    return [
        (f"{name}, held out: {words[key][0]}", f"{value:{words[key][1]}}")
        for name, values in scores.items()
        for key in words
        if (value := values.get(key)) is not None
    ]


STAGE = Stage(name="judge", version=1, needs=("examples", "train"), config=_config, run=_run)
