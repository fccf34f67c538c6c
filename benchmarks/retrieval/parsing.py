"""Pages a second of PDF against the readers of LangChain and LlamaIndex, and memory over 2,000 pages.

The same files (`pdf-samples`, those that open without a password), one process each, in turn, medians; the
time is from the first byte read to the last page, without interpreter start and imports. The peers give the
bare text of a page; Cairn also finds headings, lists, tables, reading order and what is wrong with a page.
They are installed with pip into an environment of their own. CAIRN_MIRROR serves the files offline.

The long file repeats the longest sample. Memory is the largest resident size of the process that parses it,
the whole document in memory at the end, against the same for a tenth of the pages.

    python -m benchmarks.retrieval.parsing [--runs 3] [--smoke] [--no-record]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pypdfium2 as pdfium
from benchmarks.peer_environment import peer_python, peer_versions
from benchmarks.record import ROOT, in_turn, record

from cairn.core import console_progress
from cairn.data import get_dataset
from cairn.data.parsing import parse_file

PEERS = ("langchain-community", "llama-index-readers-file", "pypdf==7.1.0")
PEER_STEPS = Path(__file__).parent / "peer" / "pdf_readers.py"
NAMES = {"langchain": "LangChain PyPDFLoader", "llamaindex": "LlamaIndex PDFReader"}
COMMAND = "python -m benchmarks.retrieval.parsing"
LONGEST = "GeoTopo-komprimiert.pdf"
MANY_PAGES = 2_000
FLAT_BAR = 2.0
"""At most so many times the memory for ten times the pages."""


def parse(paths: list[Path]) -> None:
    """Cairn's half; runs in a process of its own and prints one JSON line."""
    started = time.perf_counter()
    num_pages = sum(len(parse_file(path).pages) for path in paths)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "pages": num_pages, "peak_bytes": peak}))


def run(command: list[str]) -> dict[str, float]:
    """What a contestant said last."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed:\n{done.stderr[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def cairn_command(paths: list[Path]) -> list[str]:
    """The command of Cairn's half."""
    return [sys.executable, "-m", "benchmarks.retrieval.parsing", "--parse", *map(str, paths)]


def speed(command: list[str]) -> float:
    """Pages a second of a contestant."""
    said = run(command)
    return said["pages"] / said["seconds"]


def readable(folder: Path) -> list[Path]:
    """The samples that open, smallest first."""
    found = []
    for path in sorted(folder.rglob("*.pdf"), key=lambda path: path.stat().st_size):
        try:
            pdfium.PdfDocument(path).close()
        except pdfium.PdfiumError:
            continue
        found.append(path)
    return found


def repeat(source: Path, num_pages: int, target: Path) -> Path:
    """A file of so many pages of another one, over and over."""
    with pdfium.PdfDocument(source) as original, pdfium.PdfDocument.new() as long:
        length = len(original)
        while (left := num_pages - len(long)) > 0:
            long.import_pages(original, list(range(min(left, length))))
        long.save(target)
    return target


def compare(paths: list[Path], work: Path, runs: int, *, is_recorded: bool) -> None:
    """Pages a second beside both peers."""
    python = peer_python(work / "peers", PEERS)
    steps = {name: [python, str(PEER_STEPS), name, *map(str, paths)] for name in NAMES}
    speeds = in_turn(runs, *(partial(speed, command) for command in (cairn_command(paths), *steps.values())))
    for (name, peer), peer_speed in zip(NAMES.items(), speeds[1:], strict=True):
        print(f"pages/s: Cairn {speeds[0]:.1f}, {peer} {peer_speed:.1f}, {speeds[0] / peer_speed:.1f} times")
        if is_recorded:
            record(
                "retrieval",
                f"parsing.pdf.vs_{name}",
                what=f"PDF to text, {len(paths)} sample files; Cairn with structure and confidence",
                unit="pages/s",
                cairn=speeds[0],
                peer=peer,
                peer_value=peer_speed,
                bar=1.0,
                command=COMMAND,
                packages=("pypdfium2",),
                versions=peer_versions(python, PEERS),
            )


def measure_memory(source: Path, work: Path, num_pages: int, *, is_recorded: bool) -> None:
    """Peak memory of a long file, beside that of a tenth of it."""
    short, long = (
        run(cairn_command([repeat(source, count, work / f"{count}.pdf")]))
        for count in (num_pages // 10, num_pages)
    )
    growth = long["peak_bytes"] / short["peak_bytes"]
    peaks = " and ".join(f"{said['peak_bytes'] / 2**20:.0f} MiB" for said in (short, long))
    print(f"peak memory of {num_pages // 10:,} and {num_pages:,} pages: {peaks}, {growth:.2f} times")
    print(f"{long['pages'] / long['seconds']:.1f} pages/s")
    if is_recorded:
        record(
            "retrieval",
            "parsing.memory.2000pages",
            what=f"peak memory of a PDF of 2,000 pages over that of 200 ({peaks})",
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
    parser.add_argument(
        "--smoke", action="store_true", help="a few small files, 50 pages, no peers, no record"
    )
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    parser.add_argument("--parse", nargs="+", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.parse:
        parse(args.parse)
        return
    paths = readable(get_dataset("pdf-samples", progress=console_progress()).folder)
    source = next(path for path in paths if path.name == LONGEST)
    with tempfile.TemporaryDirectory() as folder:
        if args.smoke:
            print(f"{speed(cairn_command(paths[:8])):.1f} pages/s")
            measure_memory(paths[0], Path(folder), 50, is_recorded=False)
            return
        is_recorded = not args.no_record
        measure_memory(source, Path(folder), MANY_PAGES, is_recorded=is_recorded)
        compare(paths, Path(folder), args.runs, is_recorded=is_recorded)


if __name__ == "__main__":
    main()
