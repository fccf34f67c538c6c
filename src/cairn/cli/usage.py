"""`cairn usage`: what was used, and what it cost."""

import time

import typer

from cairn.cli.output import JSON_OPTION, human_seconds, print_json, print_table

_ONLY = ("model", "user", "key", "group")


def usage(
    by: str = typer.Option(
        "day",
        help="Any of hour, day, model, target, user, key, group, endpoint, outcome; day,model.",
    ),
    days: float = typer.Option(7.0, min=0.0, help="How far back."),
    model: str = typer.Option("", help="Only requests for this model."),
    user: str = typer.Option("", help="Only those of this user."),
    key: str = typer.Option("", help="Only those with this key, by its id."),
    group: str = typer.Option("", help="Only those of this group's members."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show requests, tokens, cost and time over the last days; a running server adds to it twice a second."""
    from cairn.registry import Registry
    from cairn.server.usage import report
    from cairn.server.usage.budgets import money
    from cairn.server.usage.prices import Prices

    now = time.time()
    only = {name: value for name, value in zip(_ONLY, (model, user, key, group), strict=True) if value}
    question = report.Question(max(0.0, now - days * 86400), now, report.dimensions(by), only)
    with Registry.open() as registry:
        currency = Prices(registry.settings.home / "prices.toml").currency
        found = report.report(registry.database, question, currency)
    if as_json:
        return print_json(found.model_dump())
    if as_csv:
        return typer.echo(report.as_csv(found), nl=False)
    lines = found.lines or ([report.UsageLine(**found.total.model_dump())] if found.total.requests else [])
    rows = [
        {name: getattr(line, name) or "-" for name in found.by}
        | {
            "requests": line.requests,
            "refused": line.refused,
            "tokens in": line.prompt_tokens,
            "cached": line.cached_tokens,
            "tokens out": line.completion_tokens,
            f"cost {currency}": money(line.cost),
            "p50": human_seconds(line.seconds_p50 or 0.0),
        }
        for line in lines
    ]
    columns = list(rows[0]) if rows else []
    return print_table(rows, columns, empty="Nothing was used in that time.")
