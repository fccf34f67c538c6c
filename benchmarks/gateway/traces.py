"""What traces cost a request: ids `gateway.traces.cpu` and `gateway.traces.span.vs_opentelemetry`.

The first: CPU time of a gateway for a request to a mock upstream that answers at once, with traces as they
are by default, less that without any; servers in turn, medians of the rounds' differences. The second, in
one process: a request of eight spans with two attributes each, begun, ended and passed over, against the same
with OpenTelemetry's SDK and its batch processor, whose exporter throws them away.

    python -m benchmarks.gateway.traces [--rounds 7] [--requests 1500] [--no-record]
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
from pathlib import Path

import psutil
from benchmarks.gateway.overhead import MOCK_PORT, measure, process, write_routes
from benchmarks.peer_environment import peer_python, peer_versions
from benchmarks.record import record
from benchmarks.server.running import CAIRN, running, wait_for

from cairn.telemetry import Recorder, TelemetryConfig, TraceStore, current

PEER_PACKAGES = ("opentelemetry-sdk",)
COMMAND = "python -m benchmarks.gateway.traces"
_SPANS = 8
_PEER = f"""
import json, time
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Nowhere(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Nowhere()))
tracer = provider.get_tracer("benchmark")
found = []
for _ in range(20):
    started = time.process_time()
    for _ in range(500):
        with tracer.start_as_current_span("POST /v1/chat/completions"):
            for _ in range({_SPANS - 1}):
                with tracer.start_as_current_span("chat") as span:
                    span.set_attribute("gen_ai.request.model", "stone")
                    span.set_attribute("gen_ai.usage.input_tokens", 310)
    found.append((time.process_time() - started) / 500)
print(json.dumps(found))
"""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "cairn-bench-otel")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    options = parser.parse_args()
    ours, kept = own_spans(0.0), own_spans(1.0)
    python = peer_python(options.peer, PEER_PACKAGES)
    theirs = statistics.median(json.loads(subprocess.check_output([python, "-c", _PEER])))
    print(f"a request of {_SPANS} spans: {1e6 * ours:.1f} µs passed over, {1e6 * kept:.1f} kept and stored, ")
    print(f"  {1e6 * theirs:.1f} with OpenTelemetry's SDK; nothing recorded: {1e6 * no_spans():.2f}")
    off, usual = by_server(options.rounds, options.requests)
    added = statistics.median(b - a for a, b in zip(off, usual, strict=True))
    print(f"CPU a request: {1e3 * statistics.median(off):.3f} ms without, {1e6 * added:+.0f} µs with traces")
    if options.no_record:
        return
    record(
        "gateway",
        "gateway.traces.span.vs_opentelemetry",
        what="CPU time of recording a request of eight spans",
        unit="µs",
        cairn=1e6 * ours,
        peer="opentelemetry-sdk",
        peer_value=1e6 * theirs,
        higher_is_better=False,
        command=COMMAND,
        versions=peer_versions(python, PEER_PACKAGES),
    )
    record(
        "gateway",
        "gateway.traces.cpu",
        what="CPU time that traces add to a request through the gateway, 20 of them a second stored",
        unit="µs",
        cairn=1e6 * added,
        higher_is_better=False,
        command=f"{COMMAND} --rounds {options.rounds} --requests {options.requests}",
    )


def own_spans(rate: float) -> float:
    """Seconds of CPU for a request's spans, median; kept ones are stored in the same process meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        store = TraceStore(Path(folder) / "traces.db", max_bytes=10**8, max_seconds=86400)
        recorder = Recorder(TelemetryConfig(rate=rate, per_second=1e9), store)
        found = []
        for _ in range(20):
            started = time.process_time()
            for _ in range(500):
                root = recorder.begin("POST")
                with root.active():
                    _spans()
                root.note(model="stone")
                recorder.end(root)
            recorder.flush()
            found.append((time.process_time() - started) / 500)
        recorder.close()
    return statistics.median(found)


def no_spans() -> float:
    """The same where nothing is recorded."""
    started = time.process_time()
    for _ in range(20_000):
        _spans()
    return (time.process_time() - started) / 20_000


def _spans() -> None:
    for _ in range(_SPANS - 1):
        with current().child("chat") as span:
            span.set("gen_ai.request.model", "stone")
            span.set("gen_ai.usage.input_tokens", 310)


def by_server(rounds: int, num_requests: int) -> tuple[list[float], list[float]]:
    """CPU seconds of a request through a gateway without traces and with them, by round."""
    found: dict[str, list[float]] = {"off": [], "usual": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = [sys.executable, "-m", "benchmarks.gateway.mock_upstream", str(MOCK_PORT), "0"]
        stack.enter_context(process(mock))
        os.environ["MOCK_KEY"] = "sk-mock"
        servers = {}
        for name, text in (("off", "stored_bytes = 0\n"), ("usual", "")):
            home = folder / name
            write_routes(home)
            (home / "telemetry.toml").write_text(text, encoding="utf-8")
            command = [CAIRN, "up", "--port", "0", "--telemetry", str(home / "telemetry.toml")]
            server = stack.enter_context(running(command, home=home))
            wait_for(f"{server.url}/readyz")
            key = subprocess.check_output(
                [CAIRN, "key", "create", "admin"], env={**os.environ, "CAIRN_HOME": str(home)}, text=True
            ).strip()
            servers[name] = (server, int(server.url.rsplit(":", 1)[1]), key)
            measure(servers[name][1], "mock", key, clients=4, num_requests=num_requests)
        for _ in range(rounds):
            for name, (server, port, key) in servers.items():
                before = _cpu(server.pid)
                measure(port, "mock", key, clients=4, num_requests=num_requests)
                found[name].append((_cpu(server.pid) - before) / num_requests)
    return found["off"], found["usual"]


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
