"""`cairn data`: the named data sets, what may be done with them, and bringing one here."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, print_json, print_table
from cairn.core.errors import NotFoundError

if TYPE_CHECKING:
    from cairn.core.config import Settings
    from cairn.data.datasets import DatasetSpec

app = typer.Typer(no_args_is_help=True, help="Named data sets: list, show, get, verify, clean.")

NAME = typer.Argument(metavar="NAME", help="Name of a data set (`cairn data ls`).")


@app.command("ls")
def list_datasets(
    use: str = typer.Option("", help="Only sets for this use, such as pre-training or evaluation."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the data sets; `here` are those on this machine."""
    from cairn.core.config import Settings
    from cairn.data.datasets import dataset_table

    settings = Settings.from_env()
    specs = [spec for spec in dataset_table().values() if not use or use in spec.use]
    rows = [_row(spec, settings) for spec in specs]
    if as_json:
        return print_json(rows)
    for row in rows:
        row["use"] = ", ".join(row["use"])
        row["here"] = "yes" if row["folder"] else ""
        # Remarks in brackets are for `show`.
        row["licence"] = re.sub(r" \(.*\)", "", row["licence"])
    return print_table(
        rows, ["name", "use", "licence", "weights", "here"], empty=f"No data set is for {use!r}."
    )


@app.command()
def show(name: str = NAME, as_json: bool = JSON_OPTION) -> None:
    """Show source, licence, digests and what is held out of one."""
    from cairn.core.config import Settings
    from cairn.data.datasets import find_dataset

    row = _row(find_dataset(name), Settings.from_env())
    if as_json:
        return print_json(row)
    row["use"] = ", ".join(row["use"])
    row["archive_bytes"] = human_bytes(row["archive_bytes"]) if row["archive_bytes"] else ""
    return print_table(
        [{"field": key, "value": value} for key, value in row.items() if value], ["field", "value"], empty=""
    )


@app.command()
def get(names: list[str] = NAME, as_json: bool = JSON_OPTION) -> None:
    """Bring data sets here, from CAIRN_MIRROR or from their source, every file verified."""
    from cairn.core.config import Settings
    from cairn.core.progress import console_progress
    from cairn.data.datasets import get_dataset

    settings = Settings.from_env()
    found = [get_dataset(name, settings, progress=console_progress()) for name in names]
    if as_json:
        return print_json([{"name": local.spec.name, "folder": str(local.folder)} for local in found])
    for local in found:
        typer.echo(local.folder)
    return None


@app.command()
def verify(name: str = NAME) -> None:
    """Check that a data set on this machine still holds exactly its files."""
    from cairn.data.datasets import local_dataset, verify_dataset

    local = local_dataset(name)
    if local is None:
        raise NotFoundError(f"{name} is not on this machine", remedy=f"cairn data get {name}")
    verify_dataset(local)
    typer.echo(f"{name}: every file is as it should be")


@app.command()
def clean(
    paths: list[Path] = typer.Argument(
        help="Files and folders: txt, md, jsonl, csv, parquet, also compressed."
    ),
    out: Path = typer.Option(..., "--out", help="JSON Lines file to write: text, source, metadata."),
    text_field: str = typer.Option("text", help="Column or key that holds the text of a row."),
    language: list[str] = typer.Option([], help="Keep only this language (en); may be given again."),
    against: list[str] = typer.Option(
        [], help="Evaluation set whose items must not occur; may be given again."
    ),
    workers: int = typer.Option(1, help="Processes for cleaning and judging."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Clean, filter and deduplicate texts, and say what was dropped and why."""
    from cairn.core.config import Settings
    from cairn.core.progress import console_progress
    from cairn.data.corpus import clean_to_file
    from cairn.data.datasets import get_dataset
    from cairn.data.decontamination import EvaluationIndex
    from cairn.data.pipeline import PipelineConfig
    from cairn.data.readers import ReadConfig
    from cairn.data.texts import evaluation_texts

    settings, progress = Settings.from_env(), console_progress()
    sets = {name: evaluation_texts(get_dataset(name, settings, progress=progress)) for name in against}
    reading, report = clean_to_file(
        paths,
        out,
        reading=ReadConfig(text_field=text_field),
        config=PipelineConfig(languages=tuple(language), workers=workers),
        evaluation=EvaluationIndex(sets) if sets else None,
        progress=progress,
    )
    if as_json:
        return print_json({"read": reading, **report.to_json()})
    rows = [
        {
            "step": name,
            "in": step.num_in,
            "out": step.num_out,
            "bytes out": human_bytes(step.bytes_out),
            "seconds": round(step.seconds, 2),
            "why": ", ".join(f"{reason} {count}" for reason, count in step.reasons.most_common(4)),
        }
        for name, step in report.steps.items()
    ]
    print_table(rows, ["step", "in", "out", "bytes out", "seconds", "why"], empty="No step was run.")
    typer.echo(f"{out}", err=True)
    return None


def _row(spec: "DatasetSpec", settings: "Settings") -> dict[str, Any]:
    from cairn.data.datasets import local_dataset

    local = local_dataset(spec.name, settings)
    return {**spec.model_dump(), "source": spec.source, "folder": str(local.folder) if local else ""}
