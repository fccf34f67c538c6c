"""FLOPs of a decoder: the 6ND rule with attention and recomputation counted, per token and per step.

A matrix product of N weights costs 2N FLOPs a token forward and 4N backward (Kaplan et al.
2020, Hoffmann et al. 2022); attention adds 4 FLOPs per visible key and head dimension and
layer. Norms, activations and softmax are not counted: they are bound by memory, and
`compute.planning` charges their traffic instead.
"""

from cairn.compute.shape import ModelShape

NEWTON_SCHULZ_STEPS = 5
"""Of the iteration that makes Muon's update nearly orthogonal; `training.optimizers` runs as many."""


def attention_flops(shape: ModelShape, context: int) -> float:
    """Forward FLOPs per token of scores and weighted values over all layers."""
    width = shape.num_heads * shape.head_dim
    return sum(4.0 * width * shape.visible(layer, context) for layer in range(shape.num_layers))


def forward_flops(shape: ModelShape, context: int) -> float:
    """FLOPs per token of one forward pass over documents of `context` tokens, head included."""
    return 2.0 * shape.matmul_params + attention_flops(shape, context)


def training_flops(shape: ModelShape, context: int, *, checkpoint_activations: bool = False) -> float:
    """FLOPs per token of forward, backward and, with checkpointing, the second forward of the layers."""
    flops = 3 * forward_flops(shape, context)
    if checkpoint_activations:
        flops += forward_flops(shape, context) - 2.0 * shape.embedding_params
    return flops


def muon_flops(shape: ModelShape) -> float:
    """FLOPs of one Muon update: Newton-Schulz on every matrix of the layers (Jordan et al. 2024)."""
    hidden, width = shape.hidden_size, shape.num_heads * shape.head_dim
    key_value = shape.num_kv_heads * shape.head_dim
    experts = max(1, shape.num_experts) * (3 if shape.gated_mlp else 2)
    matrices = (
        [(hidden, width)] * 2 + [(hidden, key_value)] * 2 + [(hidden, shape.intermediate_size)] * experts
    )
    return shape.num_layers * sum(_newton_schulz(*matrix) for matrix in matrices)


def _newton_schulz(rows: int, columns: int) -> float:
    small, large = sorted((rows, columns))
    # X X^T, its square, and the product with X.
    return NEWTON_SCHULZ_STEPS * (4.0 * small * small * large + 2.0 * small**3)
