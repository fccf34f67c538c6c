"""What a request costs before and after its answer: id `gateway.checks.p50`.

In one process, without sockets: who holds the key and may chat, rules about requests, tokens, concurrency and
money that hold for it, reservation, headers, settlement, and its row on the way into the ledger, whose thread
writes to SQLite meanwhile. The first request of a key asks the database; so it is with
the first of any three seconds, which the slowest ones printed show. Median.

    python -m benchmarks.gateway.checks [--requests 20000] [--no-record]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from benchmarks.record import record
from fastapi import FastAPI, Request

from cairn.core import Settings
from cairn.core.chat import Usage
from cairn.registry import Registry
from cairn.server.auth import Rule as RouteRule
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.identity.permissions import Permission
from cairn.server.models import ModelPool
from cairn.server.state import ServerState
from cairn.server.usage.admission import Ticket
from cairn.server.usage.rules import Rule, set_rules

BAR_MS = 0.5
_MUCH = 10**12
PRICES = '[models."*"]\nprompt = 0.15\ncompletion = 0.6\n'


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "prices.toml").write_text(PRICES)
        with Registry.open(Settings(home=Path(folder))) as registry:
            set_rules(registry, rules(), "benchmark")
            seconds = uvloop.run(measure(registry, options.requests))
    median = 1000 * statistics.median(seconds)
    ordered = sorted(seconds)
    p99, slowest = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.99, 1.0))
    print(f"checks take {median:.3f} ms (99 % within {p99:.3f}, the slowest {slowest:.1f})")
    if not options.no_record:
        record(
            "gateway",
            "gateway.checks.p50",
            what="authorisation, limits, budgets and the usage row of one request, median",
            unit="ms",
            cairn=median,
            higher_is_better=False,
            bar=BAR_MS,
            command=f"python -m benchmarks.gateway.checks --requests {options.requests}",
            packages=("fastapi", "limits", "sqlalchemy", "uvloop"),
        )


def rules() -> list[Rule]:
    """Seven that hold for every request, none of which stops one."""
    return [
        Rule(kind="user", name="*", metric="requests", window="minute", amount=_MUCH),
        Rule(kind="user", name="*", metric="tokens", window="minute", amount=_MUCH),
        Rule(kind="all", metric="requests", window="day", amount=_MUCH),
        Rule(kind="key", name="*", metric="concurrent", amount=100),
        Rule(kind="user", name="*", metric="money", window="month", amount=_MUCH),
        Rule(kind="key", name="*", metric="money", window="day", amount=_MUCH),
        Rule(kind="all", metric="money", window="total", amount=_MUCH, action="warn"),
    ]


async def measure(registry: Registry, num_requests: int) -> list[float]:
    """Seconds that each request took, answers left out."""
    config = ServerConfig()
    identity = Identity(registry.database)
    key = identity.ensure_admin()
    state = ServerState(
        registry=registry, config=config, models=ModelPool(registry, config), identity=identity
    )
    api = FastAPI()
    api.state.cairn = state
    route_rule = RouteRule(Permission.CHAT)
    seconds = []
    for number in range(num_requests):
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"authorization", f"Bearer {key}".encode())],
            "client": ("127.0.0.1", 1),
            "app": api,
        }
        started = time.perf_counter()
        caller = await route_rule(Request(scope))
        ticket = Ticket(state.metering, caller, scope["path"], f"req_{number}")
        headers = await ticket.admit("assistant", prompt_tokens=300, completion_tokens=200)
        ticket.add(Usage(310, 150, 64), "assistant")
        await ticket.close()
        seconds.append(time.perf_counter() - started)
        assert headers["x-ratelimit-limit-requests"] == str(_MUCH)
        if number % 100 == 0:
            await asyncio.sleep(0.01)  # the ledger's thread has the database to itself, as between requests
    await state.metering.close()
    return seconds


if __name__ == "__main__":
    main()
