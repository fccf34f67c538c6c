"""`cairn index ls`, `stats` and `rm`: what is in collections, and taking it out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.index.opening import COLLECTION, NAME, chosen, documents_of, meant, open_library
from cairn.cli.output import JSON_OPTION, human_bytes, human_time, print_json, print_table
from cairn.core.errors import NotFoundError

if TYPE_CHECKING:
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import CollectionInfo
    from cairn.retrieval.documents import DocumentInfo


def list_collections(collection: str = COLLECTION, as_json: bool = JSON_OPTION) -> None:
    """List collections, or the documents of one."""
    from cairn.registry import Registry

    with Registry.open() as registry:
        if collection:
            documents = documents_of(registry, meant(registry, collection))
            if as_json:
                return print_json([asdict(each) for each in documents])
            rows = [_document_row(each) for each in documents]
            columns = ["document", "status", "pages", "skipped", "size", "allowed"]
            return print_table(rows, columns, empty=f"{collection} is empty; cairn index add PATH")
        rows = [_collection_row(registry, info) for info in chosen(registry, "")]
    if as_json:
        return print_json(rows)
    shown = [
        row
        | {
            "size": human_bytes(row["size"]),
            "created": human_time(row["created"]),
            "allowed": ", ".join(row["allowed"]),
        }
        for row in rows
    ]
    columns = ["name", "owner", "documents", "passages", "size", "allowed", "created"]
    return print_table(shown, columns, empty="No collections yet; cairn index add PATH")


def rm(
    collection: str = NAME,
    documents: list[str] = typer.Argument(
        None, metavar="[DOCUMENT]...", help="Names as cairn index ls COLLECTION shows them; otherwise all."
    ),
    yes: bool = typer.Option(False, "--yes", help="Delete a whole collection without asking."),
) -> None:
    """Delete documents from a collection, or all of it; the files they came from stay."""
    from cairn.registry import Registry
    from cairn.retrieval.documents import discard_artifacts, remove_documents

    with Registry.open() as registry:
        info = meant(registry, collection)
        held = {each.source: each for each in documents_of(registry, info)}
        if not documents:
            if not yes:
                whose = f"{info.owner}/{info.name}"
                typer.confirm(f"Delete {whose} with {len(held)} documents?", abort=True, err=True)
            open_library(registry).delete(info.collection_id, actor="local")
            return typer.echo(f"deleted {collection}", err=True)
        unknown = [each for each in documents if each not in held]
        if unknown:
            raise NotFoundError(
                f"{collection} has no document {unknown[0]!r}",
                remedy=f"list them: cairn index ls {collection}",
            )
        with registry.database.writing() as session:
            freed = remove_documents(session, [held[each].document_id for each in documents])
        discard_artifacts(registry, freed)
    typer.echo(f"deleted {len(documents)} from {collection}", err=True)
    parts = {each: PurePosixPath(each).parts for each in documents}
    kept = [each for each in documents if len(parts[each]) > 1 and parts[each][0] in info.config.folders]
    if kept:
        typer.echo(
            f"  the next sync brings back what is still in its folder: {', '.join(kept[:3])}"
            + (" …" if len(kept) > 3 else ""),
            err=True,
        )
    return None


def stats(collection: str = COLLECTION, as_json: bool = JSON_OPTION) -> None:
    """Counts, space on disk, and every page that was not indexed, with the reason."""
    from cairn.registry import Registry

    with Registry.open() as registry:
        rows = [
            {**_collection_row(registry, info), "problems": _problems(documents_of(registry, info))}
            for info in chosen(registry, collection)
        ]
    if as_json:
        return print_json(rows)
    for row in rows:
        problems = row.pop("problems")
        row |= {name: human_bytes(row[name]) for name in ("size", "index")}
        row |= {"created": human_time(row["created"]), "allowed": ", ".join(row["allowed"])}
        row["folders"] = ", ".join(row["folders"])
        fields = [{"field": name, "value": value} for name, value in row.items() if value != ""]
        print_table(fields, ["field", "value"], empty="")
        if problems:
            print_table(problems, ["document", "page", "problem", "indexed", "message"], empty="")
    if not rows:
        typer.echo("No collections yet; cairn index add PATH", err=True)
    return None


def _collection_row(registry: "Registry", info: "CollectionInfo") -> dict[str, Any]:
    from cairn.providers.knowledge import index_bytes
    from cairn.retrieval.catalogue import collection_stats

    counts = collection_stats(registry.database, info.collection_id)
    return {
        "name": info.name,
        "owner": info.owner,
        "id": info.collection_id,
        "documents": counts.num_documents,
        "unreadable": counts.num_unreadable,
        "pages": counts.num_pages,
        "skipped pages": counts.num_skipped_pages,
        "passages": counts.num_chunks,
        "size": counts.num_bytes,
        "index": index_bytes(registry, info.collection_id),
        "embedder": info.config.embedder,
        **_spaces(registry, info),
        **_recall(registry, info),
        "folders": list(info.config.folders.values()),
        "allowed": list(info.labels),
        "created": info.created_at,
    }


def _spaces(registry: "Registry", info: "CollectionInfo") -> dict[str, Any]:
    """The spaces beside the one that answers."""
    from cairn.retrieval.catalogue import collection_stats
    from cairn.retrieval.spaces import num_lacking, spaces_of

    beside = {}
    total = collection_stats(registry.database, info.collection_id).num_chunks
    with registry.database.session(read_only=True) as session:
        for role, space in spaces_of(session, info.collection_id).items():
            if role != "active":
                done = total - num_lacking(session, info.collection_id, space.space_id)
                beside[f"{role} embedder"] = f"{space.embedder}, {done} of {total} passages"
    return beside


def _recall(registry: "Registry", info: "CollectionInfo") -> dict[str, Any]:
    """What the monitor found, and the alarm as long as it lasts."""
    from cairn.retrieval.recall import recalls

    seen = recalls(registry.database).get(info.collection_id)
    if seen is None:
        return {}
    row: dict[str, Any] = {"recall": round(seen.recall, 4), "recall samples": seen.num_samples}
    if seen.is_low:
        row["alarm"] = f"recall is below {seen.least}; cairn index check {seen.collection} --rebuild"
    return row


def _document_row(info: "DocumentInfo") -> dict[str, Any]:
    return {
        "document": info.source,
        "status": info.status,
        "pages": info.num_pages,
        "skipped": len(info.skipped_pages),
        "size": human_bytes(info.size),
        "allowed": ", ".join(info.labels) or "nobody",
    }


def _problems(documents: "Sequence[DocumentInfo]") -> list[dict[str, Any]]:
    return [
        {
            "document": info.source,
            "page": problem.page,
            "problem": problem.kind,
            "indexed": "no" if problem.page in info.skipped_pages else "yes",
            "message": problem.message,
        }
        for info in documents
        for problem in info.problems
    ]
