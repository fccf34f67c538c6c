"""What a training run is told and what it reports. Imports no torch, so that plans can use it."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cairn.core import Config

# Changing these in the middle of a run changes nothing that is learned, so a run may resume with others.
FREE_TO_CHANGE = (
    "eval_every",
    "eval_tokens",
    "log_every",
    "checkpoint_every_seconds",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "max_skipped_steps",
    "threads",
)


class TrainConfig(Config):
    """One training run. Exactly one of `steps`, `tokens` and `epochs` says how long it is."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps to train for")
    tokens: int | None = Field(
        default=None, ge=1, description="tokens to train for, rounded up to whole steps"
    )
    epochs: float | None = Field(default=None, gt=0, description="passes over the data to train for")
    batch_tokens: int = Field(default=16384, ge=1, description="tokens per optimizer step")
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens per forward pass; gradients add up over batch_tokens / this; unset: batch_tokens",
    )
    max_document: int | None = Field(
        default=None, ge=1, description="longest piece of a document in tokens; unset: the model's context"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    final_learning_rate: float = Field(
        default=0.1, ge=0, le=1, description="learning rate at the end, as a share of the peak"
    )
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="adamw, or muon for the hidden matrices with adamw for embeddings, head and norms",
    )
    schedule: Literal["cosine", "wsd", "constant"] = Field(
        default="cosine",
        description="learning rate after the warm-up: cosine decay, warm-up/stable/decay, or constant",
    )
    warmup_steps: int | None = Field(
        default=None, ge=0, description="steps of linear warm-up; unset: 2 % of the run"
    )
    decay_share: float = Field(
        default=0.2, gt=0, le=1, description="share of the run that a wsd schedule spends decaying"
    )
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled weight decay of the matrices")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="decay of AdamW's second moment")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's guard against division by zero")
    muon_momentum: float = Field(default=0.95, ge=0, lt=1, description="Nesterov momentum of Muon")
    grad_clip: float | None = Field(
        default=1.0, gt=0, description="largest global gradient norm; unset: no clipping"
    )
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of the squared log-partition penalty (PaLM, 2022)"
    )
    aux_loss: float | None = Field(
        default=None,
        ge=0,
        description="weight of the load-balancing loss of mixture-of-experts models; unset: the model's own",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="type of weights and activations in the forward pass (the optimizer keeps float32); "
        "auto: bfloat16 where the hardware multiplies it, else float32",
    )
    checkpoint_activations: bool = Field(
        default=False, description="recompute each layer in the backward pass: less memory, a third slower"
    )
    loss_chunk_tokens: int = Field(
        default=512, ge=1, description="tokens whose logits exist at the same time"
    )
    eval_every: int | None = Field(
        default=None, ge=1, description="steps between validations; unset: only at the end"
    )
    eval_tokens: int | None = Field(
        default=None, ge=1, description="validation tokens to use, from the start; unset: all"
    )
    log_every: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    checkpoint_every_seconds: float | None = Field(
        default=600.0, gt=0, description="seconds between checkpoints; unset: by steps only"
    )
    checkpoint_every_steps: int | None = Field(
        default=None, ge=1, description="steps between checkpoints; unset: by seconds only"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints to keep")
    max_skipped_steps: int = Field(
        default=10,
        ge=1,
        description="steps in a row that may be skipped for a loss or gradient that is not finite",
    )
    seed: int = Field(default=0, ge=0, description="order of the data and any other random choice")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads; unset: torch's own choice. Equal bits need equal threads",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lengths = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if len(lengths) != 1:
            raise ValueError(f"give exactly one of steps, tokens and epochs, got {lengths or 'none'}")
        if self.batch_tokens % self.micro_tokens:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is no multiple of micro_batch_tokens {self.micro_tokens}"
            )
        return self

    @property
    def micro_tokens(self) -> int:
        """Tokens of one forward pass."""
        return self.micro_batch_tokens or self.batch_tokens

    @property
    def num_micro_batches(self) -> int:
        """Forward passes per optimizer step."""
        return self.batch_tokens // self.micro_tokens

    def num_steps(self, dataset_tokens: int) -> int:
        """Optimizer steps of the run over a data set of `dataset_tokens` tokens."""
        if self.steps is not None:
            return self.steps
        tokens = self.tokens if self.tokens is not None else (self.epochs or 0) * dataset_tokens
        return max(1, math.ceil(tokens / self.batch_tokens))

    def differences(self, other: dict[str, Any]) -> list[str]:
        """`name: theirs -> ours` for each setting that shapes the result and differs from a dumped config."""
        # What a dtype of `auto` came to is part of a checkpoint's identity instead.
        ours = self.model_dump(mode="json", exclude={*FREE_TO_CHANGE, "dtype"})
        return [
            f"{name}: {other.get(name)} -> {value}"
            for name, value in ours.items()
            if other.get(name) != value
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended. Losses are nats per token."""

    steps: int
    tokens: int
    final_loss: float
    validation_loss: float | None
    bits_per_byte: float | None
    """Held-out nats / ln 2 / bytes of text; None without validation data or where bytes mean nothing."""
    tokens_per_second: float
    """Over all training steps, without validation and checkpoints."""
    utilisation: float | None
    """Model FLOPs per second as a share of the measured matmul peak."""
    seconds: float
    """Wall time, earlier attempts included."""
    peak_memory_bytes: int
    skipped_steps: int = 0
