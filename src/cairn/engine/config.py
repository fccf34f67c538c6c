"""Configuration of the engine: how much it holds at once, and how it cuts its work into steps."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field, model_validator

from cairn.core import Config

Weights = Literal["auto", "float32", "bfloat16", "fp8", "int8", "int4"]


class ShareConfig(Config):
    """What a user, or everyone in a role, gets of an engine that many use."""

    user: str = Field(default="", description="user it holds for")
    role: str = Field(default="", description="role it holds for; without user and role: everyone")
    weight: float = Field(
        default=1.0, gt=0, le=1000, description="how much of places, time and KV pool beside others"
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="lower is served first, whatever others were given"
    )
    kv_share: float | None = Field(
        default=None, gt=0, le=1, description="part of the KV pool that is each one's own; empty: by weight"
    )

    def fits(self, user: str, roles: Collection[str]) -> bool:
        """Whether it holds for a user in these roles."""
        return self.user in ("", user) and (not self.role or self.role in roles)


class EngineConfig(Config):
    """Limits of one engine. The defaults suit a small model on a CPU."""

    block_size: int = Field(default=16, ge=1, le=1024, description="tokens per block of the KV cache")
    num_blocks: int | None = Field(
        default=None, ge=1, description="blocks of the KV pool; empty: from kv_cache_bytes"
    )
    kv_cache_bytes: int | None = Field(
        default=None,
        ge=1,
        description="size of the KV pool; empty: what max_num_seqs full contexts need, "
        "at most half of the memory that is free once the weights are in",
    )
    max_num_seqs: int = Field(default=64, ge=1, le=4096, description="sequences computed in one step")
    token_budget: int = Field(
        default=256, ge=1, description="tokens computed in one step; prompts are cut into chunks to fit"
    )
    max_model_len: int | None = Field(
        default=None, ge=1, description="longest context, prompt and output; empty: the model's own"
    )
    max_waiting: int = Field(
        default=256,
        ge=0,
        description="requests that may wait before new ones are refused; several tenants have a part each",
    )
    fair_credit: int = Field(
        default=262144,
        ge=0,
        description="tokens that a tenant who asks for less than its share saves up, to be given before "
        "others when it needs more; about what the machine does in some minutes",
    )
    fair_chunk: int = Field(
        default=32,
        ge=1,
        description="prompt tokens that a tenant who was given much more than others may add to a step in "
        "which they compute; about as many as double the time of a small step",
    )
    shares: tuple[ShareConfig, ...] = Field(
        default=(), description="what users and roles get beside others; the first that fits holds"
    )
    lookup_tokens: int = Field(
        default=16,
        ge=0,
        le=256,
        description="most tokens guessed ahead from a sequence's own text, which changes no answer; 0: none",
    )
    draft_model: str | None = Field(
        default=None,
        description="a smaller model of the same vocabulary that guesses ahead, which changes no answer",
    )
    draft_tokens: int = Field(default=8, ge=1, le=64, description="most tokens guessed ahead by draft_model")
    weights: Weights = Field(
        default="auto",
        description="how the weights are kept: auto (float32 up to 2 GB, else bfloat16), float32, bfloat16, "
        "or rounded to int8 (on a CPU), fp8 (on a GPU) or int4, which is faster and less exact",
    )
    adapter_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        description="memory for low-rank adapters; the longest unused leaves when another needs its room",
    )
    prefix_cache: bool = Field(default=True, description="reuse the KV blocks of equal prompt beginnings")

    def share_of(self, user: str, roles: Collection[str]) -> ShareConfig:
        """What a user in these roles gets."""
        return next((share for share in self.shares if share.fits(user, roles)), ShareConfig())

    @model_validator(mode="after")
    def _budget_covers_decodes(self) -> "EngineConfig":
        if self.token_budget < self.max_num_seqs:
            raise ValueError(
                f"token_budget {self.token_budget} is below max_num_seqs {self.max_num_seqs}: every running "
                "sequence needs one token a step"
            )
        return self
