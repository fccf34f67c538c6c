"""What a run remembers between steps, besides weights and optimizer: the JSON part of a checkpoint."""

import base64
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import torch


@dataclass(slots=True)
class Window:
    """Sums since the last line of metrics."""

    nats: float = 0.0
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0


@dataclass(slots=True)
class RunState:
    """Counters of a run. `step` is the next step, which is also the position in the data."""

    step: int = 0
    tokens: int = 0
    train_seconds: float = 0.0
    """In training steps, without validation and checkpoints."""
    seconds: float = 0.0
    """Wall time of all attempts."""
    flops: float = 0.0
    loss: float = 0.0
    grad_norm: float = 0.0
    validation_loss: float | None = None
    bits_per_byte: float | None = None
    validated_step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    metrics_bytes: int = 0
    window: Window = field(default_factory=Window)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From a checkpoint; fields of other versions are passed over."""
        known = {entry.name: values[entry.name] for entry in fields(cls) if entry.name in values}
        return cls(**known | {"window": Window(**values["window"])})


def random_state(device: torch.device) -> dict[str, str]:
    """torch's random generators as text."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {name: base64.b64encode(state.numpy().tobytes()).decode() for name, state in states.items()}


def set_random_state(states: dict[str, str], device: torch.device) -> None:
    """Put the generators back."""
    tensors = {
        name: torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        for name, text in states.items()
    }
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
