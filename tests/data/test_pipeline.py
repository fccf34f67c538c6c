"""The pipeline end to end: what stays, what the report says, workers, and bounded memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cairn.core import StorageError
from cairn.data import (
    Document,
    EvaluationIndex,
    PackedDataset,
    PipelineConfig,
    PipelineReport,
    Source,
    Tokenizer,
    clean_to_file,
    document_examples,
    read_documents,
    run_pipeline,
    write_shards,
)
from cairn.data.decontamination import DecontaminateConfig
from cairn.data.pipeline import STEPS
from tests.data.test_duplicates import QUESTION, changed
from tests.data.test_quality import PROSE

GERMAN = """Der Leuchtturmwärter stieg an diesem Abend mit einer Lampe in der Hand die Treppe hinauf. Unten
begann das Meer gegen die Felsen zu steigen. Er zählte die Schiffe: Es waren drei, eines hatte seinen Mast
verloren. Niemand im Dorf glaubte vor Oktober an Stürme. Man flickte Netze und sprach über die Wolle."""


def prose(seed: int) -> str:
    """A text of its own with the manners of prose."""
    rng = np.random.default_rng(seed)
    words = PROSE.replace("\n", " ").split()
    order = rng.permutation(len(words)).tolist()
    return " ".join(words[i] for i in order)


def corpus() -> list[Document]:
    texts = {
        "plain": PROSE,
        "broken": prose(1) + " donâ€™t  ",
        "again": PROSE.upper(),
        "near": changed(np.random.default_rng(0), PROSE.replace("\n", " "), 1),
        "german": GERMAN,
        "short": "Too short.",
        "empty": " \n ",
        "dirty": prose(2) + "\n\n" + QUESTION + "\n\n" + prose(3),
    }
    return [Document(text, Source(name), {"name": name}) for name, text in texts.items()]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_stays_and_why(workers: int) -> None:
    report = PipelineReport()
    config = PipelineConfig(languages=("en",), workers=workers)
    kept = {
        document.source.path: document
        for document in run_pipeline(
            corpus(), config, evaluation=EvaluationIndex({"gsm8k": [QUESTION]}), report=report
        )
    }
    assert list(kept) == ["plain", "broken", "dirty"]
    assert "don’t" in kept["broken"].text
    assert kept["plain"].metadata == {"name": "plain", "language": "en"}
    assert QUESTION not in kept["dirty"].text
    assert kept["dirty"].text.startswith(prose(2))
    assert {name: dict(step.reasons) for name, step in report.steps.items()} == {
        "clean": {"changed": 2, "empty": 1},
        "quality": {"min_words": 1, "min_stop_words": 1},
        "language": {},
        "exact": {"exact duplicate": 1},
        "near": {"near duplicate": 1},
        "decontaminate": {"hit gsm8k": 1},
    }
    assert report.contaminated == [{"source": "dirty", "hits": {"gsm8k": 8}}]
    assert report.steps["exact"].examples[0]["source"] == "again"
    counts = [(step.num_in, step.num_out) for step in report.steps.values()]
    assert counts == [(8, 7), (7, 5), (5, 5), (5, 4), (4, 3), (3, 3)]
    assert all(step.bytes_in >= step.bytes_out > 0 for step in report.steps.values())
    assert report.to_json()["steps"]["clean"]["num_in"] == 8
    assert report.to_json()["steps"]["near"]["reasons"] == {"near duplicate": 1}


def test_languages() -> None:
    report = PipelineReport()
    config = PipelineConfig(quality=None, languages=("de",))
    assert [document.source.path for document in run_pipeline(corpus(), config, report=report)] == ["german"]
    assert report.steps["language"].reasons["language en"] == 5
    assert list(report.steps) == ["clean", "language", "exact", "near"]


def test_steps_can_be_left_out() -> None:
    config = PipelineConfig(clean=None, quality=None, exact=None, near=None, decontaminate=None)
    report = PipelineReport()
    assert list(run_pipeline(corpus(), config, report=report)) == corpus()
    assert report.steps == {}
    assert set(STEPS) == {"clean", "quality", "language", "exact", "near", "decontaminate"}


def test_contaminated_documents_can_be_dropped() -> None:
    evaluation = EvaluationIndex({"gsm8k": [QUESTION]}, DecontaminateConfig(action="drop"))
    kept = run_pipeline(corpus(), PipelineConfig(quality=None), evaluation=evaluation)
    assert "dirty" not in {document.source.path for document in kept}


def test_clean_to_file(tmp_path: Path) -> None:
    for document in corpus():
        (tmp_path / f"{document.source.path}.txt").write_text(document.text, encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(PROSE.encode() + b"\xff")
    out = tmp_path / "clean.jsonl"
    reading, report = clean_to_file(sorted(tmp_path.glob("*.txt")), out)
    assert reading["num_invalid_utf8"] == 1
    written = list(read_documents(out))
    assert len(written) == report.steps["near"].num_out
    assert written[0].metadata["source"].endswith("again.txt bytes 0-687")
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(StorageError, match="nothing was kept"):
        clean_to_file([out], tmp_path / "none" / "clean.jsonl")


def test_documents_to_shards(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = [Document(PROSE), Document("é 日本 <|im_end|>")]
    index = write_shards(
        document_examples(tokenizer, documents), tmp_path / "out", vocab_size=tokenizer.vocab_size
    )
    dataset = PackedDataset.open(tmp_path / "out")
    assert index.num_bytes == sum(len(document.text.encode()) for document in documents)
    for place, document in enumerate(documents):
        ids = dataset.document(place)[0].tolist()
        assert ids[0] == ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[1:-1]) == document.text


# Streams documents through every step into shards, first a few to fill buffers and caches, then many more.
STREAM = """
import resource, sys
from pathlib import Path
import numpy as np
from cairn.data import *

words = np.array([f"w{i:x}" for i in range(3000)] + ["the", "of", "and", "to"] * 300)

def documents(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield Document(" ".join(words[rng.integers(0, len(words), size=5000)]))

def run(count, folder):
    stream = run_pipeline(documents(count, count), PipelineConfig(quality=None))
    index = write_shards(document_examples(tokenizer, stream), folder, vocab_size=tokenizer.vocab_size)
    return index.num_bytes // 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

tokenizer = Tokenizer.train((document.text for document in documents(2, 0)), vocab_size=4096)
_, before = run(60, Path(sys.argv[1]) / "few")
megabytes, after = run(900, Path(sys.argv[1]) / "many")
print(megabytes, after - before)
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STREAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, growth = map(int, done.stdout.split())
    assert megabytes > 15
    assert growth < megabytes // 4, f"{growth} MiB more for a corpus of {megabytes} MiB"
