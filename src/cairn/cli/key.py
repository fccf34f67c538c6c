"""`cairn key`: who may use the server."""

import time
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.artifact import local_actor, open_registry
from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

if TYPE_CHECKING:
    from cairn.server.tables import KeyRow

app = typer.Typer(no_args_is_help=True, help="API keys and sign-in links: create, list, rotate, revoke.")

USER = typer.Argument("admin", metavar="USER", help="Whose it is; made when new.")
KEY = typer.Argument(metavar="ID", help="The id that `cairn key ls` shows.")


@app.command()
def create(
    user: str = USER,
    admin: bool = typer.Option(False, "--admin", help="A new user is an administrator."),
    role: list[str] = typer.Option([], help="A role of a new user; may be given again. Otherwise member."),
    name: str = typer.Option("", help="What it is for."),
    scope: list[str] = typer.Option(
        [], help="A permission that it is narrowed to (cairn user roles lists them); may be given again."
    ),
    model: list[str] = typer.Option([], help="A model that it is for; may be given again. Otherwise all."),
    days: float = typer.Option(None, min=0.0001, help="How long it is good; otherwise until it is revoked."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a key and print it, this once."""
    from cairn.server.identity import Identity

    roles = tuple(role) or (("admin", "member") if admin else ("member",))
    with open_registry() as registry:
        identity = Identity(registry.database)
        identity.ensure_admin()
        key = identity.create_key(
            user,
            roles=roles,
            name=name,
            scopes=scope or None,
            models=model or None,
            seconds=None if days is None else days * 86400,
            actor=local_actor(),
        )
    if as_json:
        return print_json({"id": key.split("_")[1], "user": user, "key": key})
    typer.echo(key)
    return None


@app.command("ls")
def list_keys(user: str = typer.Option("", help="Only this user's."), as_json: bool = JSON_OPTION) -> None:
    """List keys, oldest first; the secrets are not stored."""
    from cairn.server.identity import Identity

    with open_registry() as registry:
        keys = Identity(registry.database).list_keys()
    rows = [_row(key) for key in keys if user in ("", key.user_id)]
    if as_json:
        return print_json(rows)
    columns = [
        "id",
        "user",
        "name",
        "state",
        "scopes",
        "models",
        "created",
        "expires",
        "last used",
        "revoked",
    ]
    return print_table(rows, columns, empty="No keys yet. Make one: cairn key create")


def _row(key: "KeyRow") -> dict[str, Any]:
    from cairn.server.identity.keys import state_of_key

    return {
        "id": key.key_id,
        "user": key.user_id,
        "name": key.name,
        "state": state_of_key(key),
        "scopes": "all" if key.scopes is None else ", ".join(key.scopes),
        "models": "all" if key.models is None else ", ".join(key.models),
        "created": human_time(key.created_at),
        "expires": human_time(key.expires_at) if key.expires_at else "-",
        "last used": human_time(key.last_used_at) if key.last_used_at else "-",
        "revoked": human_time(key.revoked_at) if key.revoked_at else "-",
    }


@app.command()
def rotate(
    key_id: str = KEY,
    overlap: float = typer.Option(24.0, min=0, help="Hours for which the old secret stays good."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a key a new secret and print it, this once; id, scopes and expiry stay."""
    from cairn.server.identity import Identity, keys

    with open_registry() as registry, Identity(registry.database).changing(local_actor()) as change:
        row = keys.find(change.session, key_id)
        key = keys.rotate(change, row, overlap_seconds=overlap * 3600)
        until = row.old_expires_at or time.time()
    if as_json:
        return print_json({"id": key_id, "key": key, "old_until": until})
    typer.echo(key)
    typer.echo(f"the old one is good until {human_time(until)}", err=True)
    return None


@app.command()
def revoke(key_id: str = KEY) -> None:
    """Make a key useless: a running server knows within seconds."""
    from cairn.server.identity import Identity

    with open_registry() as registry:
        Identity(registry.database).revoke_key(key_id, actor=local_actor())
    typer.echo(f"revoked {key_id}", err=True)


@app.command()
def link(
    user: str = USER,
    address: str = typer.Option(
        "", metavar="URL", help="Where the server is; otherwise the one that runs on this machine."
    ),
) -> None:
    """Print a link that signs a user in, once."""
    from cairn.server.config import ServerConfig
    from cairn.server.identity import Identity, people
    from cairn.server.running import running_servers

    with open_registry() as registry:
        identity = Identity(registry.database)
        identity.ensure_admin()
        with identity.reading() as session:
            people.find(session, user)
        config = ServerConfig()
        token = identity.create_sign_in_token(user, seconds=config.sign_in_link_seconds)
        if not address:
            found = running_servers(registry.settings.home)
            address = found[0] if found else f"http://{config.host}:{config.port}"
    typer.echo(f"{address.rstrip('/')}/sign-in?token={token}")
