"""`cairn group`: who may see the same documents."""

import typer

from cairn.cli.artifact import local_actor, open_registry
from cairn.cli.output import JSON_OPTION, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="Groups, to which documents are opened (group:NAME): add, list, join, leave."
)

GROUP = typer.Argument(metavar="GROUP", help="The name that `cairn group ls` shows.")
USER = typer.Argument(metavar="USER", help="The name that `cairn user ls` shows.")


@app.command()
def add(
    group: str = typer.Argument(metavar="GROUP", help="A name: letters, digits and . _ @ + -"),
    description: str = typer.Option("", help="What it is for."),
) -> None:
    """Add a group, with nobody in it."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        people.add_group(change, group, description)
    typer.echo(f"added {group}", err=True)


@app.command("ls")
def list_groups(as_json: bool = JSON_OPTION) -> None:
    """List groups and who is in them."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).reading() as session:
        found = people.groups(session)
    if as_json:
        return print_json(
            [{"name": row.name, "description": row.description, "members": who} for row, who in found]
        )
    rows = [
        {"group": row.name, "description": row.description or "-", "members": ", ".join(who) or "-"}
        for row, who in found
    ]
    return print_table(
        rows, ["group", "description", "members"], empty="No groups yet. Add one: cairn group add NAME"
    )


@app.command()
def join(group: str = GROUP, user: str = USER) -> None:
    """Put somebody into a group."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        people.join(change, group, user)
    typer.echo(f"{user} is in {group}", err=True)


@app.command()
def leave(group: str = GROUP, user: str = USER) -> None:
    """Take somebody out of a group."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        people.leave(change, group, user)
    typer.echo(f"{user} is no longer in {group}", err=True)
