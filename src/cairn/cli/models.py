"""`cairn models`, `cairn import`, `cairn pull`: models that can answer, and bringing others here."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, human_time, print_json, print_table
from cairn.core.errors import ConflictError

if TYPE_CHECKING:
    from cairn.registry import Registry

app = typer.Typer(no_args_is_help=True, help="Models that can answer: list, show, export, unname.")

NAME = typer.Argument(metavar="MODEL", help="A name (assistant, assistant:production) or a digest.")


@app.command("ls")
def list_models(as_json: bool = JSON_OPTION) -> None:
    """List models by name, the one served first on top."""
    from cairn.core.digests import short
    from cairn.registry import Registry
    from cairn.server.config import ServerConfig
    from cairn.server.models import NO_MODEL_REMEDY, ModelPool

    with Registry.open() as registry:
        artifacts = {artifact.digest: artifact for artifact in registry.artifacts()}
        pool = ModelPool(registry, ServerConfig())
        served = [*pool.served(), *pool.encoders()]
    if as_json:
        return print_json(
            [
                {
                    "name": model.name,
                    "digest": model.digest,
                    "size": artifacts[model.digest].size,
                    "created_at": artifacts[model.digest].created_at,
                    "metadata": dict(artifacts[model.digest].metadata),
                }
                for model in served
            ]
        )
    rows = [
        {
            "name": model.name,
            "task": model.task,
            "digest": short(model.digest),
            "size": human_bytes(artifacts[model.digest].size),
            "created": human_time(artifacts[model.digest].created_at),
        }
        for model in served
    ]
    return print_table(
        rows,
        ["name", "task", "digest", "size", "created"],
        empty=f"No models yet; {NO_MODEL_REMEDY}, or try the starter: cairn chat",
    )


@app.command()
def show(model: str = NAME, as_json: bool = JSON_OPTION) -> None:
    """Show what a model is, and its card."""
    from cairn.registry import Registry

    with Registry.open() as registry:
        found = registry.get(model)
        names = sorted(alias.full_name for alias in registry.aliases() if alias.digest == found.digest)
    card = found.folder / "card.md"
    details = {
        "digest": found.digest,
        "names": names,
        "created": human_time(found.created_at),
        "size": human_bytes(found.size),
        "parents": list(found.parents),
        "run": found.run_id or "",
        "folder": str(found.folder),
        **{f"metadata.{key}": value for key, value in sorted(found.metadata.items())},
    }
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if as_json:
        return print_json(details | {"card": text})
    width = max(map(len, details))
    for key, value in details.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        typer.echo(f"{key:<{width}}  {shown}")
    if text:
        typer.echo(f"\n{text.rstrip()}")
    return None


class ExportType(StrEnum):
    """Number formats of an exported file's matrices."""

    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    F16 = "f16"
    BF16 = "bf16"


@app.command()
def export(
    model: str = NAME,
    path: Path = typer.Argument(metavar="PATH", help="The file to write; of an adapter, the folder."),
    weights: ExportType = typer.Option(
        ExportType.Q8_0, "--type", help="8 or 4 bits a weight, or 16 of either kind."
    ),
    force: bool = typer.Option(False, "--force", help="Replace the file if it is there."),
) -> None:
    """Write a model to a GGUF file, or an adapter as PEFT reads it.

    The file is for llama.cpp, with tokenizer and chat template. For another Cairn: cairn artifact export.
    """
    from cairn.providers.exporting import export_model
    from cairn.registry import Registry

    if path.exists() and not force:
        raise ConflictError(f"{path} is there already", remedy="choose another file, or add --force")
    with Registry.open() as registry:
        export_model(registry, model, path, weights.value)
    typer.echo(f"{model} is in {path}", err=True)


@app.command("rm")
def remove(name: str = typer.Argument(metavar="NAME", help="The name to take away.")) -> None:
    """Take a name away, so that the model is no longer served.

    The files stay until `cairn artifact gc`, and the command to undo it is printed.
    """
    from cairn.registry import Registry

    base, _, alias = name.partition(":")
    alias = alias or "latest"
    with Registry.open() as registry:
        digest = registry.get(f"{base}:{alias}").digest
        registry.remove_alias(base, alias)
    typer.echo(f"removed {base}:{alias}; undo: cairn artifact alias {base}:{alias} {digest}", err=True)


def import_model(
    source: str = typer.Argument(
        metavar="PATH|ORG/NAME", help="A folder in the Hugging Face layout, a GGUF file, or a repository."
    ),
    name: str = typer.Option("", help="The name it is served under; otherwise the folder's."),
    base: str = typer.Option("", help="Of a low-rank adapter: the model it was trained on."),
) -> None:
    """Bring in a checkpoint, from disk or the Hub.

    PATH is a folder in the Hugging Face layout, a GGUF file, or a low-rank adapter as PEFT saves it; ORG/NAME
    a repository of the Hugging Face Hub.
    """
    from cairn.providers.importing import import_checkpoint, is_repository
    from cairn.registry import Registry

    if not Path(source).exists() and is_repository(source):
        return pull(source, name=name, revision="")
    with Registry.open() as registry:
        artifact = import_checkpoint(registry, Path(source), name=name, base=base)
        return _report(registry, artifact.digest)


def pull(
    repository: str = typer.Argument(metavar="ORG/NAME", help="A repository of the Hugging Face Hub."),
    name: str = typer.Option("", help="The name it is served under; otherwise the repository's."),
    revision: str = typer.Option("", help="A branch, tag or commit."),
) -> None:
    """Fetch a checkpoint from the Hugging Face Hub."""
    from cairn.core.errors import InvalidRequestError
    from cairn.providers.importing import is_repository, pull_checkpoint
    from cairn.registry import Registry

    if not is_repository(repository):
        raise InvalidRequestError(
            f"{repository!r} is no repository", remedy="give ORG/NAME, such as HuggingFaceTB/SmolLM2-135M"
        )
    with Registry.open() as registry:
        artifact = pull_checkpoint(registry, repository, name=name, revision=revision)
        _report(registry, artifact.digest)


def _report(registry: "Registry", digest: str) -> None:
    name = next(alias.name for alias in registry.aliases() if alias.digest == digest)
    typer.echo(f"{name} is here; talk to it: cairn chat {name}", err=True)
