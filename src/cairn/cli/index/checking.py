"""`cairn index check`, `rebuild`, `set` and `queries`: whether an index is right, and making it so."""

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.index.opening import NAME, meant, open_collection, open_library
from cairn.cli.output import JSON_OPTION, print_json, print_table
from cairn.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from cairn.retrieval.checking import Check
    from cairn.retrieval.collection import Collection

_SET_ELSEWHERE = {"embedder": "cairn index reembed", "folders": "cairn index add FOLDER"}


def check(
    collection: str = NAME,
    queries: Path = typer.Option(None, help="Queries to measure with; otherwise those kept, or passages."),
    samples: int = typer.Option(200, min=1, help="At most so many."),
    rebuild: bool = typer.Option(False, "--rebuild", help="Make the index anew when it is not sound."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Hold the index against the database, and its search against an exact one.

    Exit code 1 when something is wrong and was not mended.
    """
    from cairn.registry import Registry

    with Registry.open() as registry, open_library(registry) as library:
        opened = open_collection(library, collection)
        found = _checked(opened, queries, samples)
        was_rebuilt = rebuild and not found.is_sound
        if was_rebuilt:
            opened.rebuild()
            found = _checked(opened, queries, samples)
        name = opened.info.name
    row = {"collection": name, **asdict(found), "sound": found.is_sound, "rebuilt": was_rebuilt}
    if as_json:
        print_json(row)
    else:
        print_table(
            [{"what": key, "value": value} for key, value in row.items()], ["what", "value"], empty=""
        )
    if not found.is_sound:
        if found.num_without_vector:
            typer.echo(f"  passages lack vectors: cairn index rebuild {name}", err=True)
        elif not was_rebuilt:
            typer.echo(f"  make the index anew: cairn index check {name} --rebuild", err=True)
        raise typer.Exit(1)


def rebuild(
    collection: str = NAME,
    parse: bool = typer.Option(False, "--parse", help="Read the kept files anew too."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Cut and embed every document anew from what is kept of it; it is searched the while."""
    from cairn.core.progress import console_progress
    from cairn.registry import Registry
    from cairn.retrieval.checking import rebuild_documents

    with Registry.open() as registry, open_library(registry) as library:
        opened = open_collection(library, collection)
        parsers = library.parsers if parse else None
        done = rebuild_documents(opened, parsers=parsers, progress=console_progress())
        opened.rebuild()
        name = opened.info.name
    if as_json:
        return print_json({"collection": name, **asdict(done)})
    skipped = f", {len(done.skipped)} changed meanwhile" if done.skipped else ""
    return typer.echo(f"{name}: {len(done.documents)} documents made anew{skipped}", err=True)


def set_config(
    collection: str = NAME,
    settings: list[str] = typer.Argument(
        metavar="SETTING=VALUE...", help="As docs/settings.md has them, such as keep_queries=200."
    ),
) -> None:
    """Change settings of a collection; what concerns chunks holds for documents put from now on."""
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import change_collection

    given: dict[str, Any] = {}
    for each in settings:
        key, is_there, value = each.partition("=")
        if not is_there:
            raise InvalidRequestError(f"{each!r} sets nothing", remedy="write it as SETTING=VALUE")
        if key in _SET_ELSEWHERE:
            raise InvalidRequestError(f"{key!r} is not set so", remedy=_SET_ELSEWHERE[key])
        given[key] = _value(value)
    with Registry.open() as registry:
        info = change_collection(registry, meant(registry, collection).collection_id, config=given)
    typer.echo(f"{info.name}: {', '.join(settings)}", err=True)


def queries(
    collection: str = NAME,
    forget: bool = typer.Option(False, "--forget", help="Delete them."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show the queries that a collection keeps (setting `keep_queries`), newest first."""
    from cairn.registry import Registry
    from cairn.retrieval.asked import delete_queries, kept_queries

    with Registry.open() as registry:
        info = meant(registry, collection)
        if forget:
            delete_queries(registry.database, info.collection_id)
            return typer.echo(f"{info.name}: forgot its queries", err=True)
        found = kept_queries(registry.database, info.collection_id)
    if as_json:
        return print_json(found)
    empty = f"none is kept: cairn index set {info.name} keep_queries=200"
    return print_table([{"query": each} for each in found], ["query"], empty=empty)


def _checked(collection: "Collection", queries: Path | None, samples: int) -> "Check":
    from cairn.core.progress import console_progress
    from cairn.data.judged import read_queries
    from cairn.retrieval.asked import kept_queries
    from cairn.retrieval.checking import check

    if queries is not None:
        texts = list(read_queries(queries).texts.values())
    else:
        texts = kept_queries(collection.database, collection.info.collection_id)
    return check(collection, texts, is_given=queries is not None, most=samples, progress=console_progress())


def _value(text: str) -> Any:
    """A value as TOML has it; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
