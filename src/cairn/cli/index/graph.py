"""`cairn index graph`: what the passages of a collection speak of, and what goes together."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.index.opening import NAME, open_collection, open_library
from cairn.cli.output import JSON_OPTION, print_json, print_table
from cairn.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from cairn.core.chat import Principal
    from cairn.registry import Registry
    from cairn.retrieval.collection import Collection

_SHOWN_NAMES = 5


def graph(
    collection: str = NAME,
    entities: bool = typer.Option(False, "--entities", help="List entities, those that tell most first."),
    communities: bool = typer.Option(False, "--communities", help="List communities with their summaries."),
    model: str = typer.Option("", help="The chat model that reads, where the setting graph is model."),
    limit: int = typer.Option(30, min=1, max=1000, help="Most entities or communities."),
    user: str = typer.Option("", help="List only what this user may see; otherwise the administrator."),
    group: list[str] = typer.Option([], help="A group that user is in; may be given again."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build or update the graph of a collection: only what changed is read.

    Names are found by their capitals and terms by their words, without a model; with graph=model a chat model
    reads what it has not read yet. Searches walk over it where the setting says so.
    """
    from cairn.cli.acting import acting_as
    from cairn.core.progress import console_progress
    from cairn.registry import Registry
    from cairn.server.identity.permissions import Permission

    if entities and communities:
        raise InvalidRequestError(
            "--entities and --communities at once, allowed: one of them", remedy="ask for one, then the other"
        )
    with Registry.open() as registry, open_library(registry) as library:
        opened = open_collection(library, collection)
        num_read = opened.graph.update(progress=console_progress())
        written = _written(registry, opened, model)
        reader = acting_as(registry, user, group, Permission.READ_KNOWLEDGE)
        if entities:
            return _show_entities(opened, reader, limit, as_json=as_json)
        if communities:
            return _show_communities(opened, reader, limit, as_json=as_json)
        found = {"passages read": num_read, **_stats(opened), **written}
    if as_json:
        return print_json(found)
    rows = [{"field": name, "value": value} for name, value in found.items()]
    return print_table(rows, ["field", "value"], empty="")


def _written(registry: "Registry", collection: "Collection", model: str) -> dict[str, Any]:
    """Write communities, after the passages were read by a chat model where the collection says so."""
    from cairn.cli.chat import load_chat_model
    from cairn.core.chat import Principal
    from cairn.core.progress import console_progress
    from cairn.providers.answering import can_write
    from cairn.providers.graph_reading import GraphModel
    from cairn.retrieval.graph.reading import reread
    from cairn.retrieval.graph.writing import write_communities
    from cairn.server.identity import ADMIN

    info = collection.info
    if info.config.graph != "model":
        if model:
            raise InvalidRequestError(
                f"{info.name} is not read by a model", remedy=f"cairn index set {info.name} graph=model"
            )
        report = write_communities(collection, progress=console_progress())
        return {"communities written": report.num_written}
    provider = load_chat_model(registry, model)
    try:
        if not can_write(registry, provider.artifact_digest):
            typer.echo(f"{provider.name} is too small to read passages; statistics do", err=True)
            report = write_communities(collection, progress=console_progress())
            return {"communities written": report.num_written}
        reader = GraphModel(provider, info.collection_id, Principal(ADMIN))
        done = reread(registry.database, info.collection_id, reader.name, reader.read, console_progress())
        report = write_communities(
            collection, writer=reader.name, summarise=reader.summarise, progress=console_progress()
        )
    finally:
        provider.close()
    return {
        "read by the model": done.num_read,
        "left to statistics": done.num_failed,
        "communities written": report.num_written,
    }


def _stats(collection: "Collection") -> dict[str, Any]:
    """Of the whole graph, whoever may see what of it."""
    from cairn.retrieval.graph.writing import list_communities

    view = collection.graph.view(None)
    return {
        "collection": collection.info.name,
        "passages": len(view.chunk_ids),
        "names": int(view.is_name.sum()),
        "terms": int((~view.is_name).sum()),
        "relations": len(view.related[0]),
        "aliases": len(view.aliases),
        "communities": len(list_communities(collection, None)),
        "searches walk": "yes" if collection.info.config.graph else "no",
    }


def _show_entities(collection: "Collection", reader: "Principal", limit: int, *, as_json: bool) -> None:
    from cairn.retrieval.graph.listing import list_entities

    found = list_entities(collection, reader, limit)
    if as_json:
        return print_json([asdict(each) for each in found])
    rows = [
        {
            "entity": each.name,
            "kind": each.kind,
            "passages": each.num_passages,
            "goes with": ", ".join(each.related),
        }
        for each in found
    ]
    return print_table(
        rows, ["entity", "kind", "passages", "goes with"], empty="No entities that you may see"
    )


def _show_communities(collection: "Collection", reader: "Principal", limit: int, *, as_json: bool) -> None:
    from cairn.retrieval.graph.writing import list_communities

    found = list_communities(collection, reader)[:limit]
    if as_json:
        return print_json([asdict(each) for each in found])
    for each in found:
        typer.echo(typer.style(", ".join(each.names[:_SHOWN_NAMES]), bold=True))
        typer.echo(f"    {len(each.chunk_ids)} passages, by {each.writer}, for {', '.join(each.labels)}")
        typer.echo(f"    {each.summary}\n")
    if not found:
        typer.echo("No communities that you may see", err=True)
    return None
