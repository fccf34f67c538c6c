"""What the commands of `cairn index` begin with: the library, and the collections that are meant."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import CollectionInfo
    from cairn.retrieval.collection import Collection
    from cairn.retrieval.documents import DocumentInfo

COLLECTION = typer.Argument(
    "", metavar="[COLLECTION]", help="A name, OWNER/NAME or an id; otherwise all collections."
)
NAME = typer.Argument(metavar="COLLECTION", help="A name, OWNER/NAME or an id.")


def open_library(registry: "Registry") -> "Library":
    """The collections of a home, telling a person of long work."""
    from cairn.core.progress import console_progress
    from cairn.providers.knowledge import Library

    return Library(registry, progress=console_progress())


def chosen(registry: "Registry", ref: str) -> "list[CollectionInfo]":
    """The collection of a name or id, or all of them."""
    from cairn.retrieval import catalogue

    return [meant(registry, ref)] if ref else catalogue.list_collections(registry.database)


def meant(registry: "Registry", ref: str, *, owner: str = "") -> "CollectionInfo":
    """The collection of a reference, an own one first (the administrator's, unless told whose); tells."""
    from cairn.retrieval import catalogue
    from cairn.server.identity import ADMIN

    info = catalogue.find_collection(registry.database, ref, owner=owner or ADMIN)
    if ref == info.name:
        everything = catalogue.list_collections(registry.database)
        others = [f"{each.owner}/{each.name}" for each in everything if each.name == ref and each != info]
        if others:
            typer.echo(f"{ref} is {info.owner}/{ref} here; there is also {', '.join(others)}", err=True)
    return info


def open_collection(library: "Library", ref: str) -> "Collection":
    """The open collection of a reference."""
    return library.collection(meant(library.registry, ref).collection_id)


def documents_of(registry: "Registry", info: "CollectionInfo") -> "list[DocumentInfo]":
    """The documents of a collection."""
    from cairn.retrieval.documents import find_documents
    from cairn.retrieval.tables import DocumentRow

    with registry.database.session(read_only=True) as session:
        return find_documents(session, DocumentRow.collection_id == info.collection_id)
