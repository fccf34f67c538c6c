"""What one layer is made of, as data: attention, rotary embedding, experts.

Frozen and hashable, so that layers with an equal `RopeSpec` share one computation of cosines.
"""

from dataclasses import dataclass
from typing import Literal

RopeScaling = Literal["default", "linear", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """How scores become weights; attention is always causal."""

    scale: float
    """Factor on the dot products."""
    window: int | None = None
    """Key j is visible to query i iff i - window < j <= i; None: all j <= i."""
    softcap: float | None = None
    """Scores become softcap * tanh(score / softcap) (Gemma 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """Rotary position embedding (Su et al. 2021) and how its frequencies are stretched.

    `linear`: all divided by `factor`. `llama3`: low ones divided, high ones kept, a ramp between.
    `yarn` (Peng et al. 2023): the same by rotations within the original context, with a temperature.
    `dynamic`: equal to `default` up to the model's context, which is as far as it runs here: beyond
    it the frequencies would depend on the longest sequence in the batch.
    """

    theta: float
    rotary_dim: int
    """Leading dimensions of a head that turn; the rest pass unchanged."""
    scaling: RopeScaling = "default"
    factor: float = 1.0
    original_max_position: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    """Factor on cosines and sines (yarn); None: derived from `factor` and the mscales."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """A mixture of experts in place of the MLP (Shazeer et al. 2017; Fedus et al. 2021)."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int
    """Width of one expert."""
    norm_topk_prob: bool = True
    """Weights of the chosen experts sum to one."""
    shared_intermediate_size: int = 0
    """Width of a gated expert that every token passes (Qwen2-MoE); 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One decoder layer."""

    attention: AttentionSpec
    rope: RopeSpec | None
    """None: no rotation (NoPE layers, learned positions)."""
    intermediate_size: int
    """Width of the dense MLP; unused where `experts` is set."""
    experts: ExpertsSpec | None = None

    @property
    def window(self) -> int | None:
        return self.attention.window
