"""The encoder transformer over a flat token axis: the reference that the native core is held against.

Texts lie end to end, [T], with their boundaries; every token sees its own text alone. Norms come
after the residual sums (Devlin et al. 2019). What leaves the network is what its head says: rows of tokens, a
vector a text, or scores for labels before they are made probabilities.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cairn.models.adapters import LowRank
from cairn.models.encoder_config import EncoderConfig, EncoderHead
from cairn.models.encoder_heads import changed, map_adapted, read_head_spec
from cairn.models.encoder_reader import read_encoder_config
from cairn.models.encoder_tensors import map_encoder, plan_encoder
from cairn.models.layers import activate
from cairn.models.linear import Linear
from cairn.models.mapped_weights import MappedTensor


class LayerNorm(nn.Module):
    """Layer norm over the last dimension (Ba et al. 2016)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size))
        self.bias = nn.Parameter(torch.empty(config.hidden_size))
        self._eps = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self._eps)


class EncoderAttention(nn.Module):
    """Projections, and attention within each text."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=True)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=True)
        self._num_heads = config.num_heads

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self._num_heads, -1)).transpose(0, 2).unbind(1)
        texts = zip(q.split(lengths, 1), k.split(lengths, 1), v.split(lengths, 1), strict=True)
        attended = torch.cat([_attend(*text) for text in texts], 1)
        out: Tensor = self.output(attended.transpose(0, 1).flatten(1))
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One text's heads [heads, tokens, head_dim]. Plainly: torch's own way guards against rows that see
    nothing, and its fused one takes four times as long backwards in bfloat16 on a CPU."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1) @ v


class EncoderMlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, config.intermediate_size, bias=True)
        self.output = Linear(config.intermediate_size, config.hidden_size, bias=True)
        self._activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(activate(self.inner(x), self._activation, gated=False))
        return out


class EncoderLayer(nn.Module):
    """Attention and MLP, each with a residual sum and a norm after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = EncoderAttention(config)
        self.attention_norm = LayerNorm(config)
        self.mlp = EncoderMlp(config)
        self.mlp_norm = LayerNorm(config)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        x = self.attention_norm(x + self.attention(x, lengths))
        out: Tensor = self.mlp_norm(x + self.mlp(x))
        return out


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "tanh": torch.tanh,
    "relu": F.relu,
}


class Head(nn.Module):
    """Pooling, dense layer, output layer and normalisation, each where the head has it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        head, width = config.head, config.head.dense or config.hidden_size
        self._head = head
        self.dense = Linear(config.hidden_size, head.dense, bias=head.dense_bias) if head.dense else None
        self.output = Linear(width, len(head.labels), bias=True) if head.labels else None

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        out = _pool(x, lengths, self._head)
        if self.dense is not None:
            out = _ACTIVATIONS[self._head.activation](self.dense(out))
        out = out if self.output is None else self.output(out)
        return F.normalize(out, dim=-1) if self._head.normalise else out


class Encoder(nn.Module):
    """Token ids of whole texts in; what the head makes of them out."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(config.num_positions, config.hidden_size))
        self.type_embedding = None
        if config.num_types:
            self.type_embedding = nn.Parameter(torch.empty(config.num_types, config.hidden_size))
        self.norm = LayerNorm(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.head = Head(config)

    def forward(self, input_ids: Tensor, bounds: Sequence[int], types: Tensor | None = None) -> Tensor:
        """Ids and segments [T] of texts with `bounds`, 0 first and T last -> [T or texts, out_width]."""
        lengths = [stop - start for start, stop in pairwise(bounds)]
        out: Tensor = self.head(self.hidden(input_ids, lengths, types), lengths)
        return out

    def hidden(self, input_ids: Tensor, lengths: list[int], types: Tensor | None = None) -> Tensor:
        """The rows of the last layer [T, hidden]."""
        positions = torch.cat([torch.arange(length) for length in lengths]) + self.config.position_offset
        x = F.embedding(input_ids, self.embedding) + F.embedding(positions, self.position_embedding)
        if self.type_embedding is not None:
            x = x + F.embedding(torch.zeros_like(input_ids) if types is None else types, self.type_embedding)
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, lengths)
        out: Tensor = x
        return out


def load_encoder(folder: Path, *, head: Path | None = None, dtype: torch.dtype = torch.float32) -> Encoder:
    """The network of a checkpoint folder, adapted by the head in another one where that is given.

    Every tensor must be known and every parameter filled.
    """
    folder = Path(folder)
    config = read_encoder_config(folder)
    if head is None:
        return _filled(config, folder, map_encoder(config, folder), {}, dtype)
    config = read_head_spec(head).config_for(config)
    return _filled(config, folder, *map_adapted(config, folder, head), dtype)


def _filled(
    config: EncoderConfig,
    folder: Path,
    stored: Mapping[str, MappedTensor],
    changes: Mapping[str, Sequence[LowRank]],
    dtype: torch.dtype,
) -> Encoder:
    plan = plan_encoder(config, stored, folder)
    with torch.device("meta"):
        model = Encoder(config)
    state = {}
    for name, parameter in model.named_parameters():
        values = np.empty(parameter.shape, np.float32)
        for piece in plan[name]:
            values[piece.index] = stored[piece.name].read()
        state[name] = torch.from_numpy(changed(values, changes.get(name, ()))).to(dtype)
    model.load_state_dict(state, assign=True)
    return model.eval()


def _pool(x: Tensor, lengths: list[int], head: EncoderHead) -> Tensor:
    """Rows of tokens [T, hidden] -> a row a text, or the same."""
    if head.pooling == "tokens":
        return x
    texts = x.split(lengths)
    if head.pooling == "first":
        return torch.stack([text[0] for text in texts])
    return torch.stack([text.mean(0) if head.pooling == "mean" else text.amax(0) for text in texts])
