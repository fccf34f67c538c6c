"""Azure's trace at twenty times its pace, starter model: `gateway.azure20x`, `.memory`, `.first_token`.

All 28,185 requests of 2023's trace (chats and code, an hour of Azure's; Splitwise, Patel et al. 2024) come
within three minutes to a `cairn up` as it is set by default, the chats as streams. That is many times what
two cores answer: what is measured is that every request gets its answer or 429 with Retry-After, that the
ledger has each once with the tokens that its client was told, and that memory stays. Lengths are the trace's,
cut to the model's context (`_MOST_NEW` and the rest of it); texts differ from their first word on.

    CAIRN_MIRROR=… python -m benchmarks.gateway.azure20x [--pace 20] [--seconds 180] [--no-record]
"""

import argparse
import os
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.arrivals import Arrival, Outcome, percentile, received, sending
from benchmarks.gateway.overhead import memory_of
from benchmarks.record import record
from benchmarks.server.running import CAIRN, Running, running, wait_for
from sqlalchemy import func, select
from tests.engine.simulation import azure_trace

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.usage.tables import UsageRow

_CONTEXT, _MOST_NEW, _TEMPLATE = 512, 128, 24
"""Tokens: of the starter model, of a reply, and of the chat template around a message."""
_WORDS = "stone hill rain path bird river cloud lamp tree wind door bell house dog cat sun"
"""A token each, in the starter model's vocabulary."""
_MEMORY_BAR_MB = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a replay came to."""

    outcomes: list[Outcome]
    faults: list[str]
    grown_mb: float
    """From a third of the time on: the key-value cache has been touched by then."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pace", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with running([CAIRN, "up", "--port", "0"], home=home) as server:
            wait_for(f"{server.url}/readyz")
            env = {**os.environ, "CAIRN_HOME": folder}
            key = subprocess.check_output([CAIRN, "key", "create", "admin"], env=env, text=True).strip()
            plan = arrivals(key, options.pace, options.seconds)
            found = measure(server, home, plan, options.seconds)
    tell(found)
    if not options.no_record:
        write_records(found, options.pace, options.seconds)


def arrivals(key: str, pace: float, seconds: float) -> list[Arrival]:
    """The trace's requests, as fast as asked."""
    trace = sorted(azure_trace("conv") + azure_trace("code"), key=lambda each: each.seconds)
    found = []
    for number, each in enumerate(trace):
        at = (each.seconds - trace[0].seconds) / pace
        if at >= seconds:
            break
        num_new = max(1, min(each.num_new, _MOST_NEW))
        num_prompt = min(each.num_prompt, _CONTEXT - num_new - _TEMPLATE)
        # The number in front has five tokens.
        words = random.Random(number).choices(_WORDS.split(), k=max(1, num_prompt - 6))
        body = {
            "model": "starter",
            "messages": [{"role": "user", "content": f"{number} {' '.join(words)}"}],
            "max_tokens": num_new,
            "ignore_eos": True,
        }
        if each.tenant == "conv":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        found.append(Arrival(at, key, body))
    return found


def measure(server: Running, home: Path, plan: list[Arrival], seconds: float) -> Found:
    """Send it all; then what was told and what was counted must be the same."""
    over, samples = threading.Event(), []

    def watch() -> None:
        started = time.monotonic()
        while not over.wait(1.0):
            samples.append((time.monotonic() - started, memory_of(server.pid)))

    with sending(server.url, plan) as process:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            outcomes = received(process)
        finally:
            over.set()
            watcher.join()
    warm = [size for at, size in samples if at >= seconds / 3]
    faults = [fault for number, each in enumerate(outcomes) if (fault := _fault(number, each))]
    if len(outcomes) != len(plan):
        faults.append(f"{len(outcomes)} outcomes of {len(plan)} requests")
    faults += _miscounted(home, outcomes)
    return Found(outcomes, faults, (memory_of(server.pid) - min(warm[:5])) / 1e6)


def _fault(number: int, found: Outcome) -> str:
    if found.is_whole or (found.status == 429 and found.retry_after.isdigit()):
        return ""
    return f"request {number}: {found.status} after {found.seconds:.1f} s, {found.ending!r}"


def _miscounted(home: Path, outcomes: list[Outcome]) -> list[str]:
    """How the ledger differs from what clients were told, once it has had time to be written."""
    good = [each for each in outcomes if each.is_whole]
    expected = {
        "requests": len(outcomes),
        "good answers": len(good),
        "prompt tokens": sum(each.prompt_tokens for each in good),
        "completion tokens": sum(each.completion_tokens for each in good),
    }
    is_ok = UsageRow.outcome == "ok"
    query = select(
        func.sum(UsageRow.num_requests),
        func.sum(UsageRow.num_requests).filter(is_ok),
        func.sum(UsageRow.prompt_tokens).filter(is_ok),
        func.sum(UsageRow.completion_tokens).filter(is_ok),
    )
    stored: dict[str, int] = {}
    deadline = time.monotonic() + 30
    with Registry.open(Settings(home=home)) as registry:
        while stored != expected and time.monotonic() < deadline:
            time.sleep(0.5)
            with registry.database.session(read_only=True) as session:
                stored = dict(zip(expected, map(int, session.execute(query).one()), strict=True))
    return [
        f"the ledger has {stored[name]} {name}, clients were told of {number}"
        for name, number in expected.items()
        if stored[name] != number
    ]


def tell(found: Found) -> None:
    """The numbers, for a person."""
    good = [each for each in found.outcomes if each.is_whole]
    refused = [each for each in found.outcomes if each.status == 429]
    print(f"answers: {dict(Counter(each.status for each in found.outcomes))}, faults: {len(found.faults)}")
    for fault in found.faults[:10]:
        print(f"  {fault}")
    for name, values in (
        ("whole answers", [each.seconds for each in good]),
        ("first token of those", [each.first for each in good]),
        ("refusals", [each.seconds for each in refused]),
        ("sent late", [each.late for each in found.outcomes]),
    ):
        if values:
            told = ", ".join(f"p{share:g} {percentile(values, share / 100):.2f} s" for share in (50, 99, 100))
            print(f"{name}: {told}")
    tokens = sum(each.prompt_tokens + each.completion_tokens for each in good)
    print(f"{tokens:,} tokens; memory {found.grown_mb:+.1f} MB")


def write_records(found: Found, pace: float, seconds: float) -> None:
    """What went wrong, what memory did, and how long answers took."""
    good = [each for each in found.outcomes if each.is_whole]
    command = f"python -m benchmarks.gateway.azure20x --pace {pace:g} --seconds {seconds:g}"
    packages = ("fastapi", "uvicorn", "uvloop", "sqlalchemy")
    named = f"Azure's trace at {pace:g} times its pace, starter model, {len(found.outcomes):,} requests"
    record(
        "gateway",
        "gateway.azure20x",
        what=f"{named}: lost, miscounted or refused otherwise than by 429 with Retry-After "
        f"({len(good):,} answered, the others 429)",
        unit="requests",
        cairn=len(found.faults),
        higher_is_better=False,
        bar=0,
        command=command,
        packages=packages,
    )
    record(
        "gateway",
        "gateway.azure20x.memory",
        what=f"{named}: memory the server grew by after the first third",
        unit="MB",
        cairn=found.grown_mb,
        higher_is_better=False,
        bar=_MEMORY_BAR_MB,
        command=command,
        packages=packages,
    )
    firsts = [each.first for each in good]
    record(
        "gateway",
        "gateway.azure20x.first_token",
        what=f"{named}: p99 until the first token of those answered (p50 {percentile(firsts, 0.5):.2f} s)",
        unit="s",
        cairn=percentile(firsts, 0.99),
        higher_is_better=False,
        command=command,
        packages=packages,
    )


if __name__ == "__main__":
    main()
