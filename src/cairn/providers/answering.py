"""Answers from collections: passages are found, a model writes from them or the reader takes the answer out.

What is said is held against what it cites, and the receipt says which passages were given, by their digests.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    Message,
    Principal,
    StreamEnd,
    TextDelta,
    Usage,
)
from cairn.core.digests import digest_bytes
from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.core.retrieval import Hit, Passage
from cairn.providers.grounding import (
    CheckedSentence,
    ExtractedAnswer,
    check_sentences,
    closest_answer,
    grounded_messages,
    marks,
    sentence_around,
)
from cairn.providers.heads import LocalReader
from cairn.providers.protocol import TextProvider
from cairn.providers.receipts import message_json
from cairn.registry import Receipt, Registry, new_receipt_id
from cairn.retrieval.collection import Collection
from cairn.retrieval.context import Context, build_context
from cairn.retrieval.query_words import WORD
from cairn.retrieval.search import CollectionRetriever, SearchOptions
from cairn.telemetry import current

CONTEXT_TOKENS = 1500
"""Most tokens of the passages a model writes from."""
LEAST_WRITER_BYTES = 50_000_000
"""A smaller model is not let to write from passages."""
_CLOSEST = 3
_POINTING = frozenset(
    WORD.findall(
        "it its itself he him his she her hers they them their theirs this that these those one ones"
    )
)


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that an answer names."""

    number: int
    index: int
    """Where it is first named, in characters."""
    passage: Passage
    """The one that was found, or those of its words that are the answer."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """What choice `index` of a reply rests on; comes before its end."""

    index: int
    citations: tuple[Citation, ...] = ()
    sentences: tuple[CheckedSentence, ...] = ()
    given: tuple[Hit, ...] = ()
    """What it could name, in the order of the numbers."""


AnswerEvent = ChatEvent | Grounding


def question_of(messages: Sequence[Message]) -> tuple[str, str]:
    """The last question of a conversation, and what to search for.

    A question that points back (how many of *them*?) is searched together with the one before it.
    """
    asked = [message.text for message in messages if message.role == "user" and message.text.strip()]
    if not asked:
        raise InvalidRequestError("no message asks anything", remedy="end with a question", param="messages")
    words = {word.lower() for word in WORD.findall(asked[-1])}
    return asked[-1], "\n".join(asked[-2:]) if words & _POINTING else asked[-1]


def can_write(registry: Registry, digest: str) -> bool:
    """Whether a model writes answers from passages: all do but very small ones, such as the starter."""
    if not digest:
        return True  # another server, or one of a route's targets
    try:
        return registry.get(digest).size >= LEAST_WRITER_BYTES
    except NotFoundError:
        return True  # it is somewhere else


async def retrieve(
    collections: Sequence[Collection], query: str, principal: Principal, options: SearchOptions
) -> list[Hit]:
    """The best passages of all collections for a query, best first; none that may not be seen."""
    found = await asyncio.gather(
        *(CollectionRetriever(each).find(query, principal, options) for each in collections)
    )
    if len(found) == 1:
        return found[0]
    ranked = [(place, hit) for hits in found for place, hit in enumerate(hits)]
    if all("reranked" in hit.stages for _, hit in ranked):
        ranked.sort(key=lambda each: -each[1].stages["reranked"])
    else:  # other scores compare within one collection alone
        ranked.sort(key=lambda each: (each[0], -each[1].score))
    return [hit for _, hit in ranked[: options.limit]]


async def written(
    provider: TextProvider, request: ChatRequest, collection: Collection, hits: Sequence[Hit]
) -> AsyncGenerator[AnswerEvent, None]:
    """A model's reply to a conversation, from what was found for its last question in `collection` or others.

    What each choice rests on comes before its end.
    """
    assert request.principal is not None, "somebody asks"
    spoken = provider.count_tokens("\n".join(message.text for message in request.messages))
    with current().child("build context") as span:
        context = await asyncio.to_thread(
            build_context,
            collection,
            hits,
            request.principal,
            budget=min(CONTEXT_TOKENS, (provider.context_length - spoken) // 2),
            count=provider.count_tokens,
        )
        span.set("cairn.context.sources", len(context.sources))
        span.set("cairn.context.tokens", context.num_tokens)
    if hits and not context.sources:
        raise InvalidRequestError(
            f"{provider.name} reads {provider.context_length} tokens, which leaves no room for a passage",
            remedy="ask in a new conversation, or choose a model that reads more",
            param="messages",
        )
    by_id = {hit.passage.chunk_id: hit for hit in hits}
    given = tuple(by_id[source.passage.chunk_id] for source in context.sources)
    record = _record(request, [(each.passage, each.chunk_ids) for each in context.sources])
    asked = replace(request, messages=grounded_messages(request.messages, context), record=record)
    texts: defaultdict[int, str] = defaultdict(str)
    async with aclosing(provider.stream(asked)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                texts[event.index] += event.text
            elif isinstance(event, ChoiceEnd):
                yield _grounding(event.index, texts[event.index], context, given)
            yield event


async def read_out(
    reader: LocalReader | None,
    request: ChatRequest,
    hits: Sequence[Hit],
    *,
    where: str,
    save_receipt: Callable[[Receipt], None],
) -> AsyncGenerator[AnswerEvent, None]:
    """The words of a passage that answer a conversation's last question, or what comes closest.

    `where` is what was searched, for the sentence that says that nothing was found.
    """
    question, _ = question_of(request.messages)
    answer = None
    if reader is not None:
        with current().child("read passages", {"cairn.passages": len(hits)}):
            answer = await asyncio.to_thread(closest_answer, reader, question, hits)
    text, grounding = _said(answer, hits, where)
    receipt = _reading_receipt(reader, request, hits, answer)
    for index in range(request.sampling.n):
        yield TextDelta(index, text)
        yield replace(grounding, index=index)
        yield ChoiceEnd(index, "stop")
    await asyncio.to_thread(save_receipt, receipt)
    yield StreamEnd(Usage(0, 0), receipt.receipt_id)


def _said(answer: ExtractedAnswer | None, hits: Sequence[Hit], where: str) -> tuple[str, Grounding]:
    if not hits:
        return f"Nothing in {where} fits this question.", Grounding(0)
    if answer is not None and answer.is_sure:
        text = f"{answer.text} [{answer.source}]"
        quoted = _part(hits[answer.source - 1].passage, answer.start, answer.end)
        citation = Citation(answer.source, len(answer.text) + 1, quoted)
        return text, Grounding(0, (citation,), (CheckedSentence(text, (answer.source,), True, 0),))
    numbers = list(range(1, min(len(hits), _CLOSEST) + 1))
    passages = {number: hits[number - 1].passage for number in numbers}
    text = "The closest passages:"
    if answer is not None:
        passage = hits[answer.source - 1].passage
        start, end = sentence_around(passage.text, answer)
        text = f"No passage answers this clearly. The closest: “{passage.text[start:end]}”"
        passages[answer.source] = _part(passage, start, end)
        numbers = [answer.source, *(number for number in numbers if number != answer.source)][:_CLOSEST]
    citations = []
    for number in numbers:
        citations.append(Citation(number, len(text) + 1, passages[number]))
        text += f" [{number}]"
    return text, Grounding(0, tuple(citations))


def _part(passage: Passage, start: int, end: int) -> Passage:
    """Some of a passage's characters, as a passage."""
    first = passage.span[0] + len(passage.text[:start].encode())
    words = passage.text[start:end]
    return replace(passage, text=words, span=(first, first + len(words.encode())))


def _grounding(index: int, text: str, context: Context, given: tuple[Hit, ...]) -> Grounding:
    cited = [
        Citation(number, at, given[number - 1].passage)
        for number, at in marks(text).items()
        if context.source(number) is not None
    ]
    return Grounding(index, tuple(cited), tuple(check_sentences(text, context)), given)


def _reading_receipt(
    reader: LocalReader | None, request: ChatRequest, hits: Sequence[Hit], answer: ExtractedAnswer | None
) -> Receipt:
    return Receipt(
        receipt_id=request.request_id or new_receipt_id(),
        created_at=time.time(),
        kind="reading",
        model=request.model,
        artifact=reader.artifact_digest if reader is not None else "",
        prompt_token_ids=[],
        sampling={},
        outputs=[],
        finish_reasons=[],
        runner={},
        user_id=request.principal.user_id if request.principal else "",
        request=_record(request, [(hit.passage, (hit.passage.chunk_id,)) for hit in hits])
        | {"answer": answer_json(answer)},
        trace_id=current().trace_id,
    )


def answer_json(answer: ExtractedAnswer | None) -> dict[str, int] | None:
    """An answer as a receipt has it: where its words stand."""
    return {"source": answer.source, "start": answer.start, "end": answer.end} if answer else None


def _record(request: ChatRequest, given: Sequence[tuple[Passage, Sequence[int]]]) -> dict[str, Any]:
    """What a receipt says of a question and the passages given with it: which they were, not their words."""
    return {
        "messages": [message_json(message) for message in request.messages],
        "sources": [
            {
                "number": number,
                "collection_id": passage.collection_id,
                "document_id": passage.document_id,
                "document_digest": passage.document_digest,
                "chunk_ids": list(chunk_ids),
                "digest": digest_bytes(passage.text.encode()),
            }
            for number, (passage, chunk_ids) in enumerate(given, 1)
        ],
    }
