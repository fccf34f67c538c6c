"""`cairn limit`: how much may be used, by whom."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.artifact import local_actor, open_registry
from cairn.cli.output import JSON_OPTION, print_json, print_table
from cairn.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from cairn.server.usage.rules import Rule

app = typer.Typer(no_args_is_help=True, help="Limits and budgets: set, list, remove.")

_COLUMNS = ["id", "who", "model", "what", "amount", "action"]


@app.command("ls")
def list_limits(as_json: bool = JSON_OPTION) -> None:
    """List limits and budgets."""
    from cairn.server.usage.rules import stored_rules

    with open_registry() as registry:
        rules = stored_rules(registry)
    if as_json:
        return print_json([{"id": rule.limit_id, **rule.model_dump()} for rule in rules])
    return print_table(
        [_row(rule) for rule in rules],
        _COLUMNS,
        empty="No limits. Set one: cairn limit set 'user:*' requests 60/minute",
    )


@app.command("set")
def set_limit(
    subject: str = typer.Argument(
        metavar="WHO", help="all, user:NAME, group:NAME or key:ID; `*` as the name: each by itself."
    ),
    metric: str = typer.Argument(metavar="WHAT", help="requests, tokens, concurrent or money."),
    amount: str = typer.Argument(
        metavar="AMOUNT", help="60/minute, 100000/day, 12.50/month, 100/total; concurrent: 4."
    ),
    model: str = typer.Option("", help="Only requests for this model."),
    warn: bool = typer.Option(False, "--warn", help="Money: tell, but do not stop."),
) -> None:
    """Set a limit or a budget; one about the same gives way to it. Servers see it within a second."""
    from cairn.core import parse_config
    from cairn.server.usage.rules import Rule, set_rules

    kind, _, name = subject.partition(":")
    number, _, window = amount.partition("/")
    values: dict[str, Any] = {"kind": kind, "name": name, "model": model, "metric": metric, "window": window}
    values |= {"amount": _amount(number, metric), "action": "warn" if warn else "stop"}
    rule = parse_config(Rule, values, source="limit")
    with open_registry() as registry:
        set_rules(registry, [rule], local_actor())
    typer.echo(rule.limit_id)


@app.command("rm")
def remove(limit_id: str = typer.Argument(metavar="ID", help="The id that `cairn limit ls` shows.")) -> None:
    """Let a limit or budget go."""
    from cairn.server.usage.rules import remove_rule

    with open_registry() as registry:
        rule = remove_rule(registry, limit_id, local_actor())
    row = _row(rule)
    typer.echo(f"removed {row['who']} {row['what']} {row['amount']}", err=True)


def _amount(text: str, metric: str) -> int:
    from cairn.server.usage.prices import MICRO

    try:
        value = Decimal(text.replace("_", "")) * (MICRO if metric == "money" else 1)
        if value != int(value):
            raise InvalidOperation
    except (InvalidOperation, ValueError, OverflowError):
        allowed = "a number with at most 6 decimals" if metric == "money" else "a whole number"
        raise InvalidRequestError(f"{text!r} is no amount of {metric}", remedy=f"give {allowed}") from None
    return int(value)


def _row(rule: "Rule") -> dict[str, str]:
    from cairn.server.usage.budgets import money

    number = money(rule.amount) if rule.metric == "money" else f"{rule.amount:,}"
    return {
        "id": rule.limit_id,
        "who": rule.subject_text,
        "model": rule.model or "-",
        "what": rule.metric,
        "amount": f"{number}/{rule.window}" if rule.window else number,
        "action": rule.action,
    }
