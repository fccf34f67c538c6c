"""Memory of a decoder: weights, gradients, optimizer, activations, logits, KV cache; in bytes.

Activations are counted as what autograd keeps for a llama-like layer with fused attention
(no score matrix; Korthikanti et al. 2022 count the same without fusing). With checkpointing
only each layer's input stays, and one layer at a time is whole.
Not covered: allocator slack and the libraries themselves (`RUNTIME_BYTES` stands for those).
"""

from dataclasses import dataclass

from cairn.compute.shape import ModelShape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNTIME_BYTES = 450_000_000
"""Python, torch and its thread pools before the first tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Where the bytes of a training step are."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    runtime: int = RUNTIME_BYTES

    @property
    def total(self) -> int:
        return sum(
            (self.weights, self.gradients, self.optimizer, self.activations, self.logits, self.runtime)
        )


def weight_bytes(shape: ModelShape, dtype: str) -> int:
    """The weights as stored in `dtype`."""
    return shape.num_params * DTYPE_BYTES[dtype]


def kv_cache_bytes(shape: ModelShape, tokens: int, dtype: str = "float32") -> int:
    """Keys and values of `tokens` tokens, all layers (windows not taken into account)."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * DTYPE_BYTES[dtype] * tokens


def layer_activation_bytes(shape: ModelShape, dtype: str) -> int:
    """Kept per token and layer for the backward pass."""
    width = shape.num_heads * shape.head_dim
    key_value = shape.num_kv_heads * shape.head_dim
    # Two residuals and their norms; q, k, v before and after rope; the attention's output.
    attention = 4 * shape.hidden_size + 2 * (width + 2 * key_value) + width
    experts = shape.num_experts_per_token if shape.num_experts else 1
    # gate, its activation, up, and their product.
    mlp = (4 if shape.gated_mlp else 2) * (shape.intermediate_size * experts + shape.shared_intermediate_size)
    return (attention + mlp) * DTYPE_BYTES[dtype]


def activation_bytes(
    shape: ModelShape, tokens: int, dtype: str, *, checkpoint_activations: bool = False
) -> int:
    """Kept for the backward pass of a micro batch of `tokens` tokens."""
    layer = layer_activation_bytes(shape, dtype)
    if not checkpoint_activations:
        return tokens * layer * shape.num_layers
    return tokens * (layer + shape.num_layers * shape.hidden_size * DTYPE_BYTES[dtype])


def training_memory(
    shape: ModelShape,
    *,
    micro_batch_tokens: int,
    dtype: str = "float32",
    optimizer: str = "adamw",
    checkpoint_activations: bool = False,
    loss_chunk_tokens: int = 0,
) -> TrainingMemory:
    """Peak memory of a training step: float32 master weights, `dtype` activations, chunked logits."""
    chunk = min(loss_chunk_tokens or micro_batch_tokens, micro_batch_tokens)
    # Muon keeps one moment for the matrices and two for the embeddings; AdamW two for all.
    vectors = shape.embedding_params * (1 if shape.tied_embeddings else 2)
    moments = shape.num_params * 2 if optimizer == "adamw" else shape.num_params + vectors
    return TrainingMemory(
        weights=shape.num_params * (4 + (2 if dtype != "float32" else 0)),
        gradients=shape.num_params * 4,
        optimizer=moments * 4,
        activations=activation_bytes(
            shape, micro_batch_tokens, dtype, checkpoint_activations=checkpoint_activations
        ),
        logits=chunk * shape.vocab_size * 4 * 2,
    )
