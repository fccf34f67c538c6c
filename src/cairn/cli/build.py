"""`cairn build`: a recipe, made."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from cairn.cli.output import JSON_OPTION, human_seconds, print_json, print_table

RECIPE = typer.Argument(help="Recipe, a TOML file.")


def build(
    recipe: Path = RECIPE,
    from_stage: str = typer.Option("", "--from", help="Run this stage and all later ones again."),
    force: list[str] = typer.Option([], "--force", help="Run this stage again; may be given several times."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and why, and stop."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build a recipe, from raw text to a model.

    Stages that have not changed are skipped; a build that was stopped goes on where it stopped.
    """
    from cairn.core import console_progress
    from cairn.lifecycle.build import build as run_build
    from cairn.lifecycle.comparison import whole_comparison
    from cairn.registry import Registry

    if dry_run:
        _dry_run(recipe, from_stage, force, as_json=as_json)
        return
    # A service manager's stop is as good as Ctrl-C: the build leaves itself resumable.
    signal.signal(signal.SIGTERM, _interrupt)
    with Registry.open() as registry:
        result = run_build(recipe, registry, console_progress(), from_stage=from_stage or None, force=force)
        whole = whole_comparison(result, registry)
    assert result.report is not None
    path = result.report.folder / "report.html"
    if as_json:
        print_json(
            {
                "recipe": result.recipe.name,
                "run_id": result.run_id,
                "seconds": round(result.seconds, 1),
                "predicted_seconds": round(whole.predicted, 1) if whole and whole.predicted else None,
                "model": result.model.digest,
                "name": f"{result.recipe.release.name}:{result.recipe.release.alias}",
                "stages": [_stage_row(outcome) for outcome in result.outcomes],
                "report": str(path),
            }
        )
        return
    if whole and whole.predicted and whole.off_by is not None:
        took, predicted = human_seconds(whole.actual), human_seconds(whole.predicted)
        typer.echo(
            f"took    {took}, predicted {predicted} ({whole.off_by:+.0%}); by stage: cairn plan {recipe}"
        )
    typer.echo(f"model   {result.recipe.release.name}:{result.recipe.release.alias}  {result.model.digest}")
    typer.echo(f"report  {path}")


def _stage_row(outcome: Any) -> dict[str, Any]:
    return {
        "stage": outcome.stage,
        "artifact": outcome.artifact.digest,
        "cached": outcome.is_cached,
        "seconds": round(outcome.seconds, 1),
        "run_id": outcome.run_id,
    }


def _dry_run(recipe: Path, from_stage: str, force: list[str], *, as_json: bool) -> None:
    from cairn.lifecycle import load_recipe
    from cairn.lifecycle.status import stage_statuses, stages_again
    from cairn.registry import Registry

    loaded = load_recipe(recipe)
    with Registry.open() as registry:
        again = stages_again(loaded, from_stage or None, force)
        statuses = stage_statuses(loaded, recipe, registry, again=again)
    rows = [
        {"stage": status.stage, "status": status.status, "why": status.why, "key": status.key}
        for status in statuses
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("stage", "status", "why"), empty="no stages")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
