"""Whether a tenant at ten times its quota is felt by others: id `gateway.noisy_tenant`.

One `cairn up` with the starter model. Four tenants ask for 16 tokens once a second each, at random times that
are the same in every run; in every other round a fifth one sends ten times what its limits (30 a
minute, one at a time) allow. The ratio of the others' 99th percentiles, all rounds together.

    python -m benchmarks.gateway.noisy [--seconds 60] [--rounds 2] [--no-record]
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx2
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


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys = prepare(Path(folder))
        with running([CAIRN, "up", "--port", "0"], home=Path(folder)) as server:
            wait_for(f"{server.url}/readyz")
            alone, beside, answers = asyncio.run(measure(server.url, keys, options.seconds, options.rounds))
    quiet, loud = p99(alone), p99(beside)
    ratio = loud / quiet
    print(f"99th percentile {1000 * quiet:.0f} ms alone, {1000 * loud:.0f} ms beside ({ratio:.2f} times)")
    print(f"the noisy one was answered with {dict(answers)}")
    if not options.no_record:
        record(
            "gateway",
            "gateway.noisy_tenant",
            what=f"p99 of four tenants' chats beside one at {EXCESS} times its quota ({QUOTA} a minute, "
            f"{CONCURRENT} at a time), over that without it",
            unit="times",
            cairn=ratio,
            higher_is_better=False,
            bar=BAR,
            command=f"python -m benchmarks.gateway.noisy --seconds {options.seconds:g} "
            f"--rounds {options.rounds}",
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


async def measure(
    url: str, keys: dict[str, str], seconds: float, rounds: int
) -> tuple[list[float], list[float], Counter[int]]:
    """Seconds of the others' answers without and with the noisy one, and how that was answered."""
    alone: list[float] = []
    beside: list[float] = []
    answers: Counter[int] = Counter()
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        for number in range(rounds + 1):
            calm = [ask_often(client, keys[name], 1.0, seconds, f"{number} {name}") for name in OTHERS]
            found = await asyncio.gather(*calm)
            if number == 0:
                continue  # the first one warms up
            alone += [took for each in found for took, _ in each]
            calm = [ask_often(client, keys[name], 1.0, seconds, f"{number} {name}") for name in OTHERS]
            noise = ask_often(client, keys[NOISY], EXCESS * QUOTA / 60, seconds, f"{number} {NOISY}")
            *found, noisy = await asyncio.gather(*calm, noise)
            beside += [took for each in found for took, _ in each]
            answers.update(status for _, status in noisy)
    return alone, beside, answers


async def ask_often(
    client: httpx2.AsyncClient, key: str, rate: float, seconds: float, seed: str
) -> list[tuple[float, int]]:
    """Ask at random times, `rate` of them a second, whether earlier ones are answered or not."""
    rng, found, at = random.Random(seed), [], 0.0
    started = time.perf_counter()
    while (at := at + rng.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
        found.append(asyncio.create_task(ask(client, key, rng.randrange(10**9))))
    return list(await asyncio.gather(*found))


async def ask(client: httpx2.AsyncClient, key: str, number: int) -> tuple[float, int]:
    """One request: seconds to the whole answer, and its status."""
    body = {
        "model": "starter",
        "messages": [{"role": "user", "content": f"Tell me a story about {number} stones."}],
        "max_tokens": 16,
    }
    headers = {"authorization": f"Bearer {key}"}
    started = time.perf_counter()
    response = await client.post("/v1/chat/completions", json=body, headers=headers)
    return time.perf_counter() - started, response.status_code


def p99(values: list[float]) -> float:
    """The value that 99 % stay within."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


if __name__ == "__main__":
    main()
