"""`cairn up`: serve the page and the APIs."""

from pathlib import Path

import typer


def up(
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8642, min=0, max=65535, help="Port to listen on; 0: any free one."),
    model: str = typer.Option("", help="The model served first; otherwise the latest."),
    open_page: bool = typer.Option(False, "--open", help="Open the page in a browser, signed in."),
    new_key: bool = typer.Option(False, "--new-key", help="Make another admin key and print it."),
    allowed_host: list[str] = typer.Option(
        [], metavar="NAME", help="A name this server is reached by, such as ai.example.org."
    ),
    tls_certificate: Path | None = typer.Option(None, help="PEM file of a certificate: serve HTTPS."),
    tls_key: Path | None = typer.Option(None, help="PEM file of its private key."),
    plain_http: bool = typer.Option(False, "--plain-http", help="Let other machines in without TLS."),
    trust_proxy: bool = typer.Option(
        False, "--trust-proxy", help="Believe the X-Forwarded headers of a proxy on this machine."
    ),
) -> None:
    """Serve the page and the OpenAI-compatible API.

    The first start makes an admin key and prints it once; every start prints a link that signs you in.
    """
    import logging

    from cairn.server.config import ServerConfig
    from cairn.server.startup import serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    config = ServerConfig(
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_host),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        trust_proxy=trust_proxy,
    )
    serve(
        config,
        model=model or None,
        new_key=new_key,
        plain_http=plain_http,
        open_page=open_page,
        say=lambda label, text: typer.echo(f"{label:<6} {text}"),
    )
