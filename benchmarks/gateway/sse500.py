"""Whether 500 streams at 20 events a second each reach their readers: id `gateway.sse500`.

A mock upstream, `cairn up` with one route to it and the readers, each in a process of its own, share the
machine's cores. A stream is starved when its reader waits longer than the bar for the next event, at any time
from the first stream's begin to the last one's end. An event that is lost, out of order or an error
ends the benchmark. Each event says when it was sent, so that what the gateway adds is known too.

    python -m benchmarks.gateway.sse500 [--streams 500] [--seconds 30] [--rounds 3] [--no-record]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from benchmarks.gateway.overhead import memory_of, process
from benchmarks.gateway.streams import Seen
from benchmarks.record import record
from benchmarks.server.running import CAIRN, Running, running, wait_for

PORT = 18104
RATE = 20
"""Events a second of each stream."""
BAR_MS = 250.0
"""The longest that a reader may wait for the next event, five times the upstream's pace."""


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds; CPU in cores."""

    gap_p50: float
    gap_p99: float
    gap_max: float
    delay_p50: float
    delay_p99: float
    gateway_cores: float
    reader_cores: float

    def __str__(self) -> str:
        return (
            f"gap p50 {self.gap_p50:.1f}, p99 {self.gap_p99:.1f}, max {self.gap_max:.1f} ms; delay p50 "
            f"{self.delay_p50:.1f}, p99 {self.delay_p99:.1f} ms; cores: gateway {self.gateway_cores:.2f}, "
            f"readers {self.reader_cores:.2f}"
        )


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    num_events = int(options.seconds * RATE)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = [sys.executable, "-m", "benchmarks.gateway.mock_streams", str(PORT), str(RATE)]
        stack.enter_context(process(mock))
        (home / "routes.toml").write_text(
            f'[providers.mock]\nbase_url = "http://127.0.0.1:{PORT}/v1"\n'
            f"max_connections = {options.streams}\n"
            '[routes.mock]\ntargets = [{ provider = "mock", model = "mock" }]\n'
        )
        server = stack.enter_context(running([CAIRN, "up", "--port", "0"], home=home))
        wait_for(f"{server.url}/readyz")
        key = subprocess.check_output(
            [CAIRN, "key", "create", "admin"], env={**os.environ, "CAIRN_HOME": str(home)}, text=True
        ).strip()
        measure(server, key, 10, RATE)  # warms up
        before = memory_of(server.pid)
        rounds = []
        for _ in range(options.rounds):
            rounds.append(measure(server, key, options.streams, num_events))
            print(rounds[-1], flush=True)
        print(f"memory {(memory_of(server.pid) - before) / 1e6:+.1f} MB")
    if not options.no_record:
        write_record(rounds, options.streams, options.seconds)


def measure(server: Running, key: str, num_streams: int, num_events: int) -> Round:
    """One round; whatever is lost, late in order or refused ends it."""
    port = server.url.rsplit(":", 1)[1]
    gateway = psutil.Process(server.pid)
    cpu_before = sum(gateway.cpu_times()[:2])
    readers = [
        sys.executable,
        "-m",
        "benchmarks.gateway.streams",
        port,
        key,
        str(num_streams),
        str(num_events),
    ]
    started = time.monotonic()
    seen = Seen(**json.loads(subprocess.check_output(readers)))
    seconds = time.monotonic() - started
    if seen.faults or seen.num_whole != num_streams or seen.num_events != num_streams * num_events:
        raise SystemExit(
            f"{seen.num_whole} of {num_streams} streams whole, {seen.num_events} of "
            f"{num_streams * num_events} events; {len(seen.faults)} faults: {seen.faults[:5]}"
        )
    gaps, delays = sorted(seen.gaps), sorted(seen.delays)
    return Round(
        gap_p50=1000 * statistics.median(gaps),
        gap_p99=1000 * gaps[int(0.99 * len(gaps))],
        gap_max=1000 * max(seen.largest),
        delay_p50=1000 * statistics.median(delays),
        delay_p99=1000 * delays[int(0.99 * len(delays))],
        gateway_cores=(sum(gateway.cpu_times()[:2]) - cpu_before) / seconds,
        reader_cores=seen.cpu_seconds / seconds,
    )


def write_record(rounds: list[Round], num_streams: int, seconds: float) -> None:
    """The largest gap of the median round, with what else was measured in it."""
    found = sorted(rounds, key=lambda each: each.gap_max)[len(rounds) // 2]
    record(
        "gateway",
        "gateway.sse500",
        what=f"largest gap between two events of any of {num_streams} streams at {RATE} events/s, none lost "
        f"or out of order (p50 {found.gap_p50:.0f}, p99 {found.gap_p99:.0f} ms; through the gateway in "
        f"{found.delay_p50:.1f} ms, p99 {found.delay_p99:.0f}; {found.gateway_cores:.2f} cores)",
        unit="ms",
        cairn=found.gap_max,
        higher_is_better=False,
        bar=BAR_MS,
        command=f"python -m benchmarks.gateway.sse500 --streams {num_streams} --seconds {seconds:g} "
        f"--rounds {len(rounds)}",
        packages=("fastapi", "uvicorn", "uvloop", "httptools"),
    )


if __name__ == "__main__":
    main()
