"""Spans: what took how long within a request, held in memory until it has ended.

Made for the path of every request: a span is two clock readings and an entry in a list (numbers in
docs/telemetry.md). Its parent is handed down by a context variable. A generator must not keep that set while
it yields, so it makes its span with `child`, asks for its first event `with span.active()`, and ends it;
everything else uses the span itself as a context.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import Any, Literal, Self

from cairn.core.errors import CairnError
from cairn.core.ids import random_bits
from cairn.telemetry.context import TraceContext, format_traceparent

Kind = Literal[1, 2, 3]
INTERNAL: Kind = 1
SERVER: Kind = 2
CLIENT: Kind = 3
"""As OpenTelemetry numbers them."""
MOST_SPANS = 512
"""Of one trace; what comes beyond is counted alone."""

Value = str | int | float | bool | list[str]
Attributes = dict[str, Value]


class Trace:
    """The spans of one request here, and what is known of it as a whole."""

    __slots__ = (
        "error",
        "is_over",
        "is_sampled",
        "is_work",
        "key_id",
        "model",
        "num_dropped",
        "parent_id",
        "receipt_id",
        "records_content",
        "spans",
        "started",
        "started_at_ns",
        "state",
        "status",
        "trace_id",
        "user_id",
    )

    def __init__(self, context: TraceContext | None = None, *, records_content: bool = False) -> None:
        if context is None:
            self.trace_id = f"{random_bits(128) or 1:032x}"
            self.parent_id, self.is_sampled, self.state = "", True, ""
        else:
            self.trace_id, self.parent_id = context.trace_id, context.parent_id
            self.is_sampled, self.state = context.is_sampled, context.state
        self.records_content = records_content
        self.spans: list[Span] = []
        self.num_dropped = 0
        self.started_at_ns, self.started = time_ns(), perf_counter_ns()
        self.user_id = self.key_id = self.model = self.receipt_id = self.error = ""
        self.status = 0
        self.is_over = self.is_work = False


class Span:
    """Something that took time. True where it is recorded."""

    __slots__ = (
        "_token",
        "attributes",
        "ended",
        "error",
        "kind",
        "name",
        "parent_id",
        "span_id",
        "started",
        "trace",
    )

    def __init__(
        self, trace: Trace, name: str, parent_id: int, kind: Kind, attributes: Attributes | None
    ) -> None:
        self.trace = trace
        self.name = name
        self.parent_id = parent_id
        self.span_id = random_bits(64) or 1
        self.kind: Kind = kind
        self.attributes: Attributes = {} if attributes is None else attributes
        self.error = ""
        self.ended = 0
        trace.spans.append(self)
        self.started = perf_counter_ns()

    def __bool__(self) -> bool:
        return True

    @property
    def trace_id(self) -> str:
        """Of its trace; empty where nothing is recorded."""
        return self.trace.trace_id

    @property
    def records_content(self) -> bool:
        """Whether what was said may be among the attributes."""
        return self.trace.records_content

    def child(self, name: str, attributes: Attributes | None = None, kind: Kind = INTERNAL) -> "Span":
        """A span within this one, begun now."""
        trace = self.trace
        if trace.is_over or len(trace.spans) >= MOST_SPANS:
            trace.num_dropped += 1
            return NULL
        return Span(trace, name, self.span_id, kind, attributes)

    def add(self, name: str, started: int, ended: int, attributes: Attributes | None = None) -> None:
        """A span within this one that somebody else has timed, by `perf_counter_ns`."""
        if span := self.child(name, attributes):
            span.started, span.ended = started, ended

    def set(self, name: str, value: Value) -> None:
        """Say something of it."""
        self.attributes[name] = value

    def record(self, name: str, content: object) -> None:
        """Say what was said, a `Content`: only where `records_content`, and redacted before it is kept."""
        self.attributes[name] = content  # type: ignore[assignment]  # it becomes text with `finished`

    def note(
        self, *, user_id: str = "", key_id: str = "", model: str = "", receipt_id: str = "", error: str = ""
    ) -> None:
        """Say something of the whole request: its list is searched by that."""
        trace = self.trace
        trace.user_id, trace.key_id = user_id or trace.user_id, key_id or trace.key_id
        trace.model, trace.receipt_id = model or trace.model, receipt_id or trace.receipt_id
        trace.error = error or trace.error
        trace.is_work = trace.is_work or bool(model)

    def fail(self, error: BaseException) -> None:
        """Remember what went wrong, by its stable code: a message may quote what was said."""
        self.error = error_type(error)

    def end(self, error: BaseException | None = None) -> None:
        """It is over; the first time counts."""
        if not self.ended:
            self.ended = perf_counter_ns()
            if error is not None:
                self.fail(error)

    def active(self) -> "AbstractContextManager[object]":
        """What begins meanwhile is within it. Not to be left open over a `yield`."""
        return _Active(self)

    def traceparent(self) -> str:
        """The W3C header for whoever is asked from within it; empty where nothing is recorded."""
        return format_traceparent(
            self.trace.trace_id, f"{self.span_id:016x}", is_sampled=self.trace.is_sampled
        )

    def __enter__(self) -> Self:
        self._token: Token[Span] = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)
        self.end(error)


class _Active:
    """A span for what begins while the context is open."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._span)

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)


class _NullSpan(Span):
    """Where nothing is recorded: all it does is to be there."""

    __slots__ = ()

    def __init__(self) -> None:
        self.trace = Trace()
        self.trace.trace_id = ""

    def __bool__(self) -> bool:
        return False

    def child(self, name: str, attributes: Attributes | None = None, kind: Kind = INTERNAL) -> Span:
        return self

    def add(self, name: str, started: int, ended: int, attributes: Attributes | None = None) -> None: ...

    def set(self, name: str, value: Value) -> None: ...

    def record(self, name: str, content: object) -> None: ...

    def note(self, **_: str) -> None: ...

    def fail(self, error: BaseException) -> None: ...

    def end(self, error: BaseException | None = None) -> None: ...

    def active(self) -> "AbstractContextManager[object]":
        return self

    def traceparent(self) -> str:
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


NULL: Span = _NullSpan()
_CURRENT: ContextVar[Span] = ContextVar("cairn.span", default=NULL)


def current() -> Span:
    """The span that what begins now is within; `NULL` where nothing is recorded."""
    return _CURRENT.get()


def error_type(error: BaseException) -> str:
    """A failure by the code that is stable across releases, or by its class."""
    return error.code if isinstance(error, CairnError) else type(error).__qualname__


def plain(values: Mapping[str, Any]) -> Attributes:
    """Attributes of what is said at all: nothing for None."""
    return {name: value for name, value in values.items() if value is not None}
