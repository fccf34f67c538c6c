"""Cairn's own documentation as a collection that everybody may ask: there at first use, and kept up with it.

It needs the packaged embedder. Who deletes the collection is not given it again.
"""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from cairn.core.digests import digest_bytes
from cairn.core.errors import ConflictError, NotFoundError
from cairn.providers.knowledge import Library, embedder_is_here, indexes_folder
from cairn.registry import Registry
from cairn.retrieval.access import EVERYONE
from cairn.retrieval.catalogue import CollectionInfo, create_collection, find_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.documents import DocumentInfo, find_documents
from cairn.retrieval.incoming import NewDocument
from cairn.retrieval.tables import DocumentRow

OWN_DOCS = "cairn-docs"
_LEFT_OUT = ("log.md",)  # what was tried on the way, beside what is so
_MADE = "cairn-docs.made"
Report = Callable[[int, int], None]


def own_docs_files() -> list[Path]:
    """The pages of the documentation that came with this Cairn, and its README."""
    home = Path(str(files("cairn")))
    pages = [path for path in sorted((home / "docs").glob("*.md")) if path.name not in _LEFT_OUT]
    return [path for path in (home / "README.md", *pages) if path.is_file()]


def bring_own_docs(library: Library, *, owner: str, report: Report = lambda done, total: None) -> None:
    """Make the collection, or bring it up to these pages; nothing where it was deleted or cannot be made."""
    paths = own_docs_files()
    if not paths or not embedder_is_here(library.registry):
        return
    made = indexes_folder(library.registry) / _MADE
    info = _wanted(library.registry, owner, is_first=not made.exists())
    if info is None:
        return
    pages = {path.name: path.read_bytes() for path in paths}
    with library.registry.database.session(read_only=True) as session:
        mine = DocumentRow.collection_id == info.collection_id
        before = {each.source: each for each in find_documents(session, mine)}
    new = [source for source, page in pages.items() if not _is_same(before.get(source), page)]
    # What somebody put beside them stays.
    brought = set(json.loads(made.read_text())) if made.exists() else set()
    gone = [each.document_id for source, each in before.items() if source in brought - pages.keys()]
    if new or gone:
        _bring(library.collection(info.collection_id), library, {each: pages[each] for each in new}, report)
        library.collection(info.collection_id).delete(gone)
    if brought != pages.keys():
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(json.dumps(sorted(pages)))


def _bring(collection: Collection, library: Library, pages: Mapping[str, bytes], report: Report) -> None:
    for done, (source, page) in enumerate(pages.items()):
        report(done, len(pages))
        parsed = library.parsers.parse(page, source)
        collection.put(NewDocument(source=source, original=page, parsed=parsed))


def _wanted(registry: Registry, owner: str, *, is_first: bool) -> CollectionInfo | None:
    """The collection, made when it never was before; None when somebody deleted it."""
    try:
        return find_collection(registry.database, f"{owner}/{OWN_DOCS}")
    except NotFoundError:
        if not is_first:
            return None
    try:
        return create_collection(registry, OWN_DOCS, owner=owner, labels=[EVERYONE])
    except ConflictError:  # another process was faster
        return find_collection(registry.database, f"{owner}/{OWN_DOCS}")


def _is_same(document: DocumentInfo | None, page: bytes) -> bool:
    return document is not None and document.digest == digest_bytes(page)
