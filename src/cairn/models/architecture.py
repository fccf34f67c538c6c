"""The decoder as data: everything that tells one family of models from another.

The network reads this record and never a family's name. `DecoderConfig` is the same record with the way
from and to a config.json.
"""

from dataclasses import dataclass
from typing import Literal

from cairn.compute import ModelShape
from cairn.core import UnsupportedModelError
from cairn.models.specs import LayerSpec

_MOST_EXPERTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer. Sizes in numbers of units, never bytes."""

    family: str
    """`model_type` of config.json; names the table for reading, writing and tensor names, nothing else."""
    vocab_size: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    """Longest sequence the model was made for."""
    layers: tuple[LayerSpec, ...]
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    norm_offset: float = 0.0
    """Added to the norms' weights: 1 for Gemma, whose weights are stored around zero."""
    pre_norm: bool = True
    """Norm before attention and MLP."""
    post_norm: bool = False
    """Norm after attention and MLP, before the residual sum."""
    qk_norm: Literal["none", "head", "full"] = "none"
    """RMS norm of queries and keys: per head, or over the whole projection (OLMo 2)."""
    activation: Literal["silu", "gelu_tanh", "gelu", "relu"] = "silu"
    gated_mlp: bool = True
    qkv_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    learned_positions: bool = False
    embedding_scale: float = 1.0
    logit_softcap: float | None = None
    tie_embeddings: bool = False
    router_aux_loss_coef: float = 0.0
    """Weight that training gives to `Decoder.aux_loss()`."""
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "max_position")
        for name in sizes:
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, allowed: above 0")
        require(self.norm_eps >= 0, f"the norms' epsilon is {self.norm_eps}, allowed: 0 or more")
        require(len(self.layers) > 0, "the model has no layers, allowed: at least 1")
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}",
        )
        for layer in self.layers:
            self._check_layer(layer)

    def _check_layer(self, layer: LayerSpec) -> None:
        require(layer.window is None or layer.window > 0, f"window is {layer.window}, allowed: above 0")
        if layer.rope is not None:
            dim = layer.rope.rotary_dim
            require(
                0 < dim <= self.head_dim and dim % 2 == 0,
                f"the rotary dimension is {dim}, allowed: even, 2 to the head's {self.head_dim}",
            )
        if layer.experts is None:
            require(layer.intermediate_size > 0, "intermediate_size is 0, allowed: above 0")
        else:
            chosen, num = layer.experts.num_experts_per_token, layer.experts.num_experts
            require(num <= _MOST_EXPERTS, f"{num} experts, allowed: 1 to {_MOST_EXPERTS}")
            require(0 < chosen <= num, f"{chosen} experts per token, allowed: 1 to {num}")

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_params(self) -> int:
        """All weights, counted exactly; a tied head counts once."""
        return self._fixed_params + sum(self._layer_params(layer) for layer in self.layers)

    def shape(self) -> ModelShape:
        """The numbers the planner computes with."""
        first = self.layers[0]
        experts = next((layer.experts for layer in self.layers if layer.experts), None)
        return ModelShape(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            intermediate_size=experts.intermediate_size if experts else first.intermediate_size,
            tied_embeddings=self.tie_embeddings,
            gated_mlp=self.gated_mlp,
            num_experts=experts.num_experts if experts else 0,
            num_experts_per_token=experts.num_experts_per_token if experts else 0,
            shared_intermediate_size=experts.shared_intermediate_size if experts else 0,
            windows=tuple(layer.window for layer in self.layers),
            exact_params=self.num_params,
        )

    @property
    def _norm_params(self) -> int:
        return self.hidden_size * (2 if self.norm == "layer" else 1)

    @property
    def _fixed_params(self) -> int:
        tables = (1 if self.tie_embeddings else 2) * self.vocab_size
        tables += self.max_position if self.learned_positions else 0
        return tables * self.hidden_size + self._norm_params

    def _layer_params(self, layer: LayerSpec) -> int:
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        total = self.hidden_size * (2 * query + 2 * key)
        total += (query + 2 * key) * self.qkv_bias + self.hidden_size * self.attention_output_bias
        total += {"none": 0, "head": 2 * self.head_dim, "full": query + key}[self.qk_norm]
        total += self._norm_params * 2 * (self.pre_norm + self.post_norm)
        if layer.experts is None:
            return total + self._mlp_params(layer.intermediate_size, bias=self.mlp_bias)
        total += layer.experts.num_experts * (self.hidden_size + self._expert_params(layer))
        if shared := layer.experts.shared_intermediate_size:
            total += self._mlp_params(shared, bias=False) + self.hidden_size
        return total

    def _expert_params(self, layer: LayerSpec) -> int:
        return self._mlp_params(layer.experts.intermediate_size, bias=False) if layer.experts else 0

    def _mlp_params(self, width: int, *, bias: bool) -> int:
        num_inner = 2 if self.gated_mlp else 1
        return (num_inner + 1) * self.hidden_size * width + bias * (num_inner * width + self.hidden_size)


def require(holds: bool, problem: str) -> None:
    """`UnsupportedModelError` with this problem unless the condition holds."""
    if not holds:
        raise UnsupportedModelError(problem, remedy="mend these values in config.json")
