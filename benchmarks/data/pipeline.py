"""Clean, remove near duplicates, tokenise and pack `classic-books`: Cairn against datatrove.

Same machine, same JSON Lines, same tokenizer file, same MinHash shape (5-grams, 14 bands of 8), two
processes each, in turn, medians. Cleaning is what both do: encoding repair, NFC, control characters.
Time is from the first byte read to the last byte written, without interpreter start and imports; memory is
the largest sum of proportional set sizes over the process tree, sampled. datatrove is installed with
pip into an environment of its own. CAIRN_MIRROR serves the books offline.

    python -m benchmarks.data.pipeline [--runs 3] [--smoke]
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.peer_environment import peer_python, peer_versions
from benchmarks.process_tree import run_watched
from benchmarks.record import ROOT, record

from cairn.core import console_progress
from cairn.data import (
    CleanConfig,
    PipelineConfig,
    Tokenizer,
    document_examples,
    get_dataset,
    read_documents,
    run_pipeline,
    write_shards,
)

PEER = ("datatrove[io,processing]==0.10.1", "spacy==3.8.18")
PEER_STEPS = Path(__file__).parent / "peer" / "datatrove_steps.py"
WORKERS = 2
VOCAB_SIZE = 16_384


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one contestant."""

    seconds: float
    tokens: int
    peak_bytes: int


def cairn_steps(corpus: Path, tokenizer_folder: Path, work: Path) -> None:
    """Cairn's half; runs in a process of its own and prints one JSON line."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    started = time.perf_counter()
    config = PipelineConfig(
        clean=CleanConfig(frames=False, unwrap=False, whitespace=False),
        quality=None,
        exact=None,
        workers=WORKERS,
    )
    documents = run_pipeline(read_documents(corpus), config)
    index = write_shards(
        document_examples(tokenizer, documents), work / "shards", vocab_size=tokenizer.vocab_size
    )
    print(json.dumps({"seconds": time.perf_counter() - started, "tokens": index.num_tokens}))


def measured(command: list[str]) -> Measured:
    """Run a contestant and watch the memory of it and its children."""
    done = run_watched(command, ROOT)
    return Measured(done.said["seconds"], done.said["tokens"], done.peak_bytes)


def prepare(work: Path, limit: int | None) -> tuple[Path, Path, int]:
    """The corpus as JSON Lines in one file a process, a tokenizer learned from it, and its bytes of text."""
    books = get_dataset("classic-books", progress=console_progress()).folder
    documents = list(islice(read_documents(books), limit))
    corpus = work / "corpus"
    corpus.mkdir()
    for part in range(WORKERS):
        with (corpus / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for place, document in enumerate(documents[part::WORKERS]):
                row = {"text": document.text, "id": f"{part}-{place}"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    tokenizer = Tokenizer.train((document.text for document in documents), vocab_size=VOCAB_SIZE)
    tokenizer.save(work / "tokenizer")
    return corpus, work / "tokenizer", sum(len(document.text.encode()) for document in documents)


def contest(work: Path, corpus: Path, tokenizer: Path, python: str) -> tuple[Measured, Measured]:
    """One round: Cairn, then datatrove, each into an empty folder."""
    commands = (
        [sys.executable, "-m", "benchmarks.data.pipeline", "--contestant", str(corpus), str(tokenizer)],
        [python, str(PEER_STEPS), str(corpus), str(tokenizer / "tokenizer.json")],
    )
    results = []
    for command in commands:
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        results.append(measured([*command, str(out), *([str(WORKERS)] if command[0] == python else [])]))
    return results[0], results[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="ten books, one run, nothing recorded")
    parser.add_argument("--peer-venv", type=Path, default=Path(tempfile.gettempdir()) / "datatrove-venv")
    parser.add_argument("--contestant", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return cairn_steps(*arguments.contestant)
    python = peer_python(arguments.peer_venv, PEER)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus, tokenizer, num_bytes = prepare(work, 10 if arguments.smoke else None)
        rounds = [
            contest(work, corpus, tokenizer, python) for _ in range(1 if arguments.smoke else arguments.runs)
        ]
    ours, theirs = ([each[side] for each in rounds] for side in (0, 1))
    speeds = [statistics.median(num_bytes / 1e6 / each.seconds for each in side) for side in (ours, theirs)]
    peaks = [statistics.median(each.peak_bytes / 1e6 for each in side) for side in (ours, theirs)]
    print(f"{num_bytes / 1e6:.1f} MB, {ours[0].tokens:,} tokens (datatrove {theirs[0].tokens:,})")
    print(f"Cairn {speeds[0]:.2f} MB/s, {peaks[0]:.0f} MB; datatrove {speeds[1]:.2f} MB/s, {peaks[1]:.0f} MB")
    if not arguments.smoke:
        write_records(speeds, peaks, peer_versions(python, PEER))
    return None


def write_records(speeds: list[float], peaks: list[float], versions: dict[str, str]) -> None:
    """Medians of (Cairn, datatrove): MB/s of text, and MB of memory."""
    command = "python -m benchmarks.data.pipeline"
    packages = ("numpy", "tokenizers", "rensa")
    record(
        "data",
        "data.pipeline.vs_datatrove",
        what="Clean, near-duplicate removal, tokenise and pack of 134 books (26 MB)",
        unit="MB/s",
        cairn=speeds[0],
        peer="datatrove",
        peer_value=speeds[1],
        bar=2,
        command=command,
        packages=packages,
        versions=versions,
    )
    record(
        "data",
        "data.pipeline.memory",
        what="Peak memory, all processes: clean, near-duplicate removal, tokenise and pack of 134 books",
        unit="MB",
        cairn=peaks[0],
        peer="datatrove",
        peer_value=peaks[1],
        higher_is_better=False,
        command=command,
        packages=packages,
        versions=versions,
    )


if __name__ == "__main__":
    main()
