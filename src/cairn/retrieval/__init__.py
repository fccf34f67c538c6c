"""retrieval: collections of documents, found by words and meaning, and only by those who may see them.

`Collection` holds documents and keeps an index up with them, `CollectionRetriever` searches, `build_context`
makes the text a model answers from; `retrieval.sync` keeps a folder in a collection.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cairn.retrieval.catalogue import create_collection, delete_collection, list_collections
    from cairn.retrieval.collection import Collection
    from cairn.retrieval.config import CollectionConfig
    from cairn.retrieval.context import Context, build_context
    from cairn.retrieval.encoders import Encoders
    from cairn.retrieval.incoming import NewDocument
    from cairn.retrieval.index_folder import IndexFolder
    from cairn.retrieval.search import CollectionRetriever, SearchOptions

# An index alone, as the stores and their benchmarks use it, needs no database.
_HOMES = {
    **dict.fromkeys(("create_collection", "delete_collection", "list_collections"), "catalogue"),
    **dict.fromkeys(("Context", "build_context"), "context"),
    **dict.fromkeys(("CollectionRetriever", "SearchOptions"), "search"),
    "Collection": "collection",
    "CollectionConfig": "config",
    "Encoders": "encoders",
    "IndexFolder": "index_folder",
    "NewDocument": "incoming",
}

__all__ = [
    "Collection",
    "CollectionConfig",
    "CollectionRetriever",
    "Context",
    "Encoders",
    "IndexFolder",
    "NewDocument",
    "SearchOptions",
    "build_context",
    "create_collection",
    "delete_collection",
    "list_collections",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
