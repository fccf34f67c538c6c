"""`cairn ask`: a question to a collection; the passages that fit it, and the answer that stands in them."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, print_json
from cairn.core.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from cairn.core.chat import ChatRequest
    from cairn.core.retrieval import Hit
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.collection import Collection
    from cairn.retrieval.search import SearchOptions

_SHOWN_CHARACTERS = 400
_WIDEST = 100


def ask(
    question: str = typer.Argument(help="What you want to know."),
    collection: str = typer.Option("", help="Where to look; needed when there are several."),
    model: str = typer.Option("", help="A chat model that writes the answer from the passages."),
    limit: int = typer.Option(5, min=1, max=50, help="Most passages."),
    user: str = typer.Option("", help="See only what this user may; otherwise the administrator."),
    group: list[str] = typer.Option([], help="A group that user is in; may be given again."),
    graph: bool | None = typer.Option(
        None,
        "--graph/--no-graph",
        help="Walk from passage to passage over what they speak of; otherwise as the collection says.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Ask your own documents: passages with where they stand, and the answer in them.

    Without --model the answer is words of a passage, where the reader is here and sure enough.
    """
    import asyncio

    from cairn.cli.acting import acting_as
    from cairn.core.chat import ChatRequest, SamplingParams, text_message
    from cairn.core.progress import console_progress
    from cairn.providers.knowledge import Library
    from cairn.registry import Registry
    from cairn.retrieval.search import SearchOptions
    from cairn.server.identity import ADMIN
    from cairn.server.identity.permissions import Permission

    options = SearchOptions(limit=limit, graph=graph)
    with Registry.open() as registry, Library(registry, progress=console_progress()) as library:
        request = ChatRequest(
            model=model,
            messages=(text_message("user", question),),
            sampling=SamplingParams(temperature=0.0, max_tokens=512),
            principal=acting_as(registry, user, group, Permission.READ_KNOWLEDGE),
        )
        opened = library.collection(_meant(registry, collection, user or ADMIN))
        answer, hits = asyncio.run(_answered(registry, library, opened, request, options))
        found: dict[str, Any] = {"question": question, "collection": opened.info.name, "answer": answer}
    found["passages"] = [_passage(number, each) for number, each in enumerate(hits, 1)]
    if as_json:
        return print_json(found)
    return _show(found)


def _meant(registry: "Registry", collection: str, user: str) -> str:
    """The collection that is named, or else the one there is."""
    from cairn.cli.index.opening import meant
    from cairn.retrieval.catalogue import list_collections, told_names

    if collection:
        return meant(registry, collection, owner=user).collection_id
    names = told_names(list_collections(registry.database))
    if not names:
        raise NotFoundError("there is nothing to ask", remedy="put documents in: cairn index add PATH")
    if len(names) > 1:
        raise ConflictError(
            f"there are {len(names)} collections: {', '.join(names.values())}",
            remedy="choose with --collection NAME",
        )
    return next(iter(names))


async def _answered(
    registry: "Registry",
    library: "Library",
    collection: "Collection",
    request: "ChatRequest",
    options: "SearchOptions",
) -> "tuple[dict[str, Any] | None, Sequence[Hit]]":
    """The answer, if there is one, and the passages it may come from."""
    from cairn.providers.answering import question_of, retrieve
    from cairn.providers.grounding import extract_answer

    assert request.principal is not None
    question, query = question_of(request.messages)
    hits = await retrieve([collection], query, request.principal, options)
    if request.model and hits:
        return await _written(registry, collection, request, hits)
    reader = library.reader()
    answer = extract_answer(reader, question, hits) if reader is not None else None
    if answer is None:
        return None, hits
    return {"text": answer.text, "sources": [answer.source], "confidence": answer.confidence}, hits


async def _written(
    registry: "Registry", collection: "Collection", request: "ChatRequest", hits: "Sequence[Hit]"
) -> "tuple[dict[str, Any], Sequence[Hit]]":
    """A chat model's answer, each sentence held against the sources it names."""
    from contextlib import aclosing

    from cairn.core.chat import TextDelta
    from cairn.core.progress import console_progress
    from cairn.providers import load_local_provider
    from cairn.providers.answering import Grounding, written

    provider = load_local_provider(registry, request.model, name=request.model, progress=console_progress())
    try:
        text, grounding = "", Grounding(0)
        async with aclosing(written(provider, request, collection, hits)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                elif isinstance(event, Grounding):
                    grounding = event
    finally:
        provider.close()
    answer = {
        "text": text.strip(),
        "sources": sorted({number for each in grounding.sentences for number in each.sources}),
        "unsupported": [each.text for each in grounding.sentences if not each.is_supported],
    }
    return answer, grounding.given


def _passage(number: int, hit: "Hit") -> dict[str, Any]:
    passage = hit.passage
    return {
        "number": number,
        "document": passage.name,
        "page": passage.page,
        "heading": list(passage.heading_path),
        "text": passage.text,
        "span": list(passage.span),
        "document_id": passage.document_id,
        "digest": passage.document_digest,
        "score": hit.score,
        "stages": dict(hit.stages),
    }


def _show(found: dict[str, Any]) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST) if sys.stdout.isatty() else _WIDEST
    answer = found["answer"]
    if not found["passages"]:
        return typer.echo(f"Nothing in {found['collection']} fits this question.", err=True)
    if answer is not None:
        cited = "" if "unsupported" in answer else f" [{answer['sources'][0]}]"
        typer.echo(textwrap.fill(answer["text"] + cited, width) + "\n")
        for sentence in answer.get("unsupported", ()):
            typer.echo(f"not supported by what it cites: {sentence}", err=True)
    for passage in found["passages"]:
        where = ", ".join(filter(None, [f"page {passage['page']}", " > ".join(passage["heading"])]))
        typer.echo(typer.style(f"[{passage['number']}] {passage['document']}, {where}", bold=True))
        text = textwrap.shorten(passage["text"], _SHOWN_CHARACTERS, placeholder=" ...")
        typer.echo(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
    return None
