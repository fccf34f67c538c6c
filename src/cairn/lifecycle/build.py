"""`build`: run a recipe's stages, skipping what is built and going on where a build stopped.

Guarantees: a stage whose key is built is not run again; a killed build, run again, ends with the
same artifacts as one that was not killed; two builds of the same recipe at once share the work
instead of doing it twice. Each stage is a run in the registry, child of the build's run.
"""

import errno
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cairn.core import CairnError, Progress, Silent, StorageError, short
from cairn.lifecycle.comparison import drop_plan, keep_plan
from cairn.lifecycle.overall import Overall
from cairn.lifecycle.predictions import plan_recipe
from cairn.lifecycle.report import write_report
from cairn.lifecycle.result import BuildResult, StageOutcome
from cairn.lifecycle.slots import Slot, hold_slot, remove_checkpoints
from cairn.lifecycle.stage import AnyRecipe, Recorded, Stage, StageContext, load_recipe, record
from cairn.lifecycle.stage_plan import StagePlan
from cairn.lifecycle.stages import stages_of
from cairn.lifecycle.status import run_of_key, stage_statuses, stages_again
from cairn.registry import Artifact, BuildStage, Registry, Run, record_stage

GO_ON = "run the same command again: it goes on where it stopped"


def build(
    recipe_path: Path,
    registry: Registry,
    progress: Progress | None = None,
    *,
    from_stage: str | None = None,
    force: Collection[str] = (),
    predict: bool = True,
) -> BuildResult:
    """Build a recipe. `from_stage` runs that stage and all later ones again, `force` just those named.

    `predict` times a few steps beforehand, for the progress display and the report's comparison.
    """
    recipe = load_recipe(recipe_path)
    again = stages_again(recipe, from_stage, force)
    started = time.monotonic()
    run = registry.start_run(recipe=recipe.name, config=recipe.model_dump(mode="json"))
    with _recorded(registry, run):
        progress = progress or Silent()
        plans = _predict(recipe, recipe_path, registry, progress, again) if predict else {}
        job = _Build(recipe, recipe_path, registry, progress, run.run_id, again, plans)
        result = BuildResult(
            recipe=recipe,
            recipe_path=recipe_path,
            run_id=run.run_id,
            outcomes=job.run(),
            seconds=time.monotonic() - started,
        )
        _name(result, registry)
        report = write_report(result, registry)
        registry.finish_run(run.run_id, status="succeeded", output=result.model.digest)
    return BuildResult(
        recipe=recipe,
        recipe_path=recipe_path,
        run_id=run.run_id,
        outcomes=result.outcomes,
        seconds=result.seconds,
        report=report,
    )


class _Build:
    """One build in progress."""

    def __init__(
        self,
        recipe: AnyRecipe,
        recipe_path: Path,
        registry: Registry,
        progress: Progress,
        run_id: str,
        again: Collection[str],
        plans: Mapping[str, StagePlan],
    ) -> None:
        self._recipe = recipe
        self._path = recipe_path
        self._registry = registry
        self._progress = progress
        self._run_id = run_id
        self._again = again
        self._plans = plans
        self._artifacts: dict[str, Artifact] = {}

    def run(self) -> tuple[StageOutcome, ...]:
        statuses = stage_statuses(self._recipe, self._path, self._registry, again=self._again)
        todo = [status.stage for status in statuses if status.status == "to do"]
        with Overall.open(self._recipe, self._registry, self._progress, todo, self._plans) as overall:
            return tuple(self._stage(stage, overall) for stage in stages_of(self._recipe))

    def _stage(self, stage: Stage, overall: Overall) -> StageOutcome:
        inputs = {name: artifact.digest for name, artifact in self._artifacts.items()}
        recorded = record(stage, self._recipe, self._path, inputs)
        key = recorded.key(stage.name)
        outcome = self._cached(stage, key) or self._made(stage, recorded, key, overall)
        overall.done(stage.name)
        self._record(outcome)
        self._artifacts[stage.name] = outcome.artifact
        state = "unchanged" if outcome.is_cached else f"{outcome.seconds:.1f} s"
        self._progress.say(f"{stage.name:<13}{short(outcome.artifact.digest)}  {state}")
        return outcome

    def _record(self, outcome: StageOutcome) -> None:
        done = BuildStage(
            stage=outcome.stage,
            output=outcome.artifact.digest,
            cached=outcome.is_cached,
            run_id=outcome.run_id,
        )
        record_stage(self._registry.run_folder(self._run_id), done)

    def _cached(self, stage: Stage, key: str) -> StageOutcome | None:
        if stage.name in self._again:
            return None
        artifact = self._registry.cached_output(key)
        if artifact is None:
            return None
        made_by = run_of_key(self._registry, key)
        seconds = (made_by.finished_at or 0) - made_by.started_at if made_by else 0.0
        return StageOutcome(
            stage=stage.name,
            key=key,
            artifact=artifact,
            is_cached=True,
            seconds=seconds,
            run_id=made_by.run_id if made_by else "",
        )

    def _made(self, stage: Stage, recorded: Recorded, key: str, overall: Overall) -> StageOutcome:
        def waiting() -> None:
            self._progress.say(f"{stage.name}: another build is making it; waiting for that")

        with hold_slot(self._registry.settings, key, waiting=waiting) as slot:
            # Another build may have finished it while this one waited.
            if outcome := self._cached(stage, key):
                return outcome
            with overall.stage(stage.name) as progress:
                return self._run_stage(stage, recorded, key, slot, progress)

    def _run_stage(
        self, stage: Stage, recorded: Recorded, key: str, slot: Slot, progress: Progress
    ) -> StageOutcome:
        run = self._registry.start_run(
            recipe=self._recipe.name,
            stage=stage.name,
            key=key,
            config=recorded.values,
            inputs=sorted(set(recorded.inputs.values())),
            parent_id=self._run_id,
        )
        folder = self._registry.run_folder(run.run_id)
        with _recorded(self._registry, run):
            if slot.adopt(folder):
                self._progress.say(f"{stage.name}: going on where an earlier build stopped")
                drop_plan(folder)
            elif plan := self._plans.get(stage.name):
                keep_plan(plan, folder)
            started = time.monotonic()
            context: StageContext[Any] = StageContext(
                recipe=self._recipe,
                recipe_path=self._path,
                registry=self._registry,
                folder=folder,
                run_id=run.run_id,
                progress=progress,
                inputs={name: self._artifacts[name] for name in stage.needs},
            )
            artifact = stage.run(context)
            seconds = time.monotonic() - started
            self._registry.finish_run(run.run_id, status="succeeded", output=artifact.digest)
        slot.clear()
        remove_checkpoints(folder)
        return StageOutcome(
            stage=stage.name, key=key, artifact=artifact, is_cached=False, seconds=seconds, run_id=run.run_id
        )


def _predict(
    recipe: AnyRecipe, recipe_path: Path, registry: Registry, progress: Progress, again: Collection[str]
) -> Mapping[str, StagePlan]:
    """Plans of a build that has to train, by stage; without them it is as good, only less foretold."""
    statuses = stage_statuses(recipe, recipe_path, registry, again=again)
    todo = {status.stage for status in statuses if status.status == "to do"}
    if not todo & {"pretrain", "sft", "train"}:
        return {}
    try:
        plan = plan_recipe(recipe_path, registry)
    except CairnError as error:
        progress.say(f"no prediction: {error.message}")
        return {}
    for warning in plan.warnings:
        progress.say(f"warning: {warning}")
    plans = {stage.stage: stage for stage in plan.stages if stage.stage in todo}
    progress.say(f"about {sum(stage.seconds for stage in plans.values()) / 60:.0f} minutes in all")
    return plans


def _name(result: BuildResult, registry: Registry) -> None:
    """Point the release's name at the model, unless it does already."""
    release = result.recipe.release
    named = {(alias.name, alias.alias): alias.digest for alias in registry.aliases(release.name)}
    if named.get((release.name, release.alias)) != result.model.digest:
        registry.set_alias(release.name, result.model.digest, alias=release.alias)


@contextmanager
def _recorded(registry: Registry, run: Run) -> Iterator[None]:
    """Write down how a run ended when it did not end well; the error goes on its way with its remedy."""
    try:
        yield
    except KeyboardInterrupt:
        _finish(registry, run, "interrupted", "stopped by the user")
        raise
    except OSError as error:
        _finish(registry, run, "failed", str(error))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{run.stage or run.recipe}: the disk is full", remedy=f"free some space, then {GO_ON}"
            ) from error
        raise
    except Exception as error:
        _finish(registry, run, "failed", error.message if isinstance(error, CairnError) else repr(error))
        raise


def _finish(registry: Registry, run: Run, status: str, error: str) -> None:
    # On a full disk this may fail too; the error that brought us here is the one to show.
    with suppress(CairnError, OSError):
        registry.finish_run(
            run.run_id, status="interrupted" if status == "interrupted" else "failed", error=error
        )
