"""`cairn runs`: builds and their stages, as the registry recorded them."""

import json
from pathlib import Path
from typing import Any

import typer

from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

app = typer.Typer(help="Builds and their stages.", no_args_is_help=True)


@app.command("ls")
def list_runs(
    limit: int = typer.Option(30, min=1, help="How many, newest first."),
    stages: bool = typer.Option(False, "--stages", help="Show the stages of each build too."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List runs, newest first."""
    from cairn.registry import Registry

    with Registry.open() as registry:
        # Every build has up to eight stages between it and the next one.
        found = registry.runs(limit if stages else limit * 10)
    chosen = [run for run in found if stages or run.parent_id is None][:limit]
    rows = [_row(run) for run in chosen]
    if as_json:
        print_json(rows)
    else:
        print_table(
            rows,
            ("run_id", "recipe", "stage", "status", "started", "took"),
            empty="no runs yet: cairn build recipes/tutorial.toml",
        )


@app.command("show")
def show(run_id: str = typer.Argument(help="Run, see `cairn runs ls`."), as_json: bool = JSON_OPTION) -> None:
    """Show a run: its stages, inputs, output, and the last of its metrics."""
    from cairn.registry import Registry, reused_runs

    with Registry.open() as registry:
        run = registry.run(run_id)
        folder = registry.run_folder(run_id)
        stages = [{**_row(registry.run(found)), "status": "cached"} for found in reused_runs(folder)]
        stages += [_row(child) for child in reversed(registry.runs(1000, parent_id=run_id))]
    metrics = _last_metrics(folder)
    if as_json:
        values = {
            "inputs": list(run.inputs),
            "output": run.output,
            "error": run.error,
            "config": dict(run.config),
        }
        print_json({**_row(run), **values, "metrics": metrics, "folder": str(folder), "stages": stages})
        return
    rows = {**_row(run), "output": run.output or "", "error": run.error, "folder": str(folder)}
    rows |= {f"last {name}": value for name, value in metrics.items()}
    print_table(
        [{"what": name, "value": value} for name, value in rows.items() if value not in ("", None)],
        ("what", "value"),
        empty="nothing is known of it",
    )
    if stages:
        print_table(stages, ("run_id", "stage", "status", "started", "took"), empty="")


def _row(run: Any) -> dict[str, Any]:
    took = "" if run.finished_at is None else f"{run.finished_at - run.started_at:.1f} s"
    return {
        "run_id": run.run_id,
        "recipe": run.recipe,
        "stage": run.stage,
        "status": run.status,
        "started": human_time(run.started_at),
        "took": took,
    }


def _last_metrics(folder: Path) -> dict[str, Any]:
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        values: dict[str, Any] = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return {}
    return {name: values[name] for name in ("step", "split", "loss", "tokens_per_second") if name in values}
