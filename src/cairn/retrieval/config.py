"""How a collection cuts, finds and orders; kept with it in the catalogue."""

from typing import Literal

from pydantic import Field

from cairn.core import Config

Fusion = Literal["reciprocal", "calibrated"]


class CollectionConfig(Config):
    """Settings of one collection. What concerns chunks holds for documents that are put after a change."""

    embedder: str = Field(default="all-minilm-l6-v2", description="name of the model that embeds chunks")
    chunk_tokens: int = Field(
        default=0,
        ge=0,
        description="most tokens of a chunk with the headings above it; 0: as many as the embedder reads",
    )
    overlap_tokens: int = Field(
        default=32, ge=0, description="tokens that a chunk may repeat from the one before it"
    )
    least_confidence: float = Field(
        default=0.5, ge=0, le=1, description="pages below it are counted and shown, never indexed"
    )
    candidates: int = Field(
        default=100, ge=1, le=10_000, description="chunks that each kind of search brings before fusion"
    )
    fusion: Fusion = Field(
        default="calibrated", description="by scores brought to one scale, or by rank alone"
    )
    feedback: float = Field(
        default=0.6,
        ge=0,
        le=10,
        description="how far the query's vector moves towards the best two passages (Rocchio 1971) before "
        "vectors are searched again; 0: not at all",
    )
    reranked: int = Field(
        default=30, ge=0, description="best of the fused that the reranker reads, when there is one"
    )
    diversity: float = Field(
        default=0.0, ge=0, le=1, description="how much a passage loses for being like those above it"
    )
    graph: bool | Literal["model"] = Field(
        default=False,
        description="whether searches also walk from passage to passage by what they speak of; `model`: as a "
        "chat model reads them, where `cairn index graph` has had it do so",
    )
    recall_share: float = Field(
        default=0.01, ge=0, le=1, description="share of the searches that are compared with an exact one"
    )
    least_recall: float = Field(
        default=0.95, ge=0, le=1, description="share of the nearest that the search shall find; less is told"
    )
    keep_queries: int = Field(
        default=0, ge=0, le=10_000, description="newest queries that are kept, without who asked them"
    )
    folders: dict[str, str] = Field(
        default={}, description="folders that syncing keeps in it, by what their documents' names begin with"
    )
