"""What the commands of `cairn index` begin with: the library, and the collections that are meant."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.catalogue import CollectionInfo
    from cairn.retrieval.documents import DocumentInfo

COLLECTION = typer.Argument("", metavar="[COLLECTION]", help="A name or id; otherwise all collections.")


def open_library(registry: "Registry") -> "Library":
    """The collections of a home, telling a person of long work."""
    from cairn.core.progress import console_progress
    from cairn.providers.knowledge import Library

    return Library(registry, progress=console_progress())


def chosen(registry: "Registry", ref: str) -> "list[CollectionInfo]":
    """The collection of a name or id, or all of them."""
    from cairn.retrieval import catalogue

    database = registry.database
    return [catalogue.find_collection(database, ref)] if ref else catalogue.list_collections(database)


def documents_of(registry: "Registry", ref: str) -> "list[DocumentInfo]":
    """The documents of a collection."""
    from cairn.retrieval.catalogue import find_collection
    from cairn.retrieval.documents import find_documents
    from cairn.retrieval.tables import DocumentRow

    info = find_collection(registry.database, ref)
    with registry.database.session(read_only=True) as session:
        return find_documents(session, DocumentRow.collection_id == info.collection_id)
