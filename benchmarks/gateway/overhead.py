"""What a gateway adds to a request: `gateway.overhead.*`, `gateway.throughput.*`, `gateway.p99_half_load`.

A mock upstream of fixed latency, Cairn and LiteLLM's proxy before it, each in one process of its own with a
key that is checked, and bare uvicorn that answers after the same time as the floor. LiteLLM lives in an
environment that this makes under `--peer`. Added latency is the median over rounds, in turn, of a
percentile through the gateway minus that of the mock itself.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import uvloop
from benchmarks.gateway.load import Measured, at_rate, closed_loop, request_of
from benchmarks.peer_environment import peer_python, peer_versions
from benchmarks.record import record
from benchmarks.server.running import CAIRN, running, wait_for

PEER_PACKAGES = ("litellm[proxy]",)
PEER_KEY = "sk-benchmark-0000"
MOCK_PORT, FLOOR_PORT, PEER_PORT = 18101, 18102, 18103
COMMAND = "python -m benchmarks.gateway.overhead"


@contextmanager
def process(command: list[str], *, check: str = "", **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the end of this."""
    started = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        if check:
            wait_for(check)
        else:
            time.sleep(2)
        yield started
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait()


def write_routes(home: Path) -> None:
    """One route to the mock."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "routes.toml").write_text(
        f'[providers.mock]\nbase_url = "http://127.0.0.1:{MOCK_PORT}/v1"\nkey_env = "MOCK_KEY"\n'
        '[routes.mock]\ntargets = [{ provider = "mock", model = "mock" }]\n',
        encoding="utf-8",
    )


def write_peer_config(path: Path) -> None:
    """The same for LiteLLM."""
    path.write_text(
        "model_list:\n  - model_name: mock\n    litellm_params:\n      model: openai/mock\n"
        f"      api_base: http://127.0.0.1:{MOCK_PORT}/v1\n      api_key: sk-mock\n"
        f"general_settings:\n  master_key: {PEER_KEY}\n",
        encoding="utf-8",
    )


def memory_of(pid: int) -> int:
    """Bytes that a process holds of its own."""
    return int(psutil.Process(pid).memory_full_info().uss)


def measure(port: int, model: str, key: str, *, clients: int, num_requests: int) -> Measured:
    """A closed loop against one contestant."""
    found = uvloop.run(
        closed_loop(port, request_of(port, model, key), clients=clients, num_requests=num_requests)
    )
    if found.num_failed:
        raise SystemExit(f"{found.num_failed} of {num_requests} requests to port {port} failed")
    return found


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "cairn-bench-litellm")
    parser.add_argument("--no-peer", action="store_true", help="Cairn and the floor alone; records nothing")
    parser.add_argument("--latency", type=float, default=50.0, help="of the mock, in milliseconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="a round of Cairn; the peer gets a fifth")
    parser.add_argument("--memory-requests", type=int, default=200_000, help="0: not measured")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = [
            sys.executable,
            "-m",
            "benchmarks.gateway.mock_upstream",
            str(MOCK_PORT),
            str(options.latency),
        ]
        stack.enter_context(process(mock))
        floor = [sys.executable, "-m", "benchmarks.gateway.floor", str(FLOOR_PORT), str(options.latency)]
        stack.enter_context(process(floor))
        home = folder / "home"
        write_routes(home)
        os.environ["MOCK_KEY"] = "sk-mock"
        server = stack.enter_context(running([CAIRN, "up", "--port", "0"], home=home))
        wait_for(f"{server.url}/readyz")
        key = subprocess.check_output(
            [CAIRN, "key", "create", "admin"], env={**os.environ, "CAIRN_HOME": str(home)}, text=True
        ).strip()
        cairn_port = int(server.url.rsplit(":", 1)[1])
        contestants = {"mock": (MOCK_PORT, ""), "floor": (FLOOR_PORT, ""), "cairn": (cairn_port, key)}
        versions: dict[str, str] = {}
        if not options.no_peer:
            python = peer_python(options.peer, PEER_PACKAGES)
            versions = peer_versions(python, PEER_PACKAGES)
            write_peer_config(folder / "peer.yaml")
            command = [str(options.peer / "bin" / "litellm"), "--config", str(folder / "peer.yaml")]
            command += ["--port", str(PEER_PORT), "--host", "127.0.0.1", "--num_workers", "1"]
            check = f"http://127.0.0.1:{PEER_PORT}/health/liveliness"
            stack.enter_context(process(command, check=check, LITELLM_MODE="PRODUCTION", LITELLM_LOG="ERROR"))
            contestants["peer"] = (PEER_PORT, PEER_KEY)
        found = compare(contestants, options.rounds, options.requests)
        for name, values in found.items():
            print(name, {what: round(value, 3) for what, value in values.items()}, flush=True)
        p99 = half_load(cairn_port, key, found["cairn"]["rate"], found["mock"]["p50"])
        print(f"p99 at half of saturation: {p99:.2f} ms", flush=True)
        if not options.no_peer:
            write_records(found, p99, versions, options.latency)
        if options.memory_requests:
            grown = memory(server.pid, cairn_port, key, options.memory_requests)
            print(f"memory over {options.memory_requests} requests: {grown:+.1f} MB", flush=True)
            if options.memory_requests >= 200_000 and not options.no_peer:
                record(
                    "gateway",
                    "gateway.memory_200k",
                    what="memory the gateway grew by, from the 20,000th to the 200,000th request",
                    unit="MB",
                    cairn=grown,
                    higher_is_better=False,
                    bar=10,
                    command=COMMAND,
                )


def compare(
    contestants: dict[str, tuple[int, str]], rounds: int, num_requests: int
) -> dict[str, dict[str, float]]:
    """Of each contestant, in turn: p50 and p99 in ms with four clients, requests a second with 64."""
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, (port, key) in contestants.items():
            num = num_requests // 5 if name == "peer" else num_requests
            calm = measure(port, "mock", key, clients=4, num_requests=max(num // 5, 50))
            busy = measure(port, "mock", key, clients=64, num_requests=num)
            if number:  # the first round warms up
                rows[name].append((calm.percentile(0.5), calm.percentile(0.99), busy.rate))
    return {
        name: {
            "p50": 1000 * statistics.median(row[0] for row in values),
            "p99": 1000 * statistics.median(row[1] for row in values),
            "rate": statistics.median(row[2] for row in values),
        }
        for name, values in rows.items()
    }


def half_load(port: int, key: str, rate: float, mock_p50: float) -> float:
    """Added p99 in milliseconds at half the rate that is the most."""
    num = max(500, int(rate / 2 * 10))
    found = uvloop.run(at_rate(port, request_of(port, "mock", key), rate=rate / 2, num_requests=num))
    if found.num_failed:
        raise SystemExit(f"{found.num_failed} of {num} requests failed at half load")
    return 1000 * found.percentile(0.99) - mock_p50


def memory(pid: int, port: int, key: str, num_requests: int) -> float:
    """Megabytes that the server grew by after the first tenth of so many requests."""
    measure(port, "mock", key, clients=64, num_requests=num_requests // 10)
    before = memory_of(pid)
    measure(port, "mock", key, clients=64, num_requests=num_requests - num_requests // 10)
    return (memory_of(pid) - before) / 1e6


def write_records(
    found: dict[str, dict[str, float]], p99: float, versions: dict[str, str], latency: float
) -> None:
    """The records, each with its bar."""
    mock, ours, theirs = found["mock"], found["cairn"], found["peer"]
    floor = {what: found["floor"][what] - mock[what] for what in ("p50", "p99")}
    for what in ("p50", "p99"):
        record(
            "gateway",
            f"gateway.overhead.{what}.vs_litellm",
            what=f"{what} that the gateway adds to an upstream of {latency:g} ms, four clients "
            f"(bare uvicorn instead of both: {floor[what]:+.2f} ms)",
            unit="ms",
            cairn=ours[what] - mock[what],
            peer="LiteLLM proxy",
            peer_value=theirs[what] - mock[what],
            higher_is_better=False,
            bar=5,
            command=COMMAND,
            versions=versions,
        )
    record(
        "gateway",
        "gateway.throughput.vs_litellm",
        what=f"requests a second of one process, 64 clients (bare uvicorn: {found['floor']['rate']:.0f})",
        unit="1/s",
        cairn=ours["rate"],
        peer="LiteLLM proxy",
        peer_value=theirs["rate"],
        bar=5,
        command=COMMAND,
        versions=versions,
    )
    record(
        "gateway",
        "gateway.p99_half_load",
        what=f"p99 that the gateway adds at half of its most ({ours['rate'] / 2:.0f} requests/s)",
        unit="ms",
        cairn=p99,
        higher_is_better=False,
        bar=5,
        command=COMMAND,
    )


if __name__ == "__main__":
    main()
