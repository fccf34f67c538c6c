"""`cairn route`: model names as routes. What is in force, whether the file is right, and a try."""

import time
from typing import Any

import typer

from cairn.cli.output import JSON_OPTION, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Routes: names that requests ask for, and who answers.")

ADDRESS = typer.Option("", help="A server elsewhere, with its key in CAIRN_API_KEY.")
_FAILING = 0.5
"""Share of errors from which a target that is still asked is no longer called well."""
_NONE = "No routes yet. Write routes.toml in the home folder: docs/routing.md"


@app.command("ls")
def list_routes(address: str = ADDRESS, as_json: bool = JSON_OPTION) -> None:
    """List the routes that a running server has in force, with how each target is doing."""
    from cairn.cli.server_client import server_client
    from cairn.registry import Registry

    with Registry.open() as registry, server_client(registry, address) as server:
        found = server.ask("/api/routes")
    if as_json:
        return print_json(found)
    for problem in found["problems"]:
        typer.echo(
            f"line {problem['line']}: {problem['message']} (the routes before stay in force)", err=True
        )
    rows = [
        {
            "route": route["name"],
            "target": target["name"],
            "as": _role(route, target),
            "state": _state(target),
            "under way": target["outstanding"],
            "requests": target["num_requests"],
            "errors": "-" if target["error_rate"] is None else f"{100 * target['error_rate']:.0f} %",
            "p50": _seconds(target["p50_seconds"]),
            "p99": _seconds(target["p99_seconds"]),
        }
        for route in found["routes"]
        for target in route["targets"]
    ]
    columns = ["route", "target", "as", "state", "under way", "requests", "errors", "p50", "p99"]
    return print_table(rows, columns, empty=_NONE)


@app.command()
def check(
    offline: bool = typer.Option(False, "--offline", help="Only read the file; ask no provider."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check the file, and ask every provider for its models: is it there, does it take the key.

    Ends with 1 when something is wrong.
    """
    import asyncio

    from cairn.core import Settings
    from cairn.server.routing.config import FILE_NAME, load_routes

    path = Settings.from_env().home / FILE_NAME
    config = load_routes(path)
    rows: list[dict[str, Any]] = []
    if not offline:
        rows = [asyncio.run(_checked(name, provider, config)) for name, provider in config.providers.items()]
    if as_json:
        print_json({"path": str(path), "routes": list(config.routes), "providers": rows})
    else:
        typer.echo(f"{path}: {len(config.routes)} routes, {len(config.providers)} providers", err=True)
        if rows:
            print_table(rows, ["provider", "state", "found", "remedy"], empty="")
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(1)


@app.command("test")
def try_route(
    name: str = typer.Argument(metavar="NAME", help="The route, or any model."),
    prompt: str = typer.Argument("Say hello.", metavar="PROMPT", help="What to ask."),
    address: str = ADDRESS,
    as_json: bool = JSON_OPTION,
) -> None:
    """Ask a running server once, and say which target answered and how long it took."""
    from cairn.cli.server_client import server_client
    from cairn.registry import Registry

    body = {"model": name, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
    with Registry.open() as registry, server_client(registry, address) as server:
        started = time.perf_counter()
        answer = server.ask("/v1/chat/completions", body)
        seconds = time.perf_counter() - started
    target = answer["cairn"].get("target") or name
    text = answer["choices"][0]["message"]["content"] or ""
    if as_json:
        return print_json({"target": target, "seconds": seconds, "text": text, **answer["cairn"]})
    typer.echo(f"{target} answered in {seconds:.2f} s (receipt {answer['cairn']['receipt']})", err=True)
    return typer.echo(text)


async def _checked(name: str, provider: Any, config: Any) -> dict[str, Any]:
    from cairn.core.errors import CairnError
    from cairn.providers.remote import make_remote_provider

    async def no_receipt(_receipt: Any) -> None:
        return None

    wanted = {
        target.model
        for route in config.routes.values()
        for target in (*route.targets, *(part.target for part in (route.canary, route.shadow) if part))
        if target.provider == name
    }
    try:
        remote = make_remote_provider(name, provider, "", no_receipt)
        try:
            models = await remote.check()
        finally:
            await remote.upstream.aclose()
    except CairnError as error:
        return {"provider": name, "state": "broken", "found": error.message, "remedy": error.remedy}
    if missing := sorted(wanted - set(models)):
        found = f"{len(models)} models, not among them: {', '.join(missing)}"
        return {"provider": name, "state": "missing", "found": found, "remedy": "check the names of models"}
    return {"provider": name, "state": "ok", "found": f"{len(models)} models", "remedy": ""}


def _role(route: dict[str, Any], target: dict[str, Any]) -> str:
    if target["role"] == "canary":
        return f"canary {route['canary_percent']:g} %"
    if target["role"] == "shadow":
        return f"shadow {route['shadow_percent']:g} %"
    return str(route["strategy"]).replace("_", " ")


def _state(target: dict[str, Any]) -> str:
    if target["state"] == "closed":
        if (target["error_rate"] or 0) >= _FAILING and not target["wait_seconds"]:
            return "failing"
        return "well" if not target["wait_seconds"] else f"resting {target['wait_seconds']:.0f} s"
    return "being tried" if target["state"] == "half_open" else f"left alone {target['wait_seconds']:.0f} s"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.0f} ms"
