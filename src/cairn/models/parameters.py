"""The decoder's parameters by name and shape, from its config alone.

The same names and order as `Decoder.named_parameters()`, without torch and without making a network, for
whoever fills weights into something else.
"""

from collections.abc import Iterator

from cairn.models.architecture import Architecture
from cairn.models.specs import LayerSpec

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: Architecture) -> Shapes:
    """Shape of every parameter."""
    shapes: Shapes = {"embedding": (config.vocab_size, config.hidden_size)}
    if config.learned_positions:
        shapes["position_embedding"] = (config.max_position, config.hidden_size)
    for index, layer in enumerate(config.layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in _layer(config, layer)}
    shapes |= dict(_norm(config, "norm"))
    if not config.tie_embeddings:
        shapes["head.weight"] = (config.vocab_size, config.hidden_size)
    return shapes


Named = Iterator[tuple[str, tuple[int, ...]]]


def _layer(config: Architecture, layer: LayerSpec) -> Named:
    hidden, query = config.hidden_size, config.num_heads * config.head_dim
    key = config.num_kv_heads * config.head_dim
    if config.pre_norm:
        yield from _norm(config, "attention_norm")
    yield from _linear("attention.qkv", query + 2 * key, hidden, bias=config.qkv_bias)
    yield from _linear("attention.output", hidden, query, bias=config.attention_output_bias)
    if config.qk_norm != "none":
        is_full = config.qk_norm == "full"
        yield "attention.q_norm.weight", (query if is_full else config.head_dim,)
        yield "attention.k_norm.weight", (key if is_full else config.head_dim,)
    if config.post_norm:
        yield from _norm(config, "attention_post_norm")
    if config.pre_norm:
        yield from _norm(config, "mlp_norm")
    yield from _mlp(config, layer)
    if config.post_norm:
        yield from _norm(config, "mlp_post_norm")


def _mlp(config: Architecture, layer: LayerSpec) -> Named:
    hidden, num_inner = config.hidden_size, 2 if config.gated_mlp else 1
    experts = layer.experts
    if experts is None:
        width = layer.intermediate_size
        yield from _linear("mlp.inner", num_inner * width, hidden, bias=config.mlp_bias)
        yield from _linear("mlp.output", hidden, width, bias=config.mlp_bias)
        return
    width = experts.intermediate_size
    yield "mlp.inner", (experts.num_experts, num_inner * width, hidden)
    yield "mlp.output", (experts.num_experts, hidden, width)
    yield "mlp.router.weight", (experts.num_experts, hidden)
    if shared := experts.shared_intermediate_size:
        yield "mlp.shared.inner.weight", (num_inner * shared, hidden)
        yield "mlp.shared.output.weight", (hidden, shared)
        yield "mlp.shared_gate.weight", (1, hidden)


def _linear(name: str, size_out: int, size_in: int, *, bias: bool) -> Named:
    yield f"{name}.weight", (size_out, size_in)
    if bias:
        yield f"{name}.bias", (size_out,)


def _norm(config: Architecture, name: str) -> Named:
    yield f"{name}.weight", (config.hidden_size,)
    if config.norm == "layer":
        yield f"{name}.bias", (config.hidden_size,)
