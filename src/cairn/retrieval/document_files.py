"""The artifact of a document: the file as it came, and what was read in it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from cairn.data.parsing import ParsedDocument, ParsedFile, dump_document, load_document
from cairn.registry import Artifact, Registry
from cairn.retrieval.documents import DocumentInfo, document_id
from cairn.retrieval.incoming import NewDocument

_ORIGINAL, _PARSED = "original", "parsed.jsonl"


def store_document(registry: Registry, document: NewDocument) -> Artifact:
    """Make the artifact of a document, or find the one there is."""
    metadata = {"media_type": document.parsed.media_type, "title": document.parsed.title}
    with registry.create("document", metadata=metadata) as writer:
        if isinstance(document.original, bytes):
            (writer.folder / _ORIGINAL).write_bytes(document.original)
        else:
            shutil.copyfile(document.original, writer.folder / _ORIGINAL)
        with (writer.folder / _PARSED).open("wb") as file:
            file.writelines(dump_document(document.parsed))
    return writer.artifact


def original_of(registry: Registry, document: DocumentInfo) -> Path:
    """The file with a document's bytes; the caller has asked whether they may be read."""
    return registry.get(document.artifact).folder / _ORIGINAL


def parsed_file(registry: Registry, document: DocumentInfo) -> ParsedFile:
    """The same as `parse_of`, page by page from disk."""
    return ParsedFile.open(registry.get(document.artifact).folder / _PARSED)


def parse_of(registry: Registry, document: DocumentInfo) -> ParsedDocument:
    """A document's text, blocks and pages; the caller has asked whether they may be read."""
    with (registry.get(document.artifact).folder / _PARSED).open("rb") as file:
        return load_document(file)


def describe(
    document: NewDocument,
    artifact: Artifact,
    collection_id: str,
    labels: Sequence[str],
    least_confidence: float,
) -> DocumentInfo:
    """What the catalogue keeps of a document."""
    pages = document.parsed.pages
    skipped = [page.number for page in pages if page.confidence < least_confidence]
    original = next(entry for entry in artifact.files if entry.path == _ORIGINAL)
    return DocumentInfo(
        document_id=document_id(collection_id, document.source),
        collection_id=collection_id,
        source=document.source,
        digest=f"sha256:{original.sha256}",
        artifact=artifact.digest,
        title=document.parsed.title,
        media_type=document.parsed.media_type,
        size=original.size,
        modified_at=document.modified_at,
        labels=tuple(labels),
        status="ready" if not skipped else "partial" if len(skipped) < len(pages) else "unreadable",
        problems=tuple(problem for page in pages for problem in page.problems),
        num_pages=len(pages),
        skipped_pages=tuple(skipped),
        chunk_tokens=document.chunk_tokens,
        overlap_tokens=document.overlap_tokens,
        updated_at=0.0,
    )
