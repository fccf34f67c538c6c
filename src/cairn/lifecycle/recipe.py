"""The recipe: a TOML file that says everything about a model, from the texts to its name.

Strict: an unknown key is an error with a suggestion. One table a stage; what a stage is keyed
by is its table (`stages` holds the rest). `docs/settings.md` is made from the descriptions here.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from cairn.core import Config
from cairn.data.pipeline import PipelineConfig
from cairn.training import TrainConfig


class TextSource(Config):
    """Texts to learn from: a named data set, or files beside the recipe."""

    dataset: str = Field(default="", description="name of a data set (`cairn data ls`)")
    path: str = Field(default="", description="file or glob instead of a data set, relative to the recipe")
    licence: str = Field(default="", description="licence of the files of `path`, for the card")
    attribution: str = Field(default="", description="whom to credit for the files of `path`, for the card")
    held_out_every: int = Field(
        default=0,
        ge=0,
        description="hold out every n-th file of `path`, sorted; 0: none (a data set has its own rule)",
    )
    held_out_share: float = Field(
        default=0.0, ge=0, lt=1, description="hold out this share of the files of `path`, from the end"
    )
    limit: int = Field(default=0, ge=0, description="train on the first n documents only; 0: all")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.dataset) == bool(self.path):
            raise ValueError("give exactly one of dataset and path")
        if self.dataset and (self.held_out_every or self.held_out_share):
            raise ValueError("a data set has its own rule for what is held out (`cairn data show`)")
        return self

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.dataset or Path(self.path).name


class DataStage(Config):
    """Texts, cleaned, without duplicates and without anything that is held out."""

    sources: list[TextSource] = Field(min_length=1, description="where the texts come from")
    passage_characters: int = Field(
        default=4000,
        ge=200,
        description="long documents are cut at paragraphs into passages of about this size for filtering; "
        "what stays is joined again in order",
    )
    filters: PipelineConfig = Field(
        default=PipelineConfig(languages=("en",)),
        description="cleaning, quality rules, duplicates, held-out runs",
    )
    decontaminate: list[str] = Field(
        default=[], description="data sets whose texts must not occur, besides what is held out"
    )


class TokenizerStage(Config):
    """A byte-level BPE learnt from the training texts."""

    vocab_size: int = Field(default=4096, ge=300, le=262144, description="entries, special tokens included")


class ModelStage(Config):
    """Shape of the decoder."""

    family: Literal["llama", "qwen3"] = Field(
        default="qwen3", description="llama, or qwen3 (queries and keys are normed)"
    )
    hidden_size: int = Field(default=288, ge=8, description="width of the residual stream")
    num_layers: int = Field(default=6, ge=1, description="transformer layers")
    num_heads: int = Field(default=6, ge=1, description="query heads")
    num_kv_heads: int | None = Field(default=None, ge=1, description="key-value heads; unset: num_heads")
    head_dim: int | None = Field(default=None, ge=2, description="width of a head; unset: hidden / heads")
    intermediate_size: int = Field(default=768, ge=8, description="width of the gated MLP")
    context: int = Field(default=512, ge=16, description="longest sequence in tokens")
    rope_theta: float = Field(default=10000.0, gt=0, description="base of the rotary positions")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.kv_heads}")
        return self

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def width_of_head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_heads


class InstructionSource(Config):
    """Instructions with answers: a named data set or a JSON Lines file."""

    dataset: str = Field(default="", description="name of a data set (`cairn data ls`)")
    path: str = Field(
        default="", description="JSON or JSONL file of {instruction, input?, output}, relative to the recipe"
    )
    licence: str = Field(default="", description="licence of the file of `path`, for the card")
    attribution: str = Field(default="", description="whom to credit for the file of `path`, for the card")
    limit: int = Field(default=0, ge=0, description="use only the first n; 0: all")
    repeat: int = Field(default=1, ge=1, description="times each is shown per epoch")
    held_out_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the rows of `path` held out, from the end (a data set has its own rule)",
    )
    max_characters: int = Field(
        default=1500, ge=1, description="drop instructions that are longer than this, answer included"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.dataset) == bool(self.path):
            raise ValueError("give exactly one of dataset and path")
        return self

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.dataset or Path(self.path).name


class InstructionsStage(Config):
    """What the chat model is taught to answer."""

    sources: list[InstructionSource] = Field(min_length=1, description="where the instructions come from")
    replay_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of plain training text among what sft trains on"
    )


class EvaluateStage(Config):
    """Held-out scores and samples."""

    max_held_out_bytes: int = Field(
        default=0, ge=0, description="score at most this much held-out text, from the start; 0: all"
    )
    sources: list[str] = Field(
        default=[], description="score only held-out texts of these sources; none: all"
    )
    ngram_order: int = Field(default=5, ge=1, le=7, description="order of the Kneser-Ney baseline")
    num_instructions: int = Field(default=60, ge=0, description="held-out instructions to answer")
    max_reply_tokens: int = Field(default=160, ge=1, description="longest reply")
    prompts: list[str] = Field(
        default=["Tell me a story about a fox and a crow."],
        description="prompts of the samples in report and card",
    )
    beginnings: list[str] = Field(
        default=["Once upon a time"], description="texts for the base model to continue in the report"
    )
    temperature: float = Field(default=0.7, ge=0, description="temperature of the samples")
    seed: int = Field(default=0, ge=0, description="seed of the samples")


class ReleaseStage(Config):
    """The name under which the finished model can be used."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the model")
    alias: str = Field(default="latest", description="alias to move to it")
    title: str = Field(default="", description="heading of the card; empty: the name")
    intended_use: str = Field(default="", description="what it is for, for the card")
    limits: list[str] = Field(default=[], description="what it cannot do, for the card, a sentence each")
    max_bytes: int = Field(
        default=0, ge=0, description="most bytes the finished model may have with its tokenizer; 0: no limit"
    )


class Recipe(Config):
    """A whole recipe."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the recipe, in runs and reports"
    )
    description: str = Field(default="", description="one line on what it makes")
    seed: int = Field(default=0, ge=0, description="seed of the initial weights")
    data: DataStage = Field(description="texts")
    tokenizer: TokenizerStage = Field(default=TokenizerStage(), description="tokenizer")
    model: ModelStage = Field(default=ModelStage(), description="shape of the decoder")
    pretrain: TrainConfig = Field(description="next-token training on the texts")
    instructions: InstructionsStage = Field(description="instructions for the chat model")
    sft: TrainConfig = Field(description="supervised training on the instructions")
    evaluate: EvaluateStage = Field(default=EvaluateStage(), description="scores and samples")
    release: ReleaseStage = Field(description="name of the finished model")
