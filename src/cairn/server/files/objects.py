"""Files and vector stores in OpenAI's shapes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from cairn.core.errors import InvalidRequestError
from cairn.server.body import RequestBody, Strict
from cairn.server.filters import Filter, RankingOptions, Scalar

Status = Literal["in_progress", "completed", "failed", "cancelled"]
Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
_Key = Annotated[str, StringConstraints(max_length=64)]
_Text = Annotated[str, StringConstraints(max_length=512)]
Attributes = Annotated[dict[_Key, bool | float | _Text], Field(max_length=16)]
Metadata = Annotated[dict[_Key, _Text], Field(max_length=16)]
Name = Annotated[str, StringConstraints(max_length=256)]


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    expires_at: None = None


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: Literal[True] = True


class StaticSizes(Strict):
    """Sizes of chunks in tokens; a chunk is never longer than the embedder reads."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _check(self) -> "StaticSizes":
        if 2 * self.chunk_overlap_tokens > self.max_chunk_size_tokens:
            raise InvalidRequestError(
                f"chunk_overlap_tokens is {self.chunk_overlap_tokens}, allowed: at most half of "
                f"max_chunk_size_tokens, {self.max_chunk_size_tokens // 2}",
                param="chunking_strategy.static.chunk_overlap_tokens",
            )
        return self


class AutoChunking(Strict):
    """Chunks as the collection says."""

    type: Literal["auto"]


class StaticChunking(Strict):
    """Chunks of given sizes."""

    model_config = ConfigDict(populate_by_name=True)
    type: Literal["static"] = "static"
    static: StaticSizes


class OtherChunking(BaseModel):
    """How the chunks of a file were made: as the collection says."""

    type: Literal["other"] = "other"


Chunking = Annotated[AutoChunking | StaticChunking, Field(discriminator="type")]


class ExpiresAfter(Strict):
    """How long a vector store is kept after its last use."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class NewVectorStore(RequestBody):
    """`POST /v1/vector_stores`."""

    name: Name | None = None
    description: Annotated[str, StringConstraints(max_length=2000)] | None = None
    file_ids: Annotated[list[str], Field(max_length=2000, default_factory=list)]
    chunking_strategy: Chunking | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class VectorStoreChange(RequestBody):
    """What to change; `expires_after` null: never."""

    name: Name | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class FileCounts(BaseModel):
    """Files by what became of them."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(BaseModel):
    """A collection."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    description: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: ExpiresAfter | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class NewStoreFile(RequestBody):
    """A file to put into a vector store."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class AttributesChange(RequestBody):
    """What a file is said to be from now on."""

    attributes: Attributes | None


class LastError(BaseModel):
    """What is wrong with a file, also of one of which only some pages are found."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFile(BaseModel):
    """A file in a vector store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    status: Status
    last_error: LastError | None
    usage_bytes: int
    attributes: dict[str, Scalar]
    chunking_strategy: StaticChunking | OtherChunking


class NewBatch(RequestBody):
    """Files to put into a vector store together: `file_ids`, or `files` with attributes of their own."""

    file_ids: Annotated[list[str], Field(max_length=2000)] | None = None
    files: Annotated[list[NewStoreFile], Field(max_length=2000)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class FileBatch(BaseModel):
    """Files that were put into a vector store together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Status
    file_counts: FileCounts


class SearchBody(RequestBody):
    """`POST /v1/vector_stores/{id}/search`."""

    query: str | Annotated[list[str], Field(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Filter | None = None
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: Literal[False] = False


class TextContent(BaseModel):
    """A passage."""

    type: Literal["text"] = "text"
    text: str


class SearchResult(BaseModel):
    """A passage that was found; the score runs from 0 to 1."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Scalar]
    content: list[TextContent]


class SearchPage(BaseModel):
    """Passages, the best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None


class ListPage(BaseModel):
    """A page of a list."""

    object: Literal["list"] = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileList(ListPage):
    """Files."""

    data: list[FileObject]


class VectorStoreList(ListPage):
    """Vector stores."""

    data: list[VectorStore]


class VectorStoreFileList(ListPage):
    """Files of a vector store or batch."""

    data: list[VectorStoreFile]


class ContentPage(BaseModel):
    """What was read from a file."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextContent]
    has_more: Literal[False] = False
    next_page: None = None


def sizes_of(chunking: AutoChunking | StaticChunking | None) -> dict[str, Any]:
    """A strategy as it is stored."""
    return chunking.static.model_dump() if isinstance(chunking, StaticChunking) else {}
