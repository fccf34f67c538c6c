"""Telemetry: spans of a request from HTTP to the last token, kept on this machine, sent only when told to.

At the level of the library nothing is recorded: `current()` is a span that does nothing until somebody with
a `Recorder` begins a trace. Names and attributes are OpenTelemetry's, of HTTP and of GenAI. Metrics are not
here but where they are counted; nothing here knows a web framework or the catalogue.
"""

from cairn.telemetry.config import TelemetryConfig
from cairn.telemetry.context import TraceContext, parse_traceparent
from cairn.telemetry.recorder import Recorder, make_recorder
from cairn.telemetry.spans import CLIENT, INTERNAL, NULL, SERVER, Span, Trace, current
from cairn.telemetry.store import TraceFilter, TraceStore, TraceSummary

__all__ = [
    "CLIENT",
    "INTERNAL",
    "NULL",
    "SERVER",
    "Recorder",
    "Span",
    "TelemetryConfig",
    "Trace",
    "TraceContext",
    "TraceFilter",
    "TraceStore",
    "TraceSummary",
    "current",
    "make_recorder",
    "parse_traceparent",
]
