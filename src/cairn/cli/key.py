"""`cairn key`: who may use the server."""

import typer

from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="API keys and sign-in links: create, list, revoke.")

USER = typer.Argument("admin", metavar="USER", help="Whose it is; made when new.")


@app.command()
def create(
    user: str = USER, admin: bool = typer.Option(False, "--admin", help="A new user is an administrator.")
) -> None:
    """Make a key and print it, this once."""
    from cairn.registry import Registry
    from cairn.server.identity import Identity

    with Registry.open() as registry:
        identity = Identity(registry.database)
        identity.ensure_admin()
        typer.echo(identity.create_key(user, roles=("admin", "user") if admin else ("user",)))


@app.command("ls")
def list_keys(as_json: bool = JSON_OPTION) -> None:
    """List keys, oldest first; the secrets are not stored."""
    from cairn.registry import Registry
    from cairn.server.identity import Identity

    with Registry.open() as registry:
        keys = Identity(registry.database).list_keys()
    rows = [
        {
            "id": key.key_id,
            "user": key.user_id,
            "created": human_time(key.created_at),
            "revoked": human_time(key.revoked_at) if key.revoked_at else "-",
        }
        for key in keys
    ]
    if as_json:
        return print_json(rows)
    return print_table(
        rows, ["id", "user", "created", "revoked"], empty="No keys yet. Make one: cairn key create"
    )


@app.command()
def revoke(key_id: str = typer.Argument(metavar="ID", help="The id that `cairn key ls` shows.")) -> None:
    """Make a key useless, at once."""
    from cairn.registry import Registry
    from cairn.server.identity import Identity

    with Registry.open() as registry:
        Identity(registry.database).revoke_key(key_id)
    typer.echo(f"revoked {key_id}", err=True)


@app.command()
def link(
    user: str = USER,
    address: str = typer.Option("http://127.0.0.1:8642", help="Where the server is."),
) -> None:
    """Print a link that signs a user in, once."""
    from cairn.core.errors import NotFoundError
    from cairn.registry import Registry
    from cairn.server.config import ServerConfig
    from cairn.server.identity import Identity

    with Registry.open() as registry:
        identity = Identity(registry.database)
        if user not in {key.user_id for key in identity.list_keys()}:
            raise NotFoundError(f"no user {user!r}", remedy=f"make one: cairn key create {user}")
        seconds = ServerConfig().sign_in_link_seconds
        token = identity.create_sign_in_token(user, seconds=seconds)
    typer.echo(f"{address.rstrip('/')}/sign-in?token={token}")
