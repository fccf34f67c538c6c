"""`file_search` in chat: the question is asked of collections first, as who asks may see them.

The model does not choose: passages are looked for unless `tool_choice` is `none`. The reply comes with the
sources it names, and with each of its sentences held against them.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from textwrap import shorten

from cairn.core.chat import ChatRequest
from cairn.core.errors import InvalidRequestError
from cairn.core.retrieval import Hit
from cairn.providers.answering import (
    Citation,
    Grounding,
    can_write,
    question_of,
    read_out,
    retrieve,
    written,
)
from cairn.providers.grounding import CheckedSentence
from cairn.providers.protocol import TextProvider
from cairn.retrieval.catalogue import CollectionInfo, find_visible
from cairn.server.files.attaching import file_ids
from cairn.server.files.searching import above, options_of, score_of
from cairn.server.files.stores import note_use
from cairn.server.identity.permissions import Permission, require
from cairn.server.openai_types import FileCitation, FileSearchSpec, FoundPassage, SearchDone, SentenceCheck
from cairn.server.replies import RepliedEvent, Sources
from cairn.server.state import ServerState

_BEGINNING = 300
"""Characters that are told of a passage that was found."""


async def searched(
    state: ServerState, provider: TextProvider, request: ChatRequest, search: FileSearchSpec
) -> AsyncGenerator[RepliedEvent, None]:
    """The events of a reply from passages; the sources of a choice come before its end."""
    assert request.principal is not None, "somebody asks"
    require(request.principal, Permission.READ_KNOWLEDGE)
    _, query = question_of(request.messages)
    infos = await asyncio.to_thread(_visible, state, search, request)
    collections = [await asyncio.to_thread(state.library.collection, each) for each in infos]
    options = await asyncio.to_thread(
        options_of,
        state.registry.database,
        infos,
        search.max_num_results,
        search.filters,
        search.ranking_options,
    )
    hits = above(await retrieve(collections, query, request.principal, options), search.ranking_options)
    is_writer = await asyncio.to_thread(can_write, state.registry, provider.artifact_digest)
    beyond = _beyond_reading(request)
    if is_writer and (hits or beyond):
        answer = written(provider, request, collections[0], hits)
    elif beyond:
        raise InvalidRequestError(
            f"{request.model} is too small to write from passages, and the reader, which takes words out of "
            f"them, knows no {beyond}",
            remedy="leave it out, or choose a larger model",
            param=beyond,
        )
    else:
        answer = read_out(
            await asyncio.to_thread(state.library.reader),
            request,
            hits,
            where=", ".join(info.name for info in infos.values()),
            save_receipt=state.registry.save_receipt,
        )
    async with aclosing(answer) as events:
        async for event in events:
            if isinstance(event, Grounding):
                yield await asyncio.to_thread(_sources, state, event, query, event.given or hits, infos)
            else:
                yield event


def _visible(state: ServerState, search: FileSearchSpec, request: ChatRequest) -> dict[str, CollectionInfo]:
    """The collections of a search by their ids; `NotFoundError` for one that the asker may not know of."""
    assert request.principal is not None
    found = [find_visible(state.registry.database, ref, request.principal) for ref in search.vector_store_ids]
    for info in found:
        note_use(state.registry, info)
    return {info.collection_id: info for info in found}


def _beyond_reading(request: ChatRequest) -> str:
    """What a request asks for that only a model can do; empty when nothing."""
    asked = {
        "tools": bool(request.tools) and request.tool_choice != "none",
        "response_format": request.sampling.grammar is not None,
        "logprobs": request.sampling.logprobs is not None,
    }
    return next((param for param, is_asked in asked.items() if is_asked), "")


def _sources(
    state: ServerState,
    grounding: Grounding,
    query: str,
    hits: Sequence[Hit],
    infos: dict[str, CollectionInfo],
) -> Sources:
    with state.registry.database.session(read_only=True) as session:
        files = file_ids(session, (each.passage.document_id for each in grounding.citations))
    annotations = []
    for each in grounding.citations:
        file_id, _ = files.get(each.passage.document_id, (each.passage.document_id, {}))
        annotations.append(_annotation(each, infos[each.passage.collection_id], file_id))
    search = SearchDone(
        query=query,
        collections=[info.name for info in infos.values()],
        found=[_found(number, hit, infos) for number, hit in enumerate(hits, start=1)],
    )
    return Sources(grounding.index, annotations, _checks(grounding.sentences), search)


def _found(number: int, hit: Hit, infos: dict[str, CollectionInfo]) -> FoundPassage:
    passage = hit.passage
    return FoundPassage(
        number=number,
        score=score_of(hit),
        filename=passage.name,
        collection=infos[passage.collection_id].name,
        collection_id=passage.collection_id,
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        page=passage.page,
        heading=list(passage.heading_path),
        quote=shorten(passage.text, width=_BEGINNING, placeholder=" …"),
    )


def _annotation(citation: Citation, info: CollectionInfo, file_id: str) -> FileCitation:
    passage = citation.passage
    return FileCitation(
        number=citation.number,
        index=citation.index,
        file_id=file_id,
        filename=passage.name,
        collection=info.name,
        collection_id=info.collection_id,
        document_id=passage.document_id,
        chunk_id=passage.chunk_id,
        page=passage.page,
        heading=list(passage.heading_path),
        start=passage.span[0],
        end=passage.span[1],
        quote=passage.text,
    )


def _checks(sentences: Sequence[CheckedSentence]) -> list[SentenceCheck]:
    return [
        SentenceCheck(start=each.start, end=each.end, sources=list(each.sources), supported=each.is_supported)
        for each in sentences
    ]
