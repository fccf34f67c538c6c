"""`cairn audit`: read the hash-chained audit log and check that nobody changed it."""

import json
from collections.abc import Mapping
from typing import Any

import typer

from cairn.cli.artifact import open_registry
from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table
from cairn.core.digests import short

app = typer.Typer(no_args_is_help=True, help="Who named, imported or removed what: list, verify.")


@app.command("ls")
def list_entries(
    limit: int = typer.Option(50, min=1, help="At most this many."),
    after: int = typer.Option(None, min=0, help="Those that follow this entry, instead of the newest."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the newest entries, oldest first."""
    with open_registry() as registry:
        entries = registry.audit.entries(limit, after)
    if as_json:
        return print_json(
            [
                {
                    "seq": entry.seq,
                    "at": entry.at,
                    "action": entry.action,
                    "actor": entry.actor,
                    "subject": entry.subject,
                    "details": entry.details,
                    "hash": entry.hash,
                }
                for entry in entries
            ]
        )
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
    return print_table(rows, columns, empty="The audit log is empty.")


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
