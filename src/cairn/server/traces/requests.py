"""The trace of a request: begun with the caller's, if it has one, and named after its route at the end."""

from starlette.types import Scope

from cairn.telemetry import Recorder, Span

TRACE_HEADER = "x-cairn-trace"
"""Where an answer names its trace."""


def begin_request(recorder: Recorder, scope: Scope) -> Span:
    """The root span of a request."""
    parent = state = ""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            parent = value.decode("latin-1")
        elif name == b"tracestate":
            state = value.decode("latin-1")
    return recorder.begin(scope["method"], parent, state)


def end_request(recorder: Recorder, root: Span, scope: Scope, status: int) -> None:
    """Name it, say how it ended, and hand it on."""
    method, route = scope["method"], getattr(scope.get("route"), "path", "")
    root.name = f"{method} {route}" if route else method
    root.trace.status = status
    root.attributes |= {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": scope["scheme"],
        "cairn.request": scope["request_id"],
    }
    if status >= 500 or root.trace.error:
        root.error = root.trace.error or str(status)
    recorder.end(root)
