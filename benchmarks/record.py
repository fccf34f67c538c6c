"""Benchmark records: one JSON object a number, kept in `benchmarks/results/<area>.json`.

A record replaces the one of the same id on the same machine, so a benchmark can be run again alone. `ratio`
above 1 means Cairn is better, whichever way the unit points. The machine is described, never named.
"""

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_STEADY = 1.2


def record(
    area: str,
    record_id: str,
    *,
    what: str,
    unit: str,
    cairn: float,
    command: str,
    peer: str | None = None,
    peer_value: float | None = None,
    higher_is_better: bool = True,
    bar: float | None = None,
    depends_on_machine: bool = True,
    packages: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    results: Path = RESULTS,
) -> dict[str, Any]:
    """Write one record and return it.

    A number that does not depend on the machine replaces those from all of them.
    `bar` is the least ratio asked for where there is a peer, else a limit on `cairn` itself (at least it
    when higher is better, at most it when not). `packages` are installed distributions whose versions count;
    `versions` adds others (of a peer in its own environment).
    """
    ratio = _ratio(cairn, peer_value, higher_is_better)
    value = {
        "id": record_id,
        "what": what,
        "unit": unit,
        "cairn": _rounded(cairn),
        "peer": peer,
        "peer_value": _rounded(peer_value),
        "ratio": _rounded(ratio),
        "bar": bar,
        "holds": _holds(cairn, ratio, bar, higher_is_better),
        "command": command,
        "versions": {"python": sys.version.split()[0], **_versions(packages), **(versions or {})},
        "machine": machine(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    _store(results / f"{area}.json", value, depends_on_machine)
    return value


def in_turn(runs: int, *contestants: Callable[[], float]) -> list[float]:
    """Each contestant's median over `runs` rounds, measured in turn within every round."""
    rounds = [[contestant() for contestant in contestants] for _ in range(runs)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Medians of contestants over the rounds in which each agreed with itself."""

    medians: list[float]
    num_kept: int
    num_dropped: int

    def __str__(self) -> str:
        return f"{self.num_kept} rounds, {self.num_dropped} dropped"


def steady_pairs(rounds: int, *contestants: Callable[[], float], repeats: int = 2) -> Pairs:
    """As `in_turn`, each contestant `repeats` times a round, less the rounds in which one was unsteady.

    It differed from itself by more than 20 %: a core was taken away. Dropped rounds are measured again, up to
    as many as were asked for. Where none was steady, all count and `num_kept` is 0.
    """
    kept: list[list[float]] = []
    dropped: list[list[float]] = []
    while len(kept) < rounds and len(dropped) < rounds:
        measured = [[contestant() for _ in range(repeats)] for contestant in contestants]
        is_steady = all(max(values) <= _STEADY * min(values) for values in measured)
        (kept if is_steady else dropped).append([statistics.median(values) for values in measured])
    medians = [statistics.median(values) for values in zip(*(kept or dropped), strict=True)]
    return Pairs(medians, len(kept), len(dropped))


def machine() -> str:
    """CPU model, cores and memory (and the accelerator, if torch is loaded and sees one)."""
    model = "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    torch = sys.modules.get("torch")
    device = f", {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB{device}"


def _ratio(cairn: float, peer_value: float | None, higher_is_better: bool) -> float | None:
    if peer_value is None:
        return None
    return cairn / peer_value if higher_is_better else peer_value / cairn


def _holds(cairn: float, ratio: float | None, bar: float | None, higher_is_better: bool) -> bool | None:
    if bar is None:
        return None
    if ratio is not None:
        return ratio >= bar
    return cairn >= bar if higher_is_better else cairn <= bar


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("cairn", *packages)}


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _store(path: Path, value: dict[str, Any], depends_on_machine: bool) -> None:
    """Replace the record of the same id and machine, keep the others, sorted by both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = json.loads(path.read_text()) if path.exists() else []

    def is_replaced(other: dict[str, Any]) -> bool:
        same_place = not depends_on_machine or other["machine"] == value["machine"]
        return bool(other["id"] == value["id"] and same_place)

    records = [other for other in records if not is_replaced(other)] + [value]
    records.sort(key=lambda each: (str(each["id"]), str(each["machine"])))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    temporary.replace(path)
