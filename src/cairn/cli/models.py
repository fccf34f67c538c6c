"""`cairn models`, `cairn import`, `cairn pull`: models that can answer, and bringing others here."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, human_time, print_json, print_table
from cairn.core.errors import CairnError, ConflictError

if TYPE_CHECKING:
    from cairn.registry import Artifact, Registry

app = typer.Typer(no_args_is_help=True, help="Models that can answer: list, show, load, export, unname.")

NAME = typer.Argument(metavar="MODEL", help="A name (assistant, assistant:production) or a digest.")
SERVED = typer.Argument(metavar="MODEL", help="A name, as cairn models ls shows it.")
ADDRESS_OPTION = typer.Option(
    "",
    metavar="URL",
    help="A server elsewhere, whose key is in CAIRN_API_KEY; otherwise the one that runs here.",
)
BASE_OPTION = typer.Option(
    "", metavar="MODEL", help="Of a low-rank adapter: the model here that it was trained on."
)


_LIST_SECONDS = 5.0
"""A list does not wait longer for what a server has to say to it."""
_COLUMNS = ("name", "task", "base", "digest", "size", "memory", "gguf", "created")


@app.command("ls")
def list_models(as_json: bool = JSON_OPTION) -> None:
    """List models by name, the one served first on top; while a server runs, who is in its memory."""
    from cairn.core.digests import short
    from cairn.registry import Registry
    from cairn.server.config import ServerConfig
    from cairn.server.models import NO_MODEL_REMEDY, ModelPool

    with Registry.open() as registry:
        artifacts = {artifact.digest: artifact for artifact in registry.artifacts()}
        pool = ModelPool(registry, ServerConfig())
        served = [*pool.served(), *pool.encoders()]
        memory = _memory(registry)
    if as_json:
        return print_json(
            [
                {
                    "name": model.name,
                    "task": model.task,
                    "base": model.parent,
                    "digest": model.digest,
                    "size": artifacts[model.digest].size,
                    "created_at": artifacts[model.digest].created_at,
                    "metadata": dict(artifacts[model.digest].metadata),
                    "memory": memory.get(model.name),
                }
                for model in served
            ]
        )
    rows = [
        {
            "name": model.name,
            "task": model.task,
            "base": model.parent,
            "digest": short(model.digest),
            "size": human_bytes(artifacts[model.digest].size),
            "memory": _shown(memory.get(model.name)),
            "gguf": _held(artifacts[model.digest].metadata),
            "created": human_time(artifacts[model.digest].created_at),
        }
        for model in served
    ]
    # Columns that say something of few models are there for those alone.
    empty = {column for column in ("base", "gguf", "memory") if not any(row[column] for row in rows)}
    return print_table(
        rows,
        [column for column in _COLUMNS if column not in empty],
        empty=f"No models yet; {NO_MODEL_REMEDY}, or try the starter: cairn chat",
    )


def _memory(registry: "Registry") -> dict[str, dict[str, Any]]:
    """What the server over this home says of its models' memory, by name; nothing where none answers."""
    from cairn.cli.server_client import server_client

    try:
        with server_client(registry) as server:
            memory = server.ask("/api/models/memory", patience=_LIST_SECONDS)
            return {model["name"]: model for model in memory["models"]}
    except CairnError:
        return {}


def _shown(memory: Mapping[str, Any] | None) -> str:
    """`4.1 MB, busy (2), pinned`, `loading: 25%`, `-` for what is not in memory; empty without a server."""
    if memory is None:
        return ""
    if memory["state"] == "unloaded":
        return "-"
    if memory["state"] == "loading":
        return f"loading: {memory['loading']}" if memory["loading"] else "loading"
    busy = f"busy ({memory['num_requests']})" if memory["num_requests"] else "idle"
    return ", ".join([human_bytes(memory["resident_bytes"]), busy, *["pinned"] * memory["pinned"]])


@app.command()
def load(model: str = SERVED, address: str = ADDRESS_OPTION) -> None:
    """Bring a model into a running server's memory, before anybody asks for it."""
    _say_memory(model, address, "load")


@app.command()
def unload(model: str = SERVED, address: str = ADDRESS_OPTION) -> None:
    """Let a model leave a running server's memory; it comes back when it is asked for."""
    _say_memory(model, address, "unload")


def _say_memory(model: str, address: str, verb: str) -> None:
    from cairn.cli.server_client import RefusedError, server_client
    from cairn.registry import Registry

    with Registry.open() as registry, server_client(registry, address) as server:
        try:
            now = server.ask(f"/api/models/{verb}", {"model": model})["cairn"]
        except RefusedError as error:
            raise error if address else _in_commands(error) from None
        memory = server.ask("/api/models/memory")
    took = f", takes {human_bytes(now['resident_bytes'])}" if now["state"] == "loaded" else ""
    place = "in memory" if now["state"] == "loaded" else "not in memory"
    typer.echo(
        f"{model} is {place}{took}; "
        f"models take {human_bytes(memory['held'])} of {human_bytes(memory['budget'])}",
        err=True,
    )


def _in_commands(error: CairnError) -> CairnError:
    """A server's error with the command that does what its remedy asks of HTTP."""
    from cairn.server.chat import LIST_MODELS

    return type(error)(error.message, remedy=error.remedy.replace(LIST_MODELS, "list them: cairn models ls"))


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
    base: str = BASE_OPTION,
) -> None:
    """Bring in a checkpoint, from disk or the Hub.

    PATH is a folder in the Hugging Face layout, a GGUF file (of a split one any part), or a low-rank adapter
    as PEFT saves it; ORG/NAME a repository of the Hugging Face Hub.
    """
    from cairn.providers.importing import import_checkpoint, is_repository
    from cairn.registry import Registry

    if not Path(source).exists() and is_repository(source):
        return pull(source, name=name, base=base, revision="")
    with Registry.open() as registry:
        artifact = import_checkpoint(registry, Path(source), name=name, base=base)
        return _report(registry, artifact.digest)


def pull(
    repository: str = typer.Argument(
        metavar="ORG/NAME[:QUANTISATION]", help="A repository of the Hugging Face Hub."
    ),
    name: str = typer.Option("", help="The name it is served under; otherwise the repository's."),
    base: str = BASE_OPTION,
    revision: str = typer.Option("", help="A branch, tag or commit."),
) -> None:
    """Fetch a checkpoint from the Hugging Face Hub.

    Of a repository of GGUF files the one of that quantisation, such as Q4_K_M: the default where it is there.
    """
    from cairn.core.errors import InvalidRequestError
    from cairn.core.progress import console_progress
    from cairn.providers.importing import is_repository, pull_checkpoint
    from cairn.registry import Registry

    if not is_repository(repository):
        raise InvalidRequestError(
            f"{repository!r} is no repository", remedy="give ORG/NAME, such as HuggingFaceTB/SmolLM2-135M"
        )
    with Registry.open() as registry:
        artifact = pull_checkpoint(
            registry, repository, name=name, base=base, revision=revision, progress=console_progress()
        )
        _report(registry, artifact.digest)


def _report(registry: "Registry", digest: str) -> None:
    name = _name(registry, digest)
    artifact = registry.get(digest)
    told = _held(artifact.metadata)
    if artifact.kind == "adapter":
        told = f"adapter of {_name(registry, artifact.parents[0])}"
    typer.echo(f"{name} is here{f' ({told})' if told else ''}; {_use(artifact, name)}", err=True)


def _name(registry: "Registry", digest: str) -> str:
    return next((alias.name for alias in registry.aliases() if alias.digest == digest), digest)


def _use(artifact: "Artifact", name: str) -> str:
    if artifact.metadata.get("task", "text") == "text":
        return f"talk to it: cairn chat {name}"
    return f"it is served for {artifact.metadata['task']}: cairn up"


def _held(metadata: Mapping[str, Any]) -> str:
    """What a GGUF file held that a model was made of, `Q4_K_M of 2.3 GB`; empty for other models."""
    gguf = metadata.get("gguf")
    return f"{gguf['quantisation']} of {human_bytes(gguf['size'])}" if isinstance(gguf, dict) else ""
