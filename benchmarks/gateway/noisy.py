"""Whether a tenant at ten times its quota is felt by others: id `gateway.noisy_tenant`.

One `cairn up` with the starter model. Four tenants ask for 16 tokens five times a second each, at random
times that are fixed beforehand; in every other round a fifth one sends ten times what its limits (30 a
minute, one at a time) allow. A process of its own sends, and late answers count from when they were due. A
pair of rounds has the same times, and the order within it alternates. The number is the median over pairs of
the ratio of the others' 99th percentiles; beside it stands how far quiet rounds differ among themselves, for
a ratio that is nearer to 1 than that says nothing. Where that is above `_TRUSTED`, nothing is recorded:
somebody else used the machine.

    python -m benchmarks.gateway.noisy [--seconds 30] [--pairs 8] [--no-record]
"""

import argparse
import random
import statistics
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.arrivals import Arrival, Outcome, percentile, received, sending
from benchmarks.record import record
from benchmarks.server.running import CAIRN, running, wait_for

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.identity import Identity
from cairn.server.usage.rules import Rule, set_rules

BAR = 1.2
QUOTA = 30
"""Requests a minute."""
CONCURRENT = 1
"""Requests at a time."""
EXCESS = 10
OTHERS = ("ada", "grace", "barbara", "edsger")
NOISY = "noisy"
RATE = 5.0
"""Requests a second of each of the others."""
_TRUSTED = 1.5
_MOST_LATE = 0.005


@dataclass(frozen=True, slots=True)
class Pair:
    """The others' 99th percentiles in seconds, without and with the noisy one."""

    quiet: float
    loud: float


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys = prepare(Path(folder))
        with running([CAIRN, "up", "--port", "0"], home=Path(folder)) as server:
            wait_for(f"{server.url}/readyz")
            pairs, answers = measure(server.url, keys, options.seconds, options.pairs)
    ratio = statistics.median(pair.loud / pair.quiet for pair in pairs)
    spread = spread_of([pair.quiet for pair in pairs])
    print(f"ratio of 99th percentiles {ratio:.2f} (quiet rounds among themselves {spread:.2f})")
    print(f"the noisy one was answered with {dict(answers)}")
    if spread > _TRUSTED:
        raise SystemExit(f"quiet rounds differ by {spread:.2f}, trusted: {_TRUSTED}; nothing is recorded")
    if not options.no_record:
        record(
            "gateway",
            "gateway.noisy_tenant",
            what=f"p99 of four tenants' chats beside one at {EXCESS} times its quota ({QUOTA} a minute, "
            f"{CONCURRENT} at a time), over that without it, median of {len(pairs)} pairs of rounds "
            f"(quiet rounds among themselves: {spread:.2f})",
            unit="times",
            cairn=ratio,
            higher_is_better=False,
            bar=BAR,
            command=f"python -m benchmarks.gateway.noisy --seconds {options.seconds:g} --pairs {len(pairs)}",
            packages=("fastapi", "limits", "sqlalchemy", "uvloop"),
        )


def prepare(home: Path) -> dict[str, str]:
    """A home with a key for each tenant, and the noisy one's limit."""
    with Registry.open(Settings(home=home)) as registry:
        identity = Identity(registry.database)
        identity.ensure_admin()
        keys = {name: identity.create_key(name) for name in (*OTHERS, NOISY)}
        rules = [
            Rule(kind="user", name="*", metric="requests", window="minute", amount=QUOTA),
            Rule(kind="user", name="*", metric="concurrent", amount=CONCURRENT),
            # The others stay within theirs.
            *(
                Rule(kind="user", name=name, metric="requests", window="minute", amount=10_000)
                for name in OTHERS
            ),
            *(Rule(kind="user", name=name, metric="concurrent", amount=100) for name in OTHERS),
        ]
        set_rules(registry, rules, "benchmark")
    return keys


def measure(
    url: str, keys: dict[str, str], seconds: float, num_pairs: int
) -> tuple[list[Pair], Counter[int]]:
    """Each pair of rounds, and how the noisy one was answered in all."""
    pairs: list[Pair] = []
    answers: Counter[int] = Counter()
    ask(url, arrivals(keys, seconds, -1, is_loud=True))  # warms up
    for number in range(num_pairs):
        found = {}
        for is_loud in (False, True) if number % 2 else (True, False):
            plan = arrivals(keys, seconds, number, is_loud=is_loud)
            outcomes = ask(url, plan)
            others = [
                each for arrival, each in zip(plan, outcomes, strict=True) if arrival.key != keys[NOISY]
            ]
            if any(each.status != 200 for each in others):
                raise SystemExit(f"the others were answered with {Counter(each.status for each in others)}")
            found[is_loud] = percentile([each.seconds for each in others], 0.99)
            noisy = [each for arrival, each in zip(plan, outcomes, strict=True) if arrival.key == keys[NOISY]]
            answers.update(each.status for each in noisy)
        pairs.append(Pair(found[False], found[True]))
        print(f"p99 {1000 * pairs[-1].quiet:.0f} ms alone, {1000 * pairs[-1].loud:.0f} ms beside", flush=True)
    return pairs, answers


def ask(url: str, plan: list[Arrival]) -> list[Outcome]:
    """One round."""
    outcomes = received(sending(url, plan))
    if (late := percentile([each.late for each in outcomes], 0.99)) > _MOST_LATE:
        print(f"the process that sends was {1000 * late:.0f} ms late itself", flush=True)
    return outcomes


def arrivals(keys: dict[str, str], seconds: float, number: int, *, is_loud: bool) -> list[Arrival]:
    """The requests of a round: those of the others are the same in both rounds of a pair."""
    found: list[Arrival] = []
    for name in (*OTHERS, NOISY) if is_loud else OTHERS:
        rng, at = random.Random(f"{number} {name}"), 0.0
        rate = EXCESS * QUOTA / 60 if name == NOISY else RATE
        while (at := at + rng.expovariate(rate)) < seconds:
            story = f"Tell me a story about {rng.randrange(10**9)} stones."
            body = {
                "model": "starter",
                "messages": [{"role": "user", "content": story}],
                "max_tokens": 16,
                "ignore_eos": True,
            }
            found.append(Arrival(at, keys[name], body))
    return found


def spread_of(values: list[float]) -> float:
    """How far values lie apart, the outermost eighth on both sides left out."""
    ordered = sorted(values)
    outer = len(ordered) // 8
    return ordered[-1 - outer] / ordered[outer]


if __name__ == "__main__":
    main()
