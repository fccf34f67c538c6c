"""An encoder's parameters: their shapes, and how files of each family call and cut them.

The same names and order as `Encoder.named_parameters()`, without torch. Old files call a norm's weight and
bias gamma and beta; both are read.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cairn.models.encoder_config import EncoderConfig
from cairn.models.mapped_weights import MappedTensor, map_weights
from cairn.models.tensor_names import Layout, Piece
from cairn.models.weight_plan import fit

Shapes = dict[str, tuple[int, ...]]

_BERT = {
    "embedding": ("embeddings.word_embeddings.weight",),
    "position_embedding": ("embeddings.position_embeddings.weight",),
    "type_embedding": ("embeddings.token_type_embeddings.weight",),
    "norm": ("embeddings.LayerNorm",),
    "layer": ("encoder.layer.{}.",),
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "mlp.inner": ("intermediate.dense",),
    "mlp.output": ("output.dense",),
    "mlp_norm": ("output.LayerNorm",),
}
_DISTILBERT = _BERT | {
    "layer": ("transformer.layer.{}.",),
    "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.output": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "mlp.inner": ("ffn.lin1",),
    "mlp.output": ("ffn.lin2",),
    "mlp_norm": ("output_layer_norm",),
}
_HEADS = {  # dense and output of a sequence classifier
    "bert": ("bert.pooler.dense", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
}
_EXTRA = re.compile(
    r"(embeddings\.(position_ids|token_type_ids)|\bpooler\.dense\.(weight|bias))$"
    r"|^(cls|lm_head|vocab_transform|vocab_layer_norm|vocab_projector)\."
)


def encoder_shapes(config: EncoderConfig) -> Shapes:
    """Shape of every parameter."""
    hidden, width, head = config.hidden_size, config.intermediate_size, config.head
    shapes: Shapes = {
        "embedding": (config.vocab_size, hidden),
        "position_embedding": (config.num_positions, hidden),
    }
    if config.num_types:
        shapes["type_embedding"] = (config.num_types, hidden)
    shapes |= _norm("norm", hidden)
    for index in range(config.num_layers):
        name = f"layers.{index}."
        shapes |= _linear(name + "attention.qkv", 3 * hidden, hidden)
        shapes |= _linear(name + "attention.output", hidden, hidden)
        shapes |= _norm(name + "attention_norm", hidden)
        shapes |= _linear(name + "mlp.inner", width, hidden)
        shapes |= _linear(name + "mlp.output", hidden, width)
        shapes |= _norm(name + "mlp_norm", hidden)
    if head.dense:
        shapes |= _linear("head.dense", head.dense, hidden)
        if not head.dense_bias:
            del shapes["head.dense.bias"]
    if head.labels:
        shapes |= _linear("head.output", len(head.labels), head.dense or hidden)
    return shapes


def _linear(name: str, size_out: int, size_in: int) -> Shapes:
    return {f"{name}.weight": (size_out, size_in), f"{name}.bias": (size_out,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def map_encoder(config: EncoderConfig, folder: Path) -> dict[str, MappedTensor]:
    """Every tensor of an encoder's folder by its name; those of a module behind its folder's."""
    stored = map_weights(folder)
    if inner := config.head.dense_folder:
        stored |= {f"{inner}/{name}": tensor for name, tensor in map_weights(folder / inner).items()}
    return stored


def plan_encoder(
    config: EncoderConfig, stored: Mapping[str, MappedTensor], folder: Path
) -> dict[str, Layout]:
    """The pieces that fill each parameter; `IntegrityError` naming all that does not fit."""
    shapes = encoder_shapes(config)
    return fit(encoder_layouts(config), shapes, stored, folder, lambda name: _EXTRA.search(name) is not None)


def encoder_layouts(config: EncoderConfig) -> dict[str, Iterator[Layout]]:
    """The ways files may hold each parameter."""
    return {name: _layouts(config, name, shape) for name, shape in encoder_shapes(config).items()}


def _layouts(config: EncoderConfig, parameter: str, shape: tuple[int, ...]) -> Iterator[Layout]:
    """The ways a file may hold a parameter: with and without the network's name, norms by either naming."""
    part, _, kind = parameter.rpartition(".")
    if part.startswith("head."):
        yield from ((Piece(f"{name}.{kind}"),) for name in _head_names(config, part))
        return
    base = config.family if config.family in ("bert", "distilbert") else "roberta"
    names, prefix = _DISTILBERT if base == "distilbert" else _BERT, ""
    if part.startswith("layers."):
        _, index, part = part.split(".", 2)
        prefix = names["layer"][0].format(index)
    if not part:
        yield from ((Piece(outer + names[parameter][0]),) for outer in (f"{base}.", ""))
        return
    legacy = {"weight": "gamma", "bias": "beta"}
    for suffix in (kind, legacy[kind]) if part.endswith("norm") else (kind,):
        for outer in (f"{base}.", ""):
            yield _cut([f"{outer}{prefix}{name}.{suffix}" for name in names[part]], shape[0])


def _head_names(config: EncoderConfig, part: str) -> tuple[str, ...]:
    if config.head.dense_folder:
        return (f"{config.head.dense_folder}/linear",)
    if config.head.task == "token_classification":
        return ("classifier",)
    dense, output = _HEADS.get(config.family, _HEADS["roberta"])
    return (dense,) if part == "head.dense" else (output,)


def _cut(names: list[str], num_rows: int) -> Layout:
    """Tensors that lie one after the other in the rows of a parameter."""
    if len(names) == 1:
        return (Piece(names[0]),)
    size = num_rows // len(names)
    return tuple(Piece(name, (slice(i * size, (i + 1) * size),)) for i, name in enumerate(names))
