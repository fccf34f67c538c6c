"""Wall time of `cairn --help`, a whole process each: id `cli.help`. The median of many runs."""

import argparse
import statistics
import subprocess
import time

from benchmarks.record import record
from benchmarks.server.running import CAIRN

BAR_MS = 300.0


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="print only, record nothing")
    options = parser.parse_args()
    once()  # compiles the bytecode
    times = [once() for _ in range(options.runs)]
    median = statistics.median(times)
    print(f"cairn --help: median {median:.0f} ms, from {min(times):.0f} to {max(times):.0f}")
    if not options.smoke:
        record(
            "cli",
            "cli.help",
            what=f"`cairn --help`, a whole process, median of {options.runs} runs",
            unit="ms",
            cairn=median,
            higher_is_better=False,
            bar=BAR_MS,
            command="python -m benchmarks.server.help",
            packages=("typer",),
        )


def once() -> float:
    """Milliseconds of one run."""
    started = time.perf_counter()
    subprocess.run([CAIRN, "--help"], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
