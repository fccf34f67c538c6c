"""What a stage and a whole recipe are predicted to take."""

from dataclasses import dataclass

MEASURED, PROFILE, LAST_RUN, RULE = "measured", "profile", "last run", "rule of thumb"
START_SECONDS = 1.0
"""Loading torch, opening the data, the first and last checkpoint."""
BRIEF_SECONDS = 0.05
"""What a stage takes that has next to nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Predictions for one stage; None where a stage has no such number."""

    stage: str
    seconds: float
    basis: str
    """Where `seconds` and `memory_bytes` come from: measured, profile, last run, rule of thumb."""
    tokens: int | None = None
    flops: float | None = None
    memory_bytes: int | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePlan:
    """Predictions for a recipe on this machine."""

    recipe: str
    num_params: int
    model_bytes: int
    dtype: str
    stages: tuple[StagePlan, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def flops(self) -> float:
        return sum(stage.flops or 0.0 for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        return max(stage.memory_bytes or 0 for stage in self.stages)
