"""The planner: what training a shape will take on this machine, before it is tried.

Time comes from one of two sources, and the plan says which (`basis`): "measured", when the
caller timed real steps of the very model, or "profile", an efficiency model over the machine
profile: products at the measured matmul rate, everything else at the measured bandwidth.
FLOPs and memory are formulas either way.
"""

from dataclasses import dataclass

from cairn.compute.flops import muon_flops, training_flops
from cairn.compute.memory import TrainingMemory, layer_activation_bytes, training_memory
from cairn.compute.profile import MachineProfile
from cairn.compute.shape import ModelShape

_ACTIVATION_PASSES = 6.0
"""Times every kept activation crosses memory in a step: written, read, its gradient written and read,
and about as much again in temporaries. Fitted on llama-like shapes of 1 to 30 M parameters."""
_OPTIMIZER_PASSES = {"adamw": 10.0, "muon": 12.0}
"""Float32 passes over the parameters in one update, gradients and clipping included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Predictions for one training run."""

    num_params: int
    tokens: int
    steps: int
    flops: float
    memory: TrainingMemory
    tokens_per_second: float
    basis: str
    """`measured` (real steps were timed) or `profile` (rates of the machine)."""

    @property
    def seconds(self) -> float:
        return self.tokens / self.tokens_per_second


def plan(
    shape: ModelShape,
    profile: MachineProfile,
    *,
    tokens: int,
    batch_tokens: int,
    micro_batch_tokens: int,
    context: int,
    dtype: str = "float32",
    optimizer: str = "adamw",
    checkpoint_activations: bool = False,
    loss_chunk_tokens: int = 0,
    measured_tokens_per_second: float | None = None,
) -> TrainingPlan:
    """Parameters, FLOPs, memory and time of training `shape` on `tokens` tokens."""
    flops = training_flops(shape, context, checkpoint_activations=checkpoint_activations)
    rate = measured_tokens_per_second or _profile_rate(
        shape, profile, flops, batch_tokens=batch_tokens, dtype=dtype, optimizer=optimizer
    )
    return TrainingPlan(
        num_params=shape.num_params,
        tokens=tokens,
        steps=-(-tokens // batch_tokens),
        flops=flops * tokens,
        memory=training_memory(
            shape,
            micro_batch_tokens=micro_batch_tokens,
            dtype=dtype,
            optimizer=optimizer,
            checkpoint_activations=checkpoint_activations,
            loss_chunk_tokens=loss_chunk_tokens,
        ),
        tokens_per_second=rate,
        basis="measured" if measured_tokens_per_second else "profile",
    )


def _profile_rate(
    shape: ModelShape,
    profile: MachineProfile,
    flops: float,
    *,
    batch_tokens: int,
    dtype: str,
    optimizer: str,
) -> float:
    """Tokens per second from the profile's rates."""
    matmul_rate = profile.gflops(dtype, shape.hidden_size) * 1e9
    traffic = layer_activation_bytes(shape, dtype) * shape.num_layers * _ACTIVATION_PASSES
    update_flops = muon_flops(shape) if optimizer == "muon" else 0.0
    update_traffic = 4.0 * shape.num_params * _OPTIMIZER_PASSES[optimizer]
    bandwidth = profile.memory_gbps * 1e9
    per_token = flops / matmul_rate + traffic / bandwidth
    per_step = update_flops / matmul_rate + update_traffic / bandwidth
    return 1.0 / (per_token + per_step / batch_tokens)
