"""The shape of a decoder: the few numbers from which parameters, FLOPs and memory follow.

Everything the planner computes comes from here, so that no torch is needed to plan.
Mixture-of-experts layers count all experts for memory and the chosen ones for FLOPs.
Norms and biases are left out of the counts made here (under 0.1 % at any usual size);
`num_params` may be given exactly by whoever built the network.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of a decoder-only transformer."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """Width of the MLP, or of one expert."""
    tied_embeddings: bool = True
    gated_mlp: bool = True
    """Three matrices (SwiGLU and kin) instead of two."""
    num_experts: int = 0
    """0: dense."""
    num_experts_per_token: int = 0
    shared_intermediate_size: int = 0
    """Width of the experts every token passes, together."""
    windows: tuple[int | None, ...] = ()
    """Attention window of each layer; empty: every layer sees everything before it."""
    exact_params: int = 0
    """Parameters as counted from the network; 0: the formula below."""

    @property
    def attention_params(self) -> int:
        """Weights of q, k, v and output projection in one layer."""
        query = self.hidden_size * self.num_heads * self.head_dim
        key_value = self.hidden_size * self.num_kv_heads * self.head_dim
        return 2 * query + 2 * key_value

    @property
    def expert_params(self) -> int:
        """Weights of one MLP (or one expert)."""
        return (3 if self.gated_mlp else 2) * self.hidden_size * self.intermediate_size

    @property
    def embedding_params(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def num_params(self) -> int:
        """All weights, embeddings included."""
        if self.exact_params:
            return self.exact_params
        layer = self.attention_params + self._shared_params + self.expert_params * max(1, self.num_experts)
        layer += self.hidden_size * self.num_experts  # the router
        return self.num_layers * layer + self.embedding_params * (1 if self.tied_embeddings else 2)

    @property
    def matmul_params(self) -> int:
        """Weights that multiply every token: active experts and the output head, not the embedding lookup."""
        mlp = self.expert_params * (self.num_experts_per_token if self.num_experts else 1)
        layer = self.attention_params + self._shared_params + mlp + self.hidden_size * self.num_experts
        return self.num_layers * layer + self.embedding_params

    def visible(self, layer: int, context: int) -> float:
        """Keys the average query of `layer` sees in a document of `context` tokens."""
        window = self.windows[layer] if self.windows else None
        if window is None or window >= context:
            return (context + 1) / 2
        return window - window * (window - 1) / (2 * context)

    @property
    def _shared_params(self) -> int:
        return (3 if self.gated_mlp else 2) * self.hidden_size * self.shared_intermediate_size
