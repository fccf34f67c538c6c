"""What became of each stage of a build: one line of `stages.jsonl` in the folder of the build's run.

A stage that was taken from cache has no run of its own under the build; its line names the run that made
it then.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cairn.registry import durable

_FILE = "stages.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStage:
    """A finished stage of a build."""

    stage: str
    output: str
    """Digest of the artifact."""
    cached: bool
    run_id: str
    """The run that made it, in this build or an earlier one; empty when that is not known any more."""


def record_stage(run_folder: Path, stage: BuildStage) -> None:
    """Add a stage to the record of a build."""
    path = run_folder / _FILE
    with durable.storage_errors(f"cannot write {path}"), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(stage)) + "\n")


def recorded_stages(run_folder: Path) -> list[BuildStage]:
    """The stages a build has finished so far, in order; none for a run that is no build."""
    try:
        text = (run_folder / _FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    # The writer may be in the middle of the last line.
    return [BuildStage(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def reused_runs(run_folder: Path) -> list[str]:
    """The earlier runs whose output a build took instead of running the stage again."""
    return [stage.run_id for stage in recorded_stages(run_folder) if stage.cached and stage.run_id]
