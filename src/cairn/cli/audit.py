"""`cairn audit`: read the hash-chained audit log, take it along, and check that nobody changed it."""

import json
import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.artifact import open_registry
from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table
from cairn.core.digests import short

if TYPE_CHECKING:
    from cairn.registry import AuditQuestion

app = typer.Typer(no_args_is_help=True, help="Who changed what: list, export, verify.")

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
ACTOR = typer.Option(None, help="Only what this one did.")
ACTION = typer.Option(None, help="Only this action, or all of a kind: 'key.*'.")
SUBJECT = typer.Option(None, help="Only what was done to this: a user, a key's id, a name.")
TEXT = typer.Option("", "--find", help="Only entries in which this text stands.")
SINCE = typer.Option("", metavar="TIME", help="From then on: 2026-11-23, 2026-11-23T14:30, or 90m, 12h, 7d.")
UNTIL = typer.Option("", metavar="TIME", help="Up to then.")


class Format(StrEnum):
    """Kinds of files."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("ls")
def list_entries(
    limit: int = typer.Option(50, min=1, help="At most this many."),
    after: int = typer.Option(None, min=0, help="Those that follow this entry, instead of the newest."),
    actor: str = ACTOR,
    action: str = ACTION,
    subject: str = SUBJECT,
    text: str = TEXT,
    since: str = SINCE,
    until: str = UNTIL,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the newest entries, oldest first."""
    question = _question(actor, action, subject, text, since, until, after)
    with open_registry() as registry:
        if after is None:
            entries, _ = registry.audit.page(question, limit=limit)
            entries.reverse()
        else:
            entries = [
                entry for entry, _ in zip(registry.audit.matching(question), range(limit), strict=False)
            ]
    if as_json:
        return print_json([entry.plain() for entry in entries])
    rows = [
        {
            "entry": entry.seq,
            "when": human_time(entry.at),
            "action": entry.action,
            "by": entry.actor,
            "subject": _brief(entry.subject),
            "details": _one_line(entry.details),
        }
        for entry in entries
    ]
    columns = ["entry", "when", "action", "by", "subject", "details"]
    return print_table(rows, columns, empty="There is no such entry.")


@app.command()
def export(
    kind: Format = typer.Option(Format.JSONL, "--format", help="JSON lines, or CSV for a spreadsheet."),
    actor: str = ACTOR,
    action: str = ACTION,
    subject: str = SUBJECT,
    text: str = TEXT,
    since: str = SINCE,
    until: str = UNTIL,
) -> None:
    """Write entries to standard output, oldest first."""
    from cairn.registry import audit_csv, audit_jsonl

    write = audit_csv if kind is Format.CSV else audit_jsonl
    with open_registry() as registry:
        for piece in write(registry.audit.matching(_question(actor, action, subject, text, since, until))):
            sys.stdout.write(piece)


def _question(
    actor: str | None,
    action: str | None,
    subject: str | None,
    text: str,
    since: str,
    until: str,
    after: int | None = None,
) -> "AuditQuestion":
    from cairn.registry import AuditQuestion

    return AuditQuestion(
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        actor=actor,
        action=action,
        subject=subject,
        text=text,
        after=after or 0,
    )


def _time(text: str, option: str) -> float | None:
    """A moment of this machine's clock, or so long ago."""
    if not text:
        return None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text):
        return max(0.0, time.time() - float(found[1]) * _UNITS[found[2]])
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; give one such as 2026-11-23T14:30 or 7d", param_hint=option
        ) from None


def _one_line(details: Mapping[str, Any]) -> str:
    """`previous 1f3a9c02d4e5, digest 77aa…`: digests cut short, `-` for null, lists by their length."""
    return ", ".join(f"{key} {_brief(value)}" for key, value in details.items())


def _brief(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return short(value) if value.startswith("sha256:") else value
    return f"({len(value)})" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


@app.command()
def verify(
    head: str = typer.Option(
        "", metavar="COUNT:HASH", help="A head noted earlier; the log must pass through it."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Walk the whole chain.

    Ends with 1 and names the first broken entry when it does not hold.
    """
    from cairn.registry import AuditHead

    with open_registry() as registry:
        found = registry.audit.head()  # first: the chain may grow while it is walked
        count = registry.audit.verify(AuditHead.parse(head) if head else None)
    if as_json:
        return print_json({"ok": True, "count": count, "head": str(found)})
    typer.echo(f"{count} entries, unbroken")
    typer.echo(f"head {found}")
    typer.echo("Note the head elsewhere; later: cairn audit verify --head COUNT:HASH", err=True)
    return None
