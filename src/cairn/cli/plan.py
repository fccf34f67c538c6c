"""`cairn plan`: what a recipe will take on this machine; after a build, how right that was."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, print_json, print_table

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
    """Predict parameters, memory, FLOPs and time of a recipe here."""
    from cairn.lifecycle.predictions import plan_recipe
    from cairn.registry import Registry

    with Registry.open() as registry:
        found = plan_recipe(recipe, registry, measure=measure)
    if as_json:
        values = asdict(found)
        print_json(
            {**values, "seconds": found.seconds, "flops": found.flops, "memory_bytes": found.memory_bytes}
        )
        return
    typer.echo(
        f"{found.recipe}: {found.num_params:,} parameters, {human_bytes(found.model_bytes)} in bfloat16, "
        f"trained in {found.dtype}"
    )
    rows = [_row(stage) for stage in found.stages]
    rows.append(
        {
            "stage": "total",
            "tokens": "",
            "FLOPs": f"{found.flops:.1e}",
            "memory": human_bytes(found.memory_bytes),
            "tokens/s": "",
            "predicted": human_seconds(found.seconds),
            "basis": "",
            "actual": _total_actual(found.stages),
            "off by": "",
        }
    )
    print_table(rows, tuple(rows[0]), empty="no stages")
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _row(stage: Any) -> dict[str, str]:
    actual = stage.actual_seconds
    return {
        "stage": stage.stage,
        "tokens": f"{stage.tokens:,}" if stage.tokens else "",
        "FLOPs": f"{stage.flops:.1e}" if stage.flops else "",
        "memory": human_bytes(stage.memory_bytes) if stage.memory_bytes else "",
        "tokens/s": f"{stage.tokens_per_second:,.0f}" if stage.tokens_per_second else "",
        "predicted": human_seconds(stage.seconds),
        "basis": stage.basis,
        "actual": human_seconds(actual) if actual is not None else "",
        "off by": f"{stage.seconds / actual - 1:+.0%}" if actual else "",
    }


def _total_actual(stages: Any) -> str:
    known = [stage.actual_seconds for stage in stages]
    return human_seconds(sum(known)) if known and None not in known else ""


def human_seconds(seconds: float) -> str:
    """3725 -> `1 h 2 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
