"""`cairn index reembed`, `switch` and `rollback`: another embedder, while the first one answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from cairn.cli.index.opening import NAME, open_collection, open_library
from cairn.cli.output import JSON_OPTION, print_json, print_table
from cairn.core.errors import InvalidRequestError

if TYPE_CHECKING:
    from cairn.retrieval.collection import Collection


def reembed(
    collection: str = NAME,
    embedder: str = typer.Option("", help="The model that is to embed; may be left out to go on."),
    fusion: str = typer.Option(
        "", help="How scores are fused with it: calibrated or reciprocal; otherwise as now."
    ),
    queries: Path = typer.Option(
        None, help="Queries to compare with, as cairn eval takes them; otherwise those kept."
    ),
    judgements: Path = typer.Option(None, help="What is relevant to these queries: adds nDCG."),
    drop: bool = typer.Option(False, "--drop", help="Let every space go but the one that answers."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Embed a collection with another model while the present one answers, and compare the two.

    What is added meanwhile goes into both. Interrupted, the same command goes on. Then: cairn index switch.
    """
    from cairn.core.progress import console_progress
    from cairn.lifecycle.shadow_scores import shadow_scores
    from cairn.registry import Registry
    from cairn.retrieval import reembedding

    with Registry.open() as registry, open_library(registry) as library:
        opened = open_collection(library, collection)
        if drop:
            gone = reembedding.drop(registry, opened.info.collection_id, opened.indexes)
            return typer.echo(f"dropped {', '.join(each.embedder for each in gone) or 'nothing'}", err=True)
        settings = _settings(opened, embedder, fusion)
        encoders = library.encoders(settings["embedder"])
        space = reembedding.begin(opened, encoders, settings)
        done = reembedding.fill(opened, space, encoders, console_progress())
        texts, relevant = _queries(opened, queries, judgements)
        report: dict[str, Any] = {
            "collection": opened.info.name,
            "active": opened.info.config.embedder,
            "next": space.embedder,
            "embedded": done.num_chunks,
            "cut": done.num_cut,
            "queries": len(texts),
        }
        if texts:
            report["stages"] = shadow_scores(opened, space, texts, relevant, console_progress())
    return print_json(report) if as_json else _show(report)


def switch(
    collection: str = NAME,
    drop: bool = typer.Option(False, "--drop", help="Throw away what answered; there is no way back then."),
) -> None:
    """Let the space that was filled answer from now on, in every process; rollback takes it back."""
    _switched(collection, "next", drop=drop)


def rollback(
    collection: str = NAME,
    drop: bool = typer.Option(False, "--drop", help="Throw away what answered until now."),
) -> None:
    """Let the space that answered before the last switch answer again."""
    _switched(collection, "previous", drop=drop)


def _switched(collection: str, role: Literal["next", "previous"], *, drop: bool) -> None:
    from cairn.core.progress import console_progress
    from cairn.registry import Registry
    from cairn.retrieval import reembedding

    with Registry.open() as registry, open_library(registry) as library:
        opened = open_collection(library, collection)
        move = reembedding.switch if role == "next" else reembedding.roll_back
        space = move(opened, console_progress())
        if drop:
            reembedding.drop(registry, opened.info.collection_id, opened.indexes)
        name = opened.info.name
    back = "" if drop else f"; back: cairn index {'rollback' if role == 'next' else 'switch'} {name}"
    typer.echo(f"{name}: {space.embedder} answers{back}", err=True)


def _settings(collection: "Collection", embedder: str, fusion: str) -> dict[str, Any]:
    """Those of the next space: what is given, else what it was begun with, else the collection's."""
    from typing import get_args

    from cairn.retrieval.config import Fusion
    from cairn.retrieval.spaces import settings_for, spaces_of

    if fusion and fusion not in get_args(Fusion):
        raise InvalidRequestError(f"fusion is {fusion!r}, allowed: {', '.join(get_args(Fusion))}")
    with collection.database.session(read_only=True) as session:
        begun = spaces_of(session, collection.info.collection_id).get("next")
    if begun is None and not embedder:
        raise InvalidRequestError("name the model with --embedder")
    given = {"embedder": embedder, "fusion": fusion}
    return settings_for(collection.database, collection.info.collection_id, given)


def _queries(
    collection: "Collection", queries: Path | None, judgements: Path | None
) -> "tuple[dict[str, str], dict[str, dict[str, int]]]":
    from cairn.data.judged import read_judgements, read_queries
    from cairn.retrieval.asked import kept_queries

    if judgements is not None and queries is None:
        raise InvalidRequestError("judgements are of queries: give --queries too")
    if queries is not None:
        relevant = read_judgements(judgements) if judgements is not None else {}
        return dict(read_queries(queries).texts), relevant
    kept = kept_queries(collection.database, collection.info.collection_id)
    return {str(number): text for number, text in enumerate(dict.fromkeys(kept))}, {}


def _show(report: dict[str, Any]) -> None:
    name = report["collection"]
    typer.echo(f"{name}: {report['embedded']} passages embedded with {report['next']}", err=True)
    if report["cut"]:
        typer.echo(
            f"  of {report['cut']} it reads the beginning alone; cut them anew after the switch: "
            f"cairn index rebuild {name}",
            err=True,
        )
    if "stages" in report:
        rows = [
            {"stage": stage, "what": what, "value": f"{value:.4f}"}
            for stage, values in report["stages"].items()
            for what, value in values.items()
        ]
        print_table(rows, ["stage", "what", "value"], empty="")
        typer.echo(f"  compared on {report['queries']} queries", err=True)
    else:
        typer.echo(
            "  not compared: give --queries, or let the collection keep those that are asked", err=True
        )
    typer.echo(f"  then: cairn index switch {name}", err=True)
