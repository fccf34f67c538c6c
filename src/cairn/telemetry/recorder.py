"""The recorder: begins traces, decides at their end which are kept, and has them stored and sent.

The decision waits for the end because only then it is known what failed and what was slow, which is kept
always. Of the others a share by the trace's id, and no more than so many a second: the cost of a flood is
bounded, and a person's few requests are all there. Storing and sending have a thread each, so that a receiver
that hangs holds up nothing.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from cairn.core.errors import StorageError
from cairn.telemetry.batching import Batches
from cairn.telemetry.config import TelemetryConfig
from cairn.telemetry.context import parse_traceparent
from cairn.telemetry.finished import FinishedTrace, finished, outcome_of
from cairn.telemetry.otlp import OtlpExporter, otlp_config
from cairn.telemetry.redaction import Redactor
from cairn.telemetry.spans import SERVER, Span, Trace
from cairn.telemetry.store import TraceStore

logger = logging.getLogger("cairn.telemetry")

FILE_NAME = "traces.db"
_RATIO_BITS = 56
_RATIO_MASK = (1 << _RATIO_BITS) - 1


class Recorder:
    """Traces on their way to the store and the exporter."""

    def __init__(
        self,
        config: TelemetryConfig,
        store: TraceStore | None,
        exporter: OtlpExporter | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.exporter = exporter
        self._config = config
        self._redactor = Redactor(config.redactions)
        self._slow_ns = int(config.slow_seconds * 1e9)
        self._least_id = int((1 - config.rate) * (1 << _RATIO_BITS))
        self._now = now
        self._allowance, self._filled_at = config.per_second, now()
        self.num_kept = self.num_passed_over = 0
        self._is_failing = False
        self._finishing = Batches("cairn-traces", self._finish)
        self._sending = Batches("cairn-otlp", exporter.export) if exporter is not None else None

    @property
    def num_dropped(self) -> int:
        """Traces that should have been kept and are not: too many at once, or nobody took them."""
        found = self._finishing.num_dropped
        if self.exporter is not None and self._sending is not None:
            found += self._sending.num_dropped + self.exporter.num_failed
        return found

    def fates(self) -> dict[str, int]:
        """What has become of traces since the start."""
        found = {"kept": self.num_kept, "passed_over": self.num_passed_over, "dropped": self.num_dropped}
        return found | ({"sent": self.exporter.num_sent} if self.exporter is not None else {})

    def begin(self, name: str, traceparent: str = "", tracestate: str = "") -> Span:
        """The root of a new trace, or of one that the caller has begun."""
        context = parse_traceparent(traceparent, tracestate) if traceparent else None
        return Span(Trace(context, records_content=self._config.content), name, 0, SERVER, None)

    def end(self, root: Span) -> None:
        """A request is over: keep its trace, or let it go. Never waits."""
        trace = root.trace
        root.ended = root.ended or perf_counter_ns()
        trace.is_over = True
        if self._keeps(trace, root):
            self.num_kept += 1
            self._finishing.put(trace)
        else:
            self.num_passed_over += 1
            # Spans and their trace hold each other: left so, they are work for the collector.
            trace.spans.clear()

    def flush(self) -> None:
        """Wait until what has ended is stored and sent, as far as that goes in a few seconds."""
        self.flush_stored()
        if self._sending is not None:
            self._sending.flush()

    def flush_stored(self) -> None:
        """The same of the store alone."""
        self._finishing.flush()

    def close(self) -> None:
        """Store and send what waits, and end."""
        self._finishing.close()
        if self._sending is not None:
            self._sending.close()
        if self.store is not None:
            self.store.close()

    def _keeps(self, trace: Trace, root: Span) -> bool:
        if outcome_of(trace) in ("failed", "recovered"):
            return True
        is_work = trace.is_work  # the page's own questions are not worth a place
        if is_work and root.ended - root.started >= self._slow_ns:
            return True
        if not is_work or int(trace.trace_id[-14:], 16) & _RATIO_MASK < self._least_id:
            return False
        now = self._now()
        most = max(1.0, self._config.per_second)
        self._allowance = min(most, self._allowance + (now - self._filled_at) * self._config.per_second)
        self._filled_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _finish(self, traces: list[Trace]) -> None:
        """In the background: redact, store, and hand on to be sent."""
        made = [finished(trace, self._redactor) for trace in traces]
        for trace in traces:
            trace.spans.clear()
        if self._sending is not None:
            for each in made:
                self._sending.put(each)
        if self.store is not None:
            self._store(self.store, made)

    def _store(self, store: TraceStore, traces: list[FinishedTrace]) -> None:
        try:
            store.write(traces)
            self._is_failing = False
        except StorageError as error:
            self._finishing.num_dropped += len(traces)
            if not self._is_failing:
                logger.error("%s", error.sentence)
            self._is_failing = True


def make_recorder(config: TelemetryConfig, home: Path, version: str) -> Recorder | None:
    """As a config and the environment say; None when traces are neither stored nor sent."""
    sent = otlp_config(config.endpoint, version)
    store = None
    if config.stored_bytes:
        store = open_store(config, home)
    if store is None and sent is None:
        return None
    return Recorder(config, store, OtlpExporter(sent) if sent is not None else None)


def open_store(config: TelemetryConfig, home: Path) -> TraceStore:
    """The traces of a home."""
    return TraceStore(home / FILE_NAME, max_bytes=config.stored_bytes, max_seconds=config.stored_days * 86400)
