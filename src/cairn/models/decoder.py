"""The decoder transformer over a flat token axis, dense and mixture of experts, as its config says.

All tokens of a step lie end to end, [T]; `positions` say where in its sequence each stands, and the
`Attention` handed in says what it sees. So the same network trains on packed documents, scores, and
decodes from a paged cache. Rows never mix outside attention.

Weights: Vaswani et al. 2017 with the changes of the family at hand; see docs/decoder.md.
"""

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cairn.models.attention import Attention
from cairn.models.config import DecoderConfig
from cairn.models.layers import Angles, Experts, Mlp, SelfAttention
from cairn.models.linear import Linear, linear
from cairn.models.norm import Norm
from cairn.models.rope import cos_sin
from cairn.models.specs import LayerSpec


class DecoderLayer(nn.Module):
    """Attention and MLP, each with a residual sum."""

    def __init__(self, config: DecoderConfig, spec: LayerSpec, index: int) -> None:
        super().__init__()
        self.spec, self.index = spec, index

        def norm(is_there: bool) -> Norm | None:
            return Norm(config, config.hidden_size, kind=config.norm) if is_there else None

        self.attention_norm = norm(config.pre_norm)
        self.attention = SelfAttention(config, spec)
        self.attention_post_norm = norm(config.post_norm)
        self.mlp_norm = norm(config.pre_norm)
        self.mlp: Mlp | Experts
        if spec.experts is None:
            self.mlp = Mlp(config, spec.intermediate_size, bias=config.mlp_bias)
        else:
            self.mlp = Experts(config, spec.experts)
        self.mlp_post_norm = norm(config.post_norm)

    def forward(self, x: Tensor, angles: Angles | None, attention: Attention) -> tuple[Tensor, Tensor | None]:
        """x [T, hidden] -> the same, and the router's [2, E] counts where there are experts."""
        q, k, v = self.attention.project(_apply(self.attention_norm, x), angles)
        attended = attention(self.index, q, k, v, self.spec.attention)
        x = x + _apply(self.attention_post_norm, self.attention.output(attended.flatten(1)))
        out, counts = _apply(self.mlp_norm, x), None
        if isinstance(self.mlp, Experts):
            out, counts = self.mlp(out)
        else:
            out = self.mlp(out)
        return x + _apply(self.mlp_post_norm, out), counts


class Decoder(nn.Module):
    """Token ids in, hidden states out; `logits` turns those one wants into scores."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        """Keep only each layer's input for the backward pass and run the layer again there."""
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.position_embedding = None
        if config.learned_positions:
            self.position_embedding = nn.Parameter(torch.empty(config.max_position, config.hidden_size))
        self.layers = nn.ModuleList(
            DecoderLayer(config, spec, index) for index, spec in enumerate(config.layers)
        )
        self.norm = Norm(config, config.hidden_size, kind=config.norm)
        self.head = None
        if not config.tie_embeddings:
            self.head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self._router_counts: list[Tensor] = []
        self._num_routed = 0
        if not self.embedding.is_meta:
            self.init_weights(0)

    @property
    def output_weight(self) -> Tensor:
        """The output head, [vocab, hidden]: the embedding itself where they are tied."""
        return self.embedding if self.head is None else self.head.weight

    def embed(self, input_ids: Tensor) -> Tensor:
        """The rows of the embedding of token ids [T]."""
        return F.embedding(input_ids, self.embedding)

    def forward(self, input_ids: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """Token ids and positions [T] -> hidden states [T, hidden] after the final norm."""
        x = self.embed(input_ids)
        if self.config.embedding_scale != 1.0:
            # Rounded to the weights' type first, as it was when the model was trained.
            x = x * torch.tensor(self.config.embedding_scale, dtype=x.dtype)
        if self.position_embedding is not None:
            x = x + F.embedding(positions, self.position_embedding)
        ropes = {layer.rope for layer in self.config.layers if layer.rope is not None}
        angles = {rope: cos_sin(rope, positions) for rope in ropes}
        self._router_counts, self._num_routed = [], 0
        for layer, spec in zip(self.layers, self.config.layers, strict=True):
            x, counts = self._run(layer, x, angles[spec.rope] if spec.rope else None, attention)
            if counts is not None:
                self._router_counts.append(counts)
                self._num_routed += len(input_ids)
        out: Tensor = self.norm(x)
        return out

    def _run(
        self, layer: nn.Module, x: Tensor, angles: Angles | None, attention: Attention
    ) -> tuple[Tensor, Tensor | None]:
        if self.checkpoint_activations and torch.is_grad_enabled():
            out = checkpoint(layer, x, angles, attention, use_reentrant=False, preserve_rng_state=False)
        else:
            out = layer(x, angles, attention)
        x, counts = out
        return x, counts

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., hidden] -> float32 scores [..., vocab], soft-capped where the model does so."""
        rows = linear(hidden.reshape(-1, hidden.shape[-1]), self.output_weight)
        return self.cap_logits(rows.float().view(*hidden.shape[:-1], -1))

    def cap_logits(self, scores: Tensor) -> Tensor:
        """Scores of the output head, soft-capped where the model does so."""
        cap = self.config.logit_softcap
        return scores if cap is None else torch.tanh(scores / cap) * cap

    def aux_loss(self) -> Tensor:
        """Load balancing of the last forward: E * sum(share of choices * mean probability) over all layers.

        Equations 4 to 6 of Fedus et al. 2021, for k choices a token: k when perfectly balanced. Zero for
        a dense model. Training adds it times `config.router_aux_loss_coef`.
        """
        if not self._router_counts:
            return self.embedding.new_zeros((), dtype=torch.float32)
        counts, probabilities = torch.stack(self._router_counts).sum(0) / self._num_routed
        balance: Tensor = len(counts) * (counts * probabilities).sum()
        return balance

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill every weight from a seed, the same whatever the dtype, device or order of parameters.

        Normal with `initializer_range`; what writes to the residual stream is scaled by 1 / sqrt(2 * layers)
        (GPT-2, Radford et al. 2019, section 2.3); biases zero, norms one.
        """
        residual = self.config.initializer_range / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0 - self.config.norm_offset)
            else:
                is_residual = name.endswith(("output.weight", "mlp.output"))
                deviation = residual if is_residual else self.config.initializer_range
                _fill_normal(parameter, deviation, f"{seed}/{name}")


def _fill_normal(parameter: Tensor, deviation: float, key: str) -> None:
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    values = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
    parameter.copy_(values.normal_(0.0, deviation, generator=generator))


def _apply(module: nn.Module | None, x: Tensor) -> Tensor:
    return x if module is None else module(x)
