"""`cairn up` to ready: id `cli.up`. From the process's start until `/readyz` says 200, the starter loaded.

The home has been used once before (the first start, which makes the database, is printed too). Median.

    python -m benchmarks.server.up [--rounds 7] [--no-record]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.record import record
from benchmarks.server.running import CAIRN, running, wait_for

BAR_SECONDS = 2.0


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = seconds_to_ready(Path(folder))
        later = [seconds_to_ready(Path(folder)) for _ in range(options.rounds)]
    median = statistics.median(later)
    print(f"ready after {median:.2f} s (best {min(later):.2f}, worst {max(later):.2f}), first {first:.2f} s")
    if not options.no_record:
        record(
            "cli",
            "cli.up",
            what="`cairn up` from the process's start to /readyz answering 200 with the starter loaded",
            unit="s",
            cairn=median,
            higher_is_better=False,
            bar=BAR_SECONDS,
            command=f"python -m benchmarks.server.up --rounds {options.rounds}",
            packages=("fastapi", "uvicorn", "sqlalchemy", "numpy"),
        )


def seconds_to_ready(home: Path) -> float:
    """One start."""
    started = time.perf_counter()
    with running([CAIRN, "up", "--port", "0"], home=home) as server:
        wait_for(f"{server.url}/readyz")
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
