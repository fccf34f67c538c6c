"""What a build hands back: the outcome of every stage, and the finished model."""

from dataclasses import dataclass
from pathlib import Path

from cairn.lifecycle.stage import AnyRecipe
from cairn.registry import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutcome:
    """How one stage of a build went."""

    stage: str
    key: str
    artifact: Artifact
    is_cached: bool
    seconds: float
    """Wall time of the run that made it, earlier attempts not included; 0 when unknown."""
    run_id: str
    """The run that made the artifact, of this build or an earlier one; empty when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build."""

    recipe: AnyRecipe
    recipe_path: Path
    run_id: str
    outcomes: tuple[StageOutcome, ...]
    seconds: float
    report: Artifact | None = None

    @property
    def model(self) -> Artifact:
        """The finished model."""
        return self.outcomes[-1].artifact

    def outcome(self, stage: str) -> StageOutcome:
        """How the named stage went."""
        return next(outcome for outcome in self.outcomes if outcome.stage == stage)
