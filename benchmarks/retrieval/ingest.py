"""200 files into a collection, beside LlamaIndex and LangChain with Chroma: pages a second and memory.

The files: 50 PDFs of four pages of `classic-books` (fpdf2), the 15 smallest of `pdf-samples`, pages of
`handbook-18f` as Markdown (45), HTML (30) and Word (30, python-docx), 15 CSV files of `azure-llm-trace`, 15
modules of Python's `email`. A file without pages counts as one. All use all-MiniLM-L6-v2 from the same files;
peers run in an environment of their own, each as its documentation does (`peer/ingest.py`), in turn with
Cairn. The clock runs from the first file to the last one stored and searchable, the model being loaded. Cairn
also finds headings, tables and reading order, judges each page, and indexes the words. Memory is that of all
processes together.

The long PDF has 2,000 pages of `classic-books`, no two alike; its memory is held against that of 200.

    python -m benchmarks.retrieval.ingest [--runs 3] [--only speed|memory] [--python PATH] [--no-record]

CAIRN_MIRROR serves the sources offline. `--python` names an interpreter that has the peers already.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.peer_environment import peer_python, peer_versions
from benchmarks.process_tree import Watched, run_watched
from benchmarks.record import ROOT, in_turn, record

from cairn.core import Settings, console_progress
from cairn.data import get_dataset
from cairn.providers.knowledge import Library
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.ingest import IncomingFile, ingest

PEERS = {
    "llamaindex": "LlamaIndex with Chroma",
    "langchain": "LangChain with Chroma",
}
PACKAGES = (
    "torch==2.13.0+cpu",
    "chromadb",
    "llama-index-core",
    "llama-index-readers-file",
    "llama-index-vector-stores-chroma",
    "llama-index-embeddings-huggingface",
    "langchain-community",
    "langchain-chroma",
    "langchain-huggingface",
    "langchain-text-splitters",
    "sentence-transformers",
    "pypdf",
    "docx2txt",
    "beautifulsoup4",
    "lxml",
    "fpdf2",
    "python-docx",
    "markdown",
)
STEPS = Path(__file__).parent / "peer"
COMMAND = "python -m benchmarks.retrieval.ingest"
SPEED_BAR, FLAT_BAR = 2.0, 1.25
LONG, SHORT = 2_000, 200


def put(folder: Path, home: Path) -> None:
    """Cairn's half; runs in a process of its own and prints one JSON line."""
    with Registry.open(Settings(home=home)) as registry, Library(registry) as library:
        create_collection(registry, "bench", owner="bench")
        collection = library.collection("bench")
        collection.encoders.embedder.embed(["a text"])
        started = time.perf_counter()
        files = [
            IncomingFile(path=path, source=path.name, size=path.stat().st_size)
            for path in sorted(folder.iterdir())
        ]
        report = ingest(collection, files, parsers=library.parsers)
        collection.index().flush()
        seconds = time.perf_counter() - started
        assert not report.failed
        print(json.dumps({"seconds": seconds, "chunks": collection.stats().num_chunks}))


def by_cairn(folder: Path) -> Watched:
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "benchmarks.retrieval.ingest", "--put", str(folder), home]
        return run_watched(command, ROOT)


def by_peer(name: str, python: str, folder: Path) -> Watched:
    model = packaged_folder()
    with tempfile.TemporaryDirectory() as store:
        command = [python, str(STEPS / "ingest.py"), name, str(folder), str(model), store]
        return run_watched(command, ROOT)


def make(python: str, *args: object) -> dict[str, int]:
    """Documents, and how many files and pages there are."""
    command = [python, str(STEPS / "make_documents.py"), *map(str, args)]
    counts: dict[str, int] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    return counts


def source(name: str) -> Path:
    return get_dataset(name, progress=console_progress()).folder


def compare(python: str, work: Path, runs: int, *, is_recorded: bool) -> None:
    """Pages a second and memory beside both peers."""
    folder = work / "mixed"
    sets = (source(name) for name in ("handbook-18f", "classic-books", "pdf-samples", "azure-llm-trace"))
    counts = make(python, "mixed", *sets, folder)
    print(counts)
    contestants = {"cairn": partial(by_cairn, folder)}
    contestants |= {name: partial(by_peer, name, python, folder) for name in PEERS}
    peaks = dict.fromkeys(contestants, 0)

    def speed(name: str) -> float:
        done = contestants[name]()
        peaks[name] = max(peaks[name], done.peak_bytes)
        print(f"{name}: {done.said}, {done.peak_bytes >> 20} MiB", flush=True)
        return counts["pages"] / float(done.said["seconds"])

    speeds = dict(
        zip(contestants, in_turn(runs, *(partial(speed, name) for name in contestants)), strict=True)
    )
    for name, peer in PEERS.items():
        memory = f"{peaks['cairn'] >> 20} MiB against {peaks[name] >> 20} MiB"
        print(f"{peer}: {speeds['cairn']:.2f} and {speeds[name]:.2f} pages/s, peak memory {memory}")
        if is_recorded:
            record(
                "retrieval",
                f"ingest.200docs.vs_{name}",
                what=f"{counts['files']} files into a searchable collection; peak memory {memory}",
                unit="pages/s",
                cairn=speeds["cairn"],
                peer=peer,
                peer_value=speeds[name],
                bar=SPEED_BAR,
                command=COMMAND,
                packages=("pypdfium2", "numpy"),
                versions=peer_versions(python, PACKAGES),
            )


def measure_memory(python: str, work: Path, *, is_recorded: bool) -> None:
    """Peak memory of a long PDF on its way in, beside that of a tenth of it."""
    books = source("classic-books")
    peaks = []
    for count in (SHORT, LONG):
        folder = work / str(count)
        folder.mkdir()
        make(python, "long", books, count, folder / "book.pdf")
        done = by_cairn(folder)
        print(f"{count} pages: {done.said}, {done.peak_bytes >> 20} MiB", flush=True)
        peaks.append(done.peak_bytes)
    growth = peaks[1] / peaks[0]
    both = " and ".join(f"{each >> 20} MiB" for each in peaks)
    print(f"peak memory of {SHORT} and {LONG:,} pages: {both}, {growth:.2f} times")
    if is_recorded:
        record(
            "retrieval",
            "ingest.memory.2000pages",
            what=f"peak memory of all processes over a PDF of 2,000 pages over that of 200 ({both})",
            unit="times",
            cairn=growth,
            higher_is_better=False,
            bar=FLAT_BAR,
            command=COMMAND,
            packages=("pypdfium2",),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "memory"])
    parser.add_argument("--python", help="an interpreter that has the peers")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    parser.add_argument("--put", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.put:
        put(*args.put)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        python = args.python or peer_python(work / "peers", PACKAGES)
        if args.only != "memory":
            compare(python, work, args.runs, is_recorded=not args.no_record)
        if args.only != "speed":
            measure_memory(python, work, is_recorded=not args.no_record)


if __name__ == "__main__":
    main()
