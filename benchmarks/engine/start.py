"""From the start of a process to its first token, 0.42 B int4, packed before, files in the page cache: id
`engine.start.420m`.

Shapes and random weights as in `benchmarks.engine.decode`. A fresh interpreter imports the engine, maps the
packed weights, makes the key-value cache and answers a prompt of 16 tokens; what counts is the
time from its creation to its first token, the interpreter and the imports included. Median.

    python -m benchmarks.engine.start [--rounds 7] [--threads 2] [--shape 420m] [--no-record]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import record

from cairn.engine.native_weights import pack_checkpoint
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

BAR_SECONDS = 1.0
CHILD = """
import sys, time
from pathlib import Path
from cairn.core.chat import SamplingParams
from cairn.engine import Engine, NativeRunner, Request
imported = time.time()
folder, packed, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
runner = NativeRunner(folder, weights="int4", packed=packed, num_threads=threads)
engine = Engine(runner)
loaded = time.time()
engine.add_request(Request("a", tuple(range(1, 17)), SamplingParams(max_tokens=1, temperature=0)))
while not engine.step():
    pass
print(imported, loaded, time.time())
"""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="420m")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, packed = Path(name), Path(name) / "packed"
        packed.mkdir()
        write_random_checkpoint(folder, SHAPES[options.shape])
        pack_checkpoint(folder, "int4", packed)
        start(folder, packed, options.threads)  # fills the page cache
        rounds = [start(folder, packed, options.threads) for _ in range(options.rounds)]
    importing, loading, first_token, whole = (statistics.median(part) for part in zip(*rounds, strict=True))
    print(
        f"{options.shape} int4: first token after {whole:.2f} s: interpreter and imports {importing:.2f}, "
        f"weights and cache {loading:.2f}, prompt {first_token:.2f} "
        f"(best {min(each[3] for each in rounds):.2f}, worst {max(each[3] for each in rounds):.2f})"
    )
    if not options.no_record and options.shape == "420m":
        record(
            "engine",
            "engine.start.420m",
            what="Process start to first token, 0.42 B Llama shape, int4 packed, warm page cache, "
            f"{options.threads} threads, interpreter and imports included",
            unit="s",
            cairn=whole,
            higher_is_better=False,
            bar=BAR_SECONDS,
            command=f"python -m benchmarks.engine.start --rounds {options.rounds}"
            f" --threads {options.threads}",
            packages=("numpy",),
        )


def start(folder: Path, packed: Path, threads: int) -> tuple[float, float, float, float]:
    """Seconds of importing, loading, and the first token, and all of them, of one new process."""
    command = [sys.executable, "-c", CHILD, str(folder), str(packed), str(threads)]
    started = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported, loaded, ended = map(float, done.stdout.split())
    return imported - started, loaded - imported, ended - loaded, ended - started


if __name__ == "__main__":
    main()
