"""`cairn trace`: where the time of a request went."""

import time
from typing import TYPE_CHECKING

import typer

from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

if TYPE_CHECKING:
    from cairn.telemetry import TraceStore
    from cairn.telemetry.finished import FinishedSpan

app = typer.Typer(no_args_is_help=True, help="Where the time of requests went: list and show traces.")

ID = typer.Argument(metavar="ID", help="The id that an answer carries in its header x-cairn-trace.")
_BAR = 30


@app.command("ls")
def list_traces(
    days: float = typer.Option(7.0, min=0.0, help="How far back."),
    model: str = typer.Option("", help="Only requests for this model."),
    user: str = typer.Option("", help="Only those of this user."),
    outcome: str = typer.Option("", help="Only those that are ok, recovered, refused, failed or aborted."),
    slower: float = typer.Option(0.0, min=0.0, metavar="SECONDS", help="No faster ones."),
    limit: int = typer.Option(20, min=1, help="How many, newest first."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List recorded requests, newest first; a running server adds to them once a second."""
    from dataclasses import asdict

    from cairn.telemetry import TraceFilter

    only = TraceFilter(
        since=max(0.0, time.time() - days * 86400),
        user_id=user or None,
        model=model or None,
        outcome=outcome or None,
        min_seconds=slower,
    )
    found = _store().listed(only, limit)
    if as_json:
        return print_json([asdict(each) for each in found])
    rows = [
        {
            "trace": each.trace_id,
            "when": human_time(each.at),
            "request": each.name,
            "model": each.model or "-",
            "user": each.user_id or "-",
            "outcome": each.outcome,
            "took": _took(each.seconds),
        }
        for each in found
    ]
    columns = ["trace", "when", "request", "model", "user", "outcome", "took"]
    return print_table(rows, columns, empty="No traces in that time. A server makes them: cairn up")


@app.command()
def show(trace_id: str = ID, as_json: bool = JSON_OPTION) -> None:
    """Show the spans of a trace as bars over time."""
    from dataclasses import asdict

    from cairn.core.errors import NotFoundError

    found = _store().found(trace_id.lower())
    if not found:
        raise NotFoundError(f"there is no trace {trace_id!r}", remedy="list them: cairn trace ls")
    if as_json:
        return print_json([asdict(summary) | {"spans": [*map(asdict, spans)]} for summary, spans in found])
    for summary, _ in found:
        said = f"{summary.outcome} ({summary.error or summary.status})"
        typer.echo(
            f"{human_time(summary.at)}  {summary.name}  {summary.model}  {summary.user_id}  {said}".rstrip()
        )
        if summary.receipt_id:
            typer.echo(f"receipt   {summary.receipt_id}")
    typer.echo()
    spans = [span for _, each in found for span in each]
    began = min(span.started_ns for span in spans)
    whole = max(1, max(span.ended_ns for span in spans) - began)
    for depth, span in _in_order(spans):
        name = f"{'  ' * depth}{span.name}"
        target = span.attributes.get("cairn.target", "")
        error = f"  {span.error}" if span.error else ""
        took = _took((span.ended_ns - span.started_ns) / 1e9)
        typer.echo(f"{name:<36.36} {_bar(span, began, whole)} {took:>8}  {target}{error}".rstrip())
    return None


def _store() -> "TraceStore":
    from cairn.core import Settings
    from cairn.telemetry import TelemetryConfig
    from cairn.telemetry.recorder import open_store

    return open_store(TelemetryConfig(), Settings.from_env().home)


def _in_order(spans: "list[FinishedSpan]") -> "list[tuple[int, FinishedSpan]]":
    """Spans with their depth, each below its parent, by the time they began."""
    known = {span.span_id for span in spans}
    found: list[tuple[int, FinishedSpan]] = []

    def add(parent: str, depth: int) -> None:
        for span in sorted(spans, key=lambda each: each.started_ns):
            if (span.parent_id if span.parent_id in known else "") == parent:
                found.append((depth, span))
                add(span.span_id, depth + 1)

    add("", 0)
    return found


def _bar(span: "FinishedSpan", began: int, whole: int) -> str:
    start = min(_BAR - 1, (span.started_ns - began) * _BAR // whole)
    length = max(1, round((span.ended_ns - span.started_ns) * _BAR / whole))
    return f"{' ' * start}{'━' * min(length, _BAR - start)}".ljust(_BAR)


def _took(seconds: float) -> str:
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"
