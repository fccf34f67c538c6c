"""Documents on their way into a collection: cut into chunks, and embedded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cairn.data.parsing import Parsed
from cairn.registry import Database
from cairn.retrieval.chunking import Chunk, chunk_document
from cairn.retrieval.config import CollectionConfig
from cairn.retrieval.documents import Vectors
from cairn.retrieval.encoders import Encoders, embed_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A parsed document on its way into a collection."""

    source: str
    original: bytes | Path
    """Its bytes, or the file that holds them and does not change any more."""
    parsed: Parsed
    labels: Sequence[str] | None = None
    """Who may see it; None: as the document did before, else as the collection says."""
    modified_at: float = 0.0
    chunk_tokens: int | None = None
    """Other than the collection's."""
    overlap_tokens: int | None = None
    replaces: str | None = None
    """The artifact that must still be the document's, or it is left as it is; None: whatever it was."""


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document with its chunks and their vectors [chunks, dimensions] in each space."""

    document: NewDocument
    chunks: Sequence[Chunk]
    vectors: Mapping[int, Vectors]


def cut(
    parsed: Parsed,
    config: CollectionConfig,
    encoders: Encoders,
    chunk_tokens: int | None = None,
    overlap_tokens: int | None = None,
) -> list[Chunk]:
    """The chunks of a document; what is given goes before the collection's own settings."""
    given = {"chunk_tokens": chunk_tokens, "overlap_tokens": overlap_tokens}
    config = config.model_copy(update={name: value for name, value in given.items() if value is not None})
    budget = encoders.budget(config)
    return list(
        chunk_document(
            parsed,
            budget=budget,
            overlap=min(config.overlap_tokens, budget // 4),
            least_confidence=config.least_confidence,
            count=encoders.count_tokens,
        )
    )


def prepare(
    database: Database,
    config: CollectionConfig,
    spaces: Mapping[int, Encoders],
    batch: Sequence[NewDocument],
    *,
    anew: bool = False,
) -> list[PreparedDocument]:
    """Cut documents for the first of the spaces, and embed them together for all."""
    active = next(iter(spaces))
    chunked = [
        cut(each.parsed, config, spaces[active], each.chunk_tokens, each.overlap_tokens) for each in batch
    ]
    chunks = [chunk for each in chunked for chunk in each]
    vectors = {
        space_id: embed_chunks(encoders, database, space_id, chunks, truncate=space_id != active, anew=anew)
        for space_id, encoders in spaces.items()
    }
    prepared, start = [], 0
    for document, mine in zip(batch, chunked, strict=True):
        part = slice(start, start + len(mine))
        of_spaces = {space_id: each[part] for space_id, each in vectors.items()}
        prepared.append(PreparedDocument(document, mine, of_spaces))
        start += len(mine)
    return prepared
