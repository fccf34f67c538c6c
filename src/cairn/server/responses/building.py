"""A response as it comes to be: what events of a chat add to it, and what a stream tells of that."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from cairn.core.chat import ChatRequest, ChoiceEnd, StreamEnd, TextDelta, ToolCall, ToolCallDelta, Usage
from cairn.core.errors import CairnError, InvalidRequestError, OverloadedError
from cairn.core.ids import random_hex
from cairn.providers.answering import question_of
from cairn.server.openai_types import CairnInfo, ContentLogprob, FileSearchSpec
from cairn.server.replies import RepliedEvent, Sources, logprobs_json
from cairn.server.responses.requests import new_item_id
from cairn.server.responses.types import (
    IncompleteDetails,
    InputTokensDetails,
    NewResponse,
    OutputCall,
    OutputMessage,
    OutputSearch,
    OutputText,
    Reasoning,
    ResponseError,
    ResponseObject,
    ResponseUsage,
    TextConfig,
)

Event = dict[str, Any]


def new_response(body: NewResponse, chat: ChatRequest) -> ResponseObject:
    """A response of which nothing is said yet."""
    return ResponseObject(
        id=f"resp_{random_hex(32)}",
        created_at=int(time.time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=body.model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        reasoning=body.reasoning or Reasoning(),
        store=body.store is not False,
        temperature=chat.sampling.temperature,
        text=body.text or TextConfig(),
        tool_choice=body.tool_choice or "auto",
        tools=body.tools or [],
        top_logprobs=body.top_logprobs or 0,
        top_p=chat.sampling.top_p,
        truncation=body.truncation or "disabled",
        user=body.user,
        cairn=CairnInfo(receipt=chat.request_id),
    )


class Building:
    """A response under way. Events are numbered in one line, from `numbers`."""

    def __init__(self, response: ResponseObject, numbers: "count[int]") -> None:
        self.response = response
        self._numbers = numbers
        self._message: OutputMessage | None = None

    def begin(self, chat: ChatRequest, search: FileSearchSpec | None) -> Iterator[Event]:
        """It has begun, and what was looked for was found."""
        yield self._state("response.created")
        yield self._state("response.in_progress")
        if search is None:
            return
        _, query = question_of(chat.messages)
        item = OutputSearch(id=new_item_id("file_search_call"), queries=[query], status="in_progress")
        yield self._add(item)
        for step in ("in_progress", "searching", "completed"):
            yield self._event(f"response.file_search_call.{step}", self._place(item.id))
        item.status = "completed"
        yield self._done(item)

    def push(self, event: RepliedEvent) -> Iterator[Event]:
        """What an event of the chat adds."""
        if isinstance(event, TextDelta):
            yield from self._text(event)
        elif isinstance(event, ToolCallDelta):
            yield from self._end_message("completed")
            yield from self._call(event.call)
        elif isinstance(event, Sources):
            yield from self._sources(event)
        elif isinstance(event, ChoiceEnd):
            is_cut = event.reason == "length"
            yield from self._end_message("incomplete" if is_cut else "completed")
            if is_cut:
                self.response.incomplete_details = IncompleteDetails(reason="max_output_tokens")
        elif isinstance(event, StreamEnd):
            self.response.usage = _usage(event.usage)
            self.response.cairn = CairnInfo(receipt=event.receipt_id)  # of the attempt that answered
            self.response.status = "incomplete" if self.response.incomplete_details else "completed"
            self.response.completed_at = int(time.time())

    def fail(self, error: CairnError) -> None:
        """It ends here, without what is missing."""
        code = "invalid_prompt" if isinstance(error, InvalidRequestError) else "server_error"
        if isinstance(error, OverloadedError):
            code = "rate_limit_exceeded"
        self.response.status = "failed"
        self.response.error = ResponseError(code=code, message=error.sentence)
        if self._message is not None:
            self._message.status = "incomplete"

    def end(self) -> Event:
        """It has ended, however it has."""
        return self._state(f"response.{self.response.status}")

    def _text(self, event: TextDelta) -> Iterator[Event]:
        if self._message is None:
            self._message = OutputMessage(
                id=new_item_id("message"), status="in_progress", content=[OutputText()]
            )
            # An item is told without its parts, which follow.
            yield self._add(self._message.model_copy(update={"content": []}))
            self.response.output[-1] = self._message
            part = self._message.content[0].model_dump()
            yield self._event("response.content_part.added", self._part_place() | {"part": part})
        text = self._message.content[0]
        logprobs = logprobs_json(event.logprobs)
        text.text += event.text
        text.logprobs += [ContentLogprob.model_validate(each) for each in logprobs]
        told = {"delta": event.text, "logprobs": logprobs}
        yield self._event("response.output_text.delta", self._part_place() | told)

    def _sources(self, event: Sources) -> Iterator[Event]:
        if self._message is None:
            return
        text = self._message.content[0]
        text.annotations, text.sentences = event.annotations, event.sentences
        for number, each in enumerate(event.annotations):
            told = {"annotation_index": number, "annotation": each.model_dump()}
            yield self._event("response.output_text.annotation.added", self._part_place() | told)

    def _end_message(self, status: Any) -> Iterator[Event]:
        message = self._message
        if message is None:
            return
        part = message.content[0].model_dump()
        told = {"text": part["text"], "logprobs": part["logprobs"]}
        yield self._event("response.output_text.done", self._part_place() | told)
        yield self._event("response.content_part.done", self._part_place() | {"part": part})
        message.status = status
        yield self._done(message)
        self._message = None

    def _call(self, call: ToolCall) -> Iterator[Event]:
        item = OutputCall(
            id=new_item_id("function_call"),
            call_id=call.call_id,
            name=call.name,
            arguments="",
            status="in_progress",
        )
        yield self._add(item)
        place = self._place(item.id)
        item.arguments, item.status = call.arguments, "completed"
        yield self._event("response.function_call_arguments.delta", place | {"delta": call.arguments})
        told = {"name": call.name, "arguments": call.arguments}
        yield self._event("response.function_call_arguments.done", place | told)
        yield self._done(item)

    def _add(self, item: OutputMessage | OutputCall | OutputSearch) -> Event:
        self.response.output.append(item)
        return self._event("response.output_item.added", self._item(item))

    def _done(self, item: OutputMessage | OutputCall | OutputSearch) -> Event:
        return self._event("response.output_item.done", self._item(item))

    def _item(self, item: OutputMessage | OutputCall | OutputSearch) -> Event:
        return {"output_index": len(self.response.output) - 1, "item": item.model_dump()}

    def _place(self, item_id: str) -> Event:
        return {"item_id": item_id, "output_index": len(self.response.output) - 1}

    def _part_place(self) -> Event:
        assert self._message is not None
        return self._place(self._message.id) | {"content_index": 0}

    def _state(self, kind: str) -> Event:
        return self._event(kind, {"response": response_json(self.response)})

    def _event(self, kind: str, told: Event) -> Event:
        return {"type": kind, "sequence_number": next(self._numbers), **told}


def response_json(response: ResponseObject) -> dict[str, Any]:
    """A response as it goes out."""
    return response.model_dump(by_alias=True)


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
