"""`cairn eval`: what is here, in numbers, kept as a run."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, print_json, print_table
from cairn.core.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from cairn.core.chat import Principal
    from cairn.data.judged import Judged
    from cairn.lifecycle.retrieval_scores import SearchScores
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.collection import Collection

app = typer.Typer(no_args_is_help=True, help="Measure what is here; every report is kept as a run.")


@app.callback()
def _root() -> None:
    """A group also while it has one command."""


@app.command()
def retrieval(
    collection: str = typer.Argument("", metavar="[COLLECTION]", help="A name or id; or give --data."),
    queries: Path = typer.Option(None, help='JSON lines {"id", "text", "answers"}, or lines `id TAB text`.'),
    judgements: Path = typer.Option(
        None, help="TREC's `query 0 document relevance`; documents by name or id."
    ),
    data: str = typer.Option(
        "", help="A judged set instead: cranfield, cisi, med, xquad, or a folder with one."
    ),
    embedder: str = typer.Option("", help="With --data: the model that embeds, otherwise the default one."),
    model: str = typer.Option("", help="A chat model whose answers are checked against their sources."),
    limit: int = typer.Option(0, min=0, help="At most so many queries, evenly over all; 0: all."),
    user: str = typer.Option("", help="Search as this user; otherwise the administrator."),
    group: list[str] = typer.Option([], help="A group that user is in; may be given again."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure every stage of the search on judged queries, and the answers where right ones are known.

    nDCG, MRR, recall and MAP by words, by vectors, fused and reranked; EM and F1 of the reader; with --model
    the precision of citations and the faithfulness of what it writes.
    """
    from cairn.cli.acting import acting_as
    from cairn.core.progress import console_progress
    from cairn.lifecycle.retrieval_scores import chosen_queries, judged_collection, keep_report
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.server.identity.permissions import Permission

    if bool(collection) == bool(data) or (collection and not (queries and judgements)):
        raise InvalidRequestError(
            "name a collection with --queries and --judgements, or a judged set with --data"
        )
    with (
        Registry.open() as registry,
        Library(registry, progress=console_progress()) as library,
        ExitStack() as opening,
    ):
        reader = acting_as(registry, user, group, Permission.READ_KNOWLEDGE)
        judged = chosen_queries(_judged(data, queries, judgements), limit)

        def measure() -> "tuple[dict[str, Any], SearchScores]":
            opened = (
                opening.enter_context(judged_collection(library, judged, embedder))
                if data
                else library.collection(collection)
            )
            return _measured(registry, library, opened, judged, reader, model)

        report, artifact = keep_report(registry, collection or data, measure)
    report["artifact"] = artifact.digest
    return print_json(report) if as_json else _show(report)


def _measured(
    registry: "Registry",
    library: "Library",
    collection: "Collection",
    judged: "Judged",
    principal: "Principal",
    model: str,
) -> "tuple[dict[str, Any], SearchScores]":
    from cairn.core.progress import console_progress
    from cairn.lifecycle.retrieval_scores import score_generated, score_reader, score_search, writer
    from cairn.providers import load_local_provider

    progress = console_progress()
    scores = score_search(collection, judged, principal, progress)
    report: dict[str, Any] = {
        "documents": collection.stats().num_documents,
        "queries": len(scores.hits),
        "embedder": collection.encoders.digest,
        "stages": scores.measures,
    }
    reader = library.reader()
    if reader is not None and judged.answers.keys() & scores.hits.keys():
        report["reader"] = score_reader(reader, judged, scores.hits, progress)
    if model:
        provider = load_local_provider(registry, model, name=model, progress=progress)
        try:
            report["generated"] = {
                "model": provider.artifact_digest,
                **score_generated(writer(provider, collection, principal), judged, scores.hits, progress),
            }
        finally:
            provider.close()
    return report, scores


def _show(report: dict[str, Any]) -> None:
    rows = [
        {"stage": name, **{measure: f"{value:.4f}" for measure, value in measures.items()}}
        for name, measures in report["stages"].items()
    ]
    print_table(rows, list(rows[0]), empty="")
    for part in ("reader", "generated"):
        if part in report:
            rows = [
                {"what": f"{part} {name}", "value": f"{value:.4f}" if isinstance(value, float) else value}
                for name, value in report[part].items()
            ]
            print_table(rows, ["what", "value"], empty="")
    typer.echo(
        f"{report['queries']} queries, {report['documents']} documents; "
        f"the report and every ranking: cairn artifact show {report['artifact']}",
        err=True,
    )


def _judged(data: str, queries: Path | None, judgements: Path | None) -> "Judged":
    from cairn.data.judged import Judged, read_judged, read_judgements, read_queries
    from cairn.data.judged_sets import JUDGED_SETS

    if not data:
        assert queries is not None
        assert judgements is not None
        asked = read_queries(queries)
        return Judged({}, asked.texts, read_judgements(judgements), asked.answers)
    if data in JUDGED_SETS:
        return JUDGED_SETS[data]()
    if not Path(data).is_dir():
        raise NotFoundError(
            f"no judged set is called {data!r}", remedy=f"name a folder, or one of {', '.join(JUDGED_SETS)}"
        )
    return read_judged(Path(data))
