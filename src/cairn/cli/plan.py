"""`cairn plan`: what a recipe will take on this machine; after a build, how right that was."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, human_seconds, print_json, print_table

RECIPE = typer.Argument(help="Recipe, a TOML file.")


def plan(
    recipe: Path = RECIPE,
    measure: bool = typer.Option(
        True,
        "--measure/--no-measure",
        help="Time real steps of the model (some seconds), or use the profile.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Predict what a recipe will take here.

    Parameters, memory, FLOPs and time; after a build also what it took.
    """
    from cairn.lifecycle.comparison import comparisons
    from cairn.lifecycle.predictions import plan_recipe
    from cairn.registry import Registry

    with Registry.open() as registry:
        found = plan_recipe(recipe, registry, measure=measure)
        built = comparisons(found.recipe, registry)
    if as_json:
        values = {**asdict(found), "last_build": {name: _compared(each) for name, each in built.items()}}
        totals = {"seconds": found.seconds, "flops": found.flops, "memory_bytes": found.memory_bytes}
        print_json({**values, **totals})
        return
    typer.echo(
        f"{found.recipe}: {found.num_params:,} parameters, {human_bytes(found.model_bytes)} in bfloat16, "
        f"trained in {found.dtype}"
    )
    rows = [_row(stage, built.get(stage.stage)) for stage in found.stages]
    total = {
        "stage": "total",
        "FLOPs": f"{found.flops:.1e}",
        "memory": human_bytes(found.memory_bytes),
        "time": human_seconds(found.seconds),
        **_whole(list(built.values())),
    }
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    rows.append({column: total.get(column, "") for column in rows[0]})
    print_table(rows, columns, empty="no stages")
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _row(stage: Any, last: Any) -> dict[str, str]:
    off_by = last.off_by if last else None
    return {
        "stage": stage.stage,
        "tokens": f"{stage.tokens:,}" if stage.tokens else "",
        "FLOPs": f"{stage.flops:.1e}" if stage.flops else "",
        "memory": human_bytes(stage.memory_bytes) if stage.memory_bytes else "",
        "tokens/s": f"{stage.tokens_per_second:,.0f}" if stage.tokens_per_second else "",
        "time": human_seconds(stage.seconds),
        "basis": stage.basis,
        "was predicted": human_seconds(last.predicted) if last and last.predicted else "",
        "it took": human_seconds(last.actual) if last else "",
        "off by": f"{off_by:+.0%}" if off_by is not None else "",
    }


def _whole(built: list[Any]) -> dict[str, str]:
    """Sums of the last build; what it was predicted to take only where every stage had a plan."""
    if not built:
        return {}
    took = sum(each.actual for each in built)
    columns = {"it took": human_seconds(took)}
    if all(each.predicted for each in built):
        predicted = sum(each.predicted for each in built)
        columns |= {"was predicted": human_seconds(predicted), "off by": f"{predicted / took - 1:+.0%}"}
    return columns


def _compared(comparison: Any) -> dict[str, float | None]:
    return {**asdict(comparison), "off_by": comparison.off_by}
