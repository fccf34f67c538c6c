"""OTLP/HTTP: traces as protobuf to a receiver such as a collector, Jaeger or Tempo.

Written by hand: `opentelemetry.proto.collector.trace.v1` of spans alone is five messages, which need neither
the SDK nor protobuf's runtime. Held against the official classes by tests/telemetry/test_otlp.py. The
variables are OpenTelemetry's own; of its protocols only `http/protobuf` is spoken.
"""

import gzip
import logging
import os
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from cairn.core.errors import ConfigError
from cairn.telemetry.finished import FinishedSpan, FinishedTrace
from cairn.telemetry.spans import Value

logger = logging.getLogger("cairn.telemetry")

_RETRIED = frozenset({429, 502, 503, 504})
_TRIES = 4
_MOST_WAIT = 30.0
_ERROR = 2
_HAS_REMOTE, _IS_REMOTE = 0x100, 0x200
_PREFIX = "OTEL_EXPORTER_OTLP_"


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """Where traces are sent, and how."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 10.0
    is_compressed: bool = False
    resource: Mapping[str, str] = field(default_factory=dict)


def otlp_config(endpoint: str, version: str, env: Mapping[str, str] | None = None) -> OtlpConfig | None:
    """From a setting and OpenTelemetry's variables; None when nothing says where to."""
    env = os.environ if env is None else env
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None

    def said(name: str) -> str:
        return env.get(f"{_PREFIX}TRACES_{name}") or env.get(f"{_PREFIX}{name}", "")

    url = env.get(f"{_PREFIX}TRACES_ENDPOINT", "")
    if base := endpoint or ("" if url else env.get(f"{_PREFIX}ENDPOINT", "")):
        url = f"{base.rstrip('/')}/v1/traces"
    if not url:
        return None
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(
            f"traces cannot be sent to {url!r}", remedy="give an address such as http://localhost:4318"
        )
    if (protocol := said("PROTOCOL") or "http/protobuf") != "http/protobuf":
        raise ConfigError(
            f"{_PREFIX}PROTOCOL is {protocol!r}, allowed: http/protobuf",
            remedy=f"set {_PREFIX}TRACES_PROTOCOL=http/protobuf, and the receiver's port for HTTP (4318)",
        )
    resource = {"service.name": "cairn", "service.version": version} | _pairs(
        env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    )
    if name := env.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    timeout = said("TIMEOUT")
    return OtlpConfig(
        url,
        headers=_pairs(said("HEADERS")),
        seconds=int(timeout) / 1000 if timeout.isdigit() and int(timeout) else 10.0,
        is_compressed=said("COMPRESSION") == "gzip",
        resource=resource,
    )


class OtlpExporter:
    """Sends batches; one that is refused for the moment is sent again, one that fails for good is lost."""

    def __init__(self, config: OtlpConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._sleep = sleep
        self._is_failing = False
        self.num_sent = self.num_failed = 0

    def export(self, traces: Sequence[FinishedTrace]) -> None:
        """Send traces, with patience; the log says once that it fails, and once that it works again."""
        body = encode(traces, self._config.resource)
        headers = {"content-type": "application/x-protobuf", **self._config.headers}
        if self._config.is_compressed:
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        request = urllib.request.Request(self._config.url, body, headers, method="POST")
        for attempt in range(_TRIES):
            problem, wait = self._send(request)
            if not problem:
                self.num_sent += len(traces)
                if self._is_failing:
                    logger.warning("traces reach %s again", self._config.url)
                self._is_failing = False
                return
            if wait is None or attempt == _TRIES - 1:
                break
            self._sleep(min(wait or 2.0**attempt, _MOST_WAIT))
        self.num_failed += len(traces)
        if not self._is_failing:
            logger.warning("traces do not reach %s: %s", self._config.url, problem)
        self._is_failing = True

    def _send(self, request: urllib.request.Request) -> tuple[str, float | None]:
        """What went wrong, and the seconds after which to try again; None: it would do no good."""
        try:
            with _OPENER.open(request, timeout=self._config.seconds) as answer:
                answer.read(100_000)
            return "", None
        except urllib.error.HTTPError as error:
            with error:
                after = error.headers.get("retry-after", "")
            wait = (float(after) if after.isdigit() else 0.0) if error.code in _RETRIED else None
            return f"it answers {error.code}", wait
        except (OSError, ValueError) as error:
            return str(getattr(error, "reason", error)), 0.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None is followed: the headers may hold a key."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def encode(traces: Sequence[FinishedTrace], resource: Mapping[str, str]) -> bytes:
    """An `ExportTraceServiceRequest`."""
    described = b"".join(_message(1, _attribute(name, value)) for name, value in resource.items())
    scope = _text(1, "cairn") + _text(2, resource.get("service.version", ""))
    spans = b"".join(_message(2, _span(trace, span)) for trace in traces for span in trace.spans)
    return _message(1, _message(1, described) + _message(2, _message(1, scope) + spans))


def _span(trace: FinishedTrace, span: FinishedSpan) -> bytes:
    is_root = span.span_id == trace.root_id
    flags = int(trace.is_sampled) | (_HAS_REMOTE | _IS_REMOTE if is_root and trace.parent_id else _HAS_REMOTE)
    parts = [
        _bytes(1, bytes.fromhex(trace.trace_id)),
        _bytes(2, bytes.fromhex(span.span_id)),
        _text(3, trace.state),
        _bytes(4, bytes.fromhex(span.parent_id)),
        _text(5, span.name),
        _number(6, span.kind),
        _fixed64(7, span.started_ns),
        _fixed64(8, span.ended_ns),
        *(_message(9, _attribute(name, value)) for name, value in span.attributes.items()),
        struct.pack("<BBI", 16 << 3 & 0x7F | 0x80 | 5, 16 << 3 >> 7, flags),
    ]
    if span.error:
        parts.append(_message(9, _attribute("error.type", span.error)))
        parts.append(_message(15, _number(3, _ERROR)))
    return b"".join(parts)


def _attribute(name: str, value: Value) -> bytes:
    return _text(1, name) + _message(2, _value(value))


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _message(1, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10" + _varint(int(value))
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return _message(5, b"".join(_message(1, _value(each)) for each in value))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _message(place: int, content: bytes) -> bytes:
    return _varint(place << 3 | 2) + _varint(len(content)) + content


def _bytes(place: int, content: bytes) -> bytes:
    return _message(place, content) if content else b""


def _text(place: int, text: str) -> bytes:
    return _bytes(place, text.encode("utf-8", "replace"))


def _number(place: int, number: int) -> bytes:
    return _varint(place << 3) + _varint(number)


def _fixed64(place: int, number: int) -> bytes:
    return _varint(place << 3 | 1) + struct.pack("<Q", number)


def _pairs(text: str) -> dict[str, str]:
    """`a=b,c=d`, percent-encoded, as OpenTelemetry's variables have it."""
    found = {}
    for part in text.split(","):
        name, is_pair, value = part.partition("=")
        if is_pair and name.strip():
            found[unquote(name.strip())] = unquote(value.strip())
    return found
