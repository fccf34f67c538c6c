"""A tenant beside a flood, in simulated time: 99th percentile of the time to its first token, and the bounds.

The requests are those of Azure's trace of 2023 (Splitwise, Patel et al. 2024). One tenant's first 150
conversations are stretched in time until they keep the machine busy for a given share; another tenant sends
three times what the machine can do, of code or of conversations. The scheduler is the engine's own; a step
of n tokens takes `per_step + n * per_token` seconds.

Beside it stands what an even half would give: the tenant alone on a machine of half the speed, which is
what an order that shares evenly at every moment comes to at best. And what the flood's own requests got.

    python -m benchmarks.engine.flood [--loads 0.1,0.2,0.3,0.4,0.5] [--machine cpu] [--num 150] [--no-record]
"""

import argparse
import sys
from dataclasses import replace

from benchmarks.record import record
from tests.engine.simulation import (
    CPU,
    GPU,
    Arrival,
    Machine,
    at_load,
    azure_trace,
    first_token_seconds,
    make_scheduler,
    percentile,
)

from cairn.engine.scheduler import Scheduler

BAR = 2.0
"""Times the quiet value that a flood may make it."""


def _p99(arrivals: list[Arrival], machine: Machine, fair_chunk: int) -> float:
    seconds = first_token_seconds(arrivals, "victim", _scheduler(fair_chunk), machine)
    return percentile(seconds, 0.99)


def _scheduler(fair_chunk: int) -> Scheduler:
    return make_scheduler(fair_chunk=fair_chunk)


def measure(load: float, machine: Machine, num: int) -> tuple[float, float, float, float]:
    """Quiet, on half the machine, beside code, beside conversations."""
    fair_chunk = 256 if machine is GPU else 32
    conversations, code = azure_trace("conv"), azure_trace("code")
    victim = [replace(each, tenant="victim") for each in at_load(conversations[:num], load, machine)]
    half = Machine(2 * machine.per_step, 2 * machine.per_token)
    end = 1.3 * victim[-1].seconds
    floods = [
        [replace(each, tenant="flood") for each in at_load(flood, 3.0, machine) if each.seconds < end]
        for flood in (code, conversations[num:])
    ]
    beside = [_p99([*victim, *flood], machine, fair_chunk) for flood in floods]
    return _p99(victim, machine, fair_chunk), _p99(victim, half, fair_chunk), beside[0], beside[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loads", default="0.1,0.2,0.3,0.4,0.5")
    parser.add_argument("--machine", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--num", type=int, default=150)
    parser.add_argument("--no-record", action="store_true")
    args = parser.parse_args()
    machine = GPU if args.machine == "gpu" else CPU
    worst = 0.0
    for load in map(float, args.loads.split(",")):
        quiet, *others = measure(load, machine, args.num)
        worst = max(worst, *(value / quiet for value in others[1:]))
        cells = [f"{value:.2f} ({value / quiet:.1f})" for value in others]
        print(f"| {load} | {quiet:.2f} | {' | '.join(cells)} |", flush=True)
    if not args.no_record:
        record(
            "engine",
            f"engine.flood.{args.machine}.ttft_p99",
            what="p99 first token of a tenant beside a flood, over its quiet value, the worst of "
            f"loads {args.loads} (simulated, Azure's trace)",
            unit="times",
            depends_on_machine=False,
            cairn=worst,
            higher_is_better=False,
            bar=BAR,
            command=f"python -m benchmarks.engine.flood {' '.join(sys.argv[1:])}".strip(),
        )


if __name__ == "__main__":
    main()
