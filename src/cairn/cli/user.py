"""`cairn user`: people and service accounts, their passwords and roles."""

import sys
from dataclasses import asdict

import typer

from cairn.cli.artifact import local_actor, open_registry
from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="People and service accounts: add, list, password, roles, disable."
)

USER = typer.Argument(metavar="USER", help="The name that `cairn user ls` shows.")


@app.command()
def add(
    user: str = typer.Argument(metavar="USER", help="A name: letters, digits and . _ @ + -"),
    role: list[str] = typer.Option(["member"], help="A role; may be given again. Of a program: service."),
    name: str = typer.Option("", help="The name that is shown."),
    email: str = typer.Option("", help="An e-mail address, which signs in like the name."),
) -> None:
    """Add somebody. A password is set by `cairn user passwd`, a key made by `cairn key create`."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry:
        identity = Identity(registry.database)
        identity.ensure_admin()
        with identity.changing(local_actor()) as change:
            people.add(change, user, roles=role, display_name=name, email=email or None)
    typer.echo(f"added {user} ({', '.join(sorted(set(role)))})", err=True)


@app.command("ls")
def list_users(as_json: bool = JSON_OPTION) -> None:
    """List everybody by name."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).reading() as session:
        found = people.listed(session)
    if as_json:
        return print_json([asdict(each) for each in found])
    rows = [
        {
            "user": each.user_id,
            "name": each.display_name,
            "e-mail": each.email or "-",
            "roles": ", ".join(each.roles),
            "groups": ", ".join(each.groups) or "-",
            "state": "disabled" if each.is_disabled else "active",
        }
        for each in found
    ]
    columns = ["user", "name", "e-mail", "roles", "groups", "state"]
    return print_table(rows, columns, empty="Nobody yet. Add somebody: cairn user add NAME")


@app.command()
def show(user: str = USER, as_json: bool = JSON_OPTION) -> None:
    """Show somebody: roles, groups, permissions, keys and sessions."""
    from cairn.core.chat import Principal
    from cairn.server.identity import Identity, keys, people, sessions
    from cairn.server.identity.permissions import permissions_of

    with open_registry() as registry, Identity(registry.database).reading() as session:
        found = people.person(session, people.find(session, user))
        num_keys = sum(keys.is_good(key) for key in keys.listed(session, owner=user))
        num_sessions = len(sessions.listed(session, user))
    permissions = sorted(permissions_of(Principal(user, roles=frozenset(found.roles))))
    if as_json:
        more = {"permissions": permissions, "num_keys": num_keys, "num_sessions": num_sessions}
        return print_json(asdict(found) | more)
    facts = {
        "user": found.user_id,
        "name": found.display_name or "-",
        "e-mail": found.email or "-",
        "roles": ", ".join(found.roles),
        "groups": ", ".join(found.groups) or "-",
        "state": "disabled" if found.is_disabled else "active",
        "password": "set" if found.has_password else "none",
        "good keys": num_keys,
        "sessions": num_sessions,
        "added": human_time(found.created_at),
        "may": ", ".join(permissions),
    }
    rows = [{"field": field, "value": value} for field, value in facts.items()]
    return print_table(rows, ["field", "value"], empty="")


@app.command()
def disable(user: str = USER) -> None:
    """Let nobody in under a name: sessions end, keys are useless until it is enabled again."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        people.disable(change, people.find(change.session, user))
    typer.echo(f"disabled {user}", err=True)


@app.command()
def enable(user: str = USER) -> None:
    """Let a disabled user in again."""
    from cairn.server.identity import Identity, people

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        people.enable(change, people.find(change.session, user))
    typer.echo(f"enabled {user}", err=True)


@app.command()
def passwd(user: str = USER) -> None:
    """Set a password, asked for twice, or the first line of what is piped in; all sessions end."""
    from cairn.server.identity import Identity, passwords, people

    with open_registry() as registry:
        identity = Identity(registry.database)
        with identity.reading() as session:
            people.find(session, user)
        given = (
            str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
            if sys.stdin.isatty()
            else sys.stdin.readline().rstrip("\r\n")
        )
        hashed = passwords.hashed(given, user_id=user)
        with identity.changing(local_actor()) as change:
            people.set_password(change, people.find(change.session, user), hashed)
    typer.echo(f"password of {user} set", err=True)


@app.command()
def roles(
    user: str = typer.Argument("", metavar="[USER]", help="Whose; without one, the table of permissions."),
    role: list[str] = typer.Argument(None, metavar="[ROLE]...", help="The roles from now on."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Give somebody other roles, or show what each role may do."""
    from cairn.server.identity import Identity, people

    if not user:
        return _show_table(as_json)
    with open_registry() as registry:
        identity = Identity(registry.database)
        if role:
            with identity.changing(local_actor()) as change:
                people.set_roles(change, people.find(change.session, user), role)
        with identity.reading() as session:
            held = people.find(session, user).roles
    if as_json:
        return print_json({"user": user, "roles": held})
    typer.echo(", ".join(held))
    return None


def _show_table(as_json: bool) -> None:
    from cairn.server.identity.permissions import MEANING, ROLES

    if as_json:
        return print_json({role: sorted(held) for role, held in ROLES.items()})
    rows = [
        {"permission": str(permission)}
        | {role: "yes" if permission in held else "-" for role, held in ROLES.items()}
        | {"to": meaning}
        for permission, meaning in MEANING.items()
    ]
    return print_table(rows, ["permission", *ROLES, "to"], empty="")
