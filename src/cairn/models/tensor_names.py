"""How the network's parameters are called and cut in files of the Hugging Face layout.

The network keeps what is multiplied together in one matrix; files keep it apart (or, for some
families, together in another way). For each parameter `layouts` lists the ways a file may hold it,
the first being the one that is written. All of it is tables: family -> names of a layer's parts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from cairn.models.config import DecoderConfig

Index = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of a file and the part of a parameter it fills."""

    name: str
    index: Index = ()
    """Where in the parameter; empty: all of it."""
    transposed: bool = False


Layout = tuple[Piece, ...]

_LLAMA = {
    "attention_norm": ("input_layernorm",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.output": ("self_attn.o_proj",),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "mlp_norm": ("post_attention_layernorm",),
    "mlp.inner": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.output": ("mlp.down_proj",),
    "mlp.router": ("mlp.gate",),
    "mlp.shared.inner": ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"),
    "mlp.shared.output": ("mlp.shared_expert.down_proj",),
    "mlp.shared_gate": ("mlp.shared_expert_gate",),
}
_GEMMA = _LLAMA | {
    "attention_post_norm": ("post_attention_layernorm",),
    "mlp_norm": ("pre_feedforward_layernorm",),
    "mlp_post_norm": ("post_feedforward_layernorm",),
}
_PHI3 = _LLAMA | {"attention.qkv": ("self_attn.qkv_proj",), "mlp.inner": ("mlp.gate_up_proj",)}
_MIXTRAL = _LLAMA | {"mlp.router": ("block_sparse_moe.gate",)}
_GPT2: dict[str, tuple[str, ...]] = {
    "attention_norm": ("ln_1",),
    "attention.qkv": ("attn.c_attn",),
    "attention.output": ("attn.c_proj",),
    "mlp_norm": ("ln_2",),
    "mlp.inner": ("mlp.c_fc",),
    "mlp.output": ("mlp.c_proj",),
}
_QWEN_EXPERTS = {
    "mlp.inner": ("mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight"),
    "mlp.output": ("mlp.experts.{}.down_proj.weight",),
}
_MIXTRAL_EXPERTS = {
    "mlp.inner": ("block_sparse_moe.experts.{}.w1.weight", "block_sparse_moe.experts.{}.w3.weight"),
    "mlp.output": ("block_sparse_moe.experts.{}.w2.weight",),
}
_JOINED_EXPERTS = {"mlp.inner": "mlp.experts.gate_up_proj", "mlp.output": "mlp.experts.down_proj"}
"""transformers 5 in memory, and on disk when asked to keep its own format."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of one style of files."""

    parts: dict[str, tuple[str, ...]]
    experts: dict[str, tuple[str, ...]]
    layer: str = "layers.{}."
    prefixes: tuple[str, ...] = ("model.", "")
    embedding: str = "embed_tokens.weight"
    position_embedding: str = "wpe.weight"
    norm: str = "norm"
    transposed: bool = False
    """Matrices of attention and MLP are stored [in, out] (GPT-2)."""


_STYLES = {
    "gpt2": _Names(
        _GPT2,
        {},
        layer="h.{}.",
        prefixes=("transformer.", ""),
        embedding="wte.weight",
        norm="ln_f",
        transposed=True,
    ),
    "phi3": _Names(_PHI3, {}),
    "gemma2": _Names(_GEMMA, {}),
    "gemma3_text": _Names(_GEMMA, {}),
    "olmo2": _Names(_GEMMA, {}),
    "mixtral": _Names(_MIXTRAL, _MIXTRAL_EXPERTS),
}
_DEFAULT_STYLE = _Names(_LLAMA, _QWEN_EXPERTS)
HEAD = "lm_head.weight"
_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|\bh\.\d+\.attn\.(masked_)?bias)$")


def is_buffer(name: str) -> bool:
    """Whether a file's tensor is no weight: masks and frequencies that old files carry."""
    return _BUFFERS.search(name) is not None


def embedding_names(config: DecoderConfig) -> tuple[str, ...]:
    """What files call the input embedding."""
    style = _STYLES.get(config.family, _DEFAULT_STYLE)
    return tuple(prefix + style.embedding for prefix in style.prefixes)


def layouts(config: DecoderConfig, parameter: str, shape: tuple[int, ...]) -> Iterator[Layout]:
    """The ways a file may hold the network's parameter of this name; the first is the one written."""
    style = _STYLES.get(config.family, _DEFAULT_STYLE)
    if parameter == "head.weight":
        yield (Piece(HEAD),)
        return
    for prefix in style.prefixes:
        if not parameter.startswith("layers."):
            yield (Piece(prefix + _outer_name(style, parameter)),)
            continue
        _, index, rest = parameter.split(".", 2)
        yield from _layer_layouts(config, style, prefix + style.layer.format(index), rest, shape)


def _outer_name(style: _Names, parameter: str) -> str:
    if parameter == "embedding":
        return style.embedding
    if parameter == "position_embedding":
        return style.position_embedding
    return parameter.replace("norm", style.norm, 1)


def _layer_layouts(
    config: DecoderConfig, style: _Names, prefix: str, rest: str, shape: tuple[int, ...]
) -> Iterator[Layout]:
    if len(shape) == 3:
        yield _expert_layout(style.experts[rest], prefix, shape)
        yield (Piece(prefix + _JOINED_EXPERTS[rest]),)
        return
    part, _, kind = rest.rpartition(".")
    names = [f"{prefix}{name}.{kind}" for name in style.parts[part]]
    is_matrix = kind == "weight" and part in ("attention.qkv", "attention.output", "mlp.inner", "mlp.output")
    transposed = style.transposed and is_matrix
    rows = _rows(config, part, names, shape)
    plain = tuple(Piece(name, index, transposed) for name, index in zip(names, rows, strict=True))
    yield plain
    if "block_sparse_moe." in names[0]:
        yield tuple(Piece(piece.name.replace("block_sparse_moe.", "mlp."), piece.index) for piece in plain)


def _rows(config: DecoderConfig, part: str, names: list[str], shape: tuple[int, ...]) -> list[Index]:
    """The rows of a joined matrix or bias that each named tensor fills."""
    if len(names) == 1:
        return [()]
    if part == "attention.qkv":
        query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        bounds = [0, query, query + key, query + 2 * key]
    else:
        bounds = [0, shape[0] // 2, shape[0]]
    return [(slice(start, end),) for start, end in pairwise(bounds)]


def _expert_layout(names: tuple[str, ...], prefix: str, shape: tuple[int, ...]) -> Layout:
    width = shape[1] // len(names)
    return tuple(
        Piece(prefix + name.format(expert), (expert, slice(part * width, (part + 1) * width)))
        for expert in range(shape[0])
        for part, name in enumerate(names)
    )
