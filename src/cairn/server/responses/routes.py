"""`/v1/responses`: made, whole or as a stream; read, listed and deleted by who made them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cairn.core.chat import ChatRequest, Principal
from cairn.core.errors import CairnError, InvalidRequestError
from cairn.providers.protocol import TextProvider
from cairn.registry import new_receipt_id
from cairn.server.auth import Caller
from cairn.server.files.objects import Deleted
from cairn.server.files.paging import Order, list_json
from cairn.server.replies import replied, streamed, tell_target
from cairn.server.requests import file_search_of
from cairn.server.responses.building import Building, new_response, response_json
from cairn.server.responses.requests import fitted, input_items, to_chat_request
from cairn.server.responses.stored import history, own_response, store
from cairn.server.responses.types import ItemList, ListedItem, NewResponse, ResponseObject
from cairn.server.state import ServerState, state_of
from cairn.server.streaming import STREAMED, EventStream, Manner, answer, typed_frame
from cairn.server.usage.admission import Admission, Ticket, about_tokens

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/responses", response_model=ResponseObject, responses=STREAMED)
async def create_response(
    request: Request, caller: Caller, admission: Admission, body: NewResponse
) -> Response:
    """Answer, going on from an earlier response where one is named."""
    state = state_of(request)
    # Every id is made before it is used: what is stored is what was answered.
    if not isinstance(body.input, str):
        body = body.model_copy(update={"input": input_items(body)})
    making = _Making(state, caller, admission, body, new_receipt_id())
    headers = making.headers
    headers |= await admission.admit(
        body.model,
        prompt_tokens=about_tokens([body.model_dump_json(exclude_none=True)]),
        completion_tokens=body.max_output_tokens,
        receipt_id=making.receipt_id,
    )
    if body.stream:
        frames = streamed(state.models, body.model, making.frames)
        manner = Manner(failure=making.failure)
        return EventStream(frames, config=state.config, headers=headers, manner=manner)

    async def whole() -> dict[str, Any]:
        async with state.models.use(body.model) as provider, aclosing(making.events(provider)) as events:
            async for _ in events:
                pass
        assert making.response is not None
        return response_json(making.response)

    return await answer(whole(), request, config=state.config, headers=headers)


@router.get("/responses/{response_id}")
def get_response(request: Request, caller: Caller, response_id: str) -> ResponseObject:
    """A response that was stored."""
    with state_of(request).registry.database.session(read_only=True) as session:
        return ResponseObject.model_validate(own_response(session, response_id, caller.user_id).body)


@router.delete("/responses/{response_id}")
def delete_response(request: Request, caller: Caller, response_id: str) -> Deleted:
    """Delete a response; what went on from it cannot go on any more."""
    with state_of(request).registry.database.writing() as session:
        session.delete(own_response(session, response_id, caller.user_id))
    return Deleted(id=response_id, object="response")


@router.get("/responses/{response_id}/input_items")
def list_input_items(
    request: Request,
    caller: Caller,
    response_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: str | None = None,
) -> ItemList:
    """What a response was asked with; what was said before belongs to the response before."""
    with state_of(request).registry.database.session(read_only=True) as session:
        items = [_listed(each) for each in own_response(session, response_id, caller.user_id).input]
    items = items[::-1] if order == "desc" else items
    if after is not None:
        places = [place for place, item in enumerate(items) if item.id == after]
        if not places:
            raise InvalidRequestError(f"after is {after!r}, which is not in this list", param="after")
        items = items[places[0] + 1 :]
    return ItemList(**list_json(items[:limit], len(items) > limit))


@router.post("/responses/{response_id}/cancel")
def cancel_response(request: Request, caller: Caller, response_id: str) -> ResponseObject:
    """Refused for what has ended; to cancel one under way, close its connection."""
    with state_of(request).registry.database.session(read_only=True) as session:
        row = own_response(session, response_id, caller.user_id)
    raise InvalidRequestError(
        f"{response_id} has ended as {row.body['status']} and cannot be cancelled",
        remedy="to cancel a response under way close its connection",
        param="response_id",
    )


class _Making:
    """One response being made."""

    def __init__(
        self, state: ServerState, caller: Principal, admission: Ticket, body: NewResponse, receipt_id: str
    ) -> None:
        self.receipt_id = receipt_id
        self.headers = {"x-cairn-receipt": receipt_id}
        self.response: ResponseObject | None = None
        self._state, self._caller, self._body = state, caller, body
        self._admission = admission
        self._numbers = count()

    async def frames(self, provider: TextProvider) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.events(provider)) as events:
            async for each in events:
                yield typed_frame(each)

    async def events(self, provider: TextProvider) -> AsyncGenerator[dict[str, Any], None]:
        """Make and store it. What refuses the request does so before the first event; later it is one."""
        tell_target(provider, self.headers)
        chat = await self._chat(provider)
        search = file_search_of(self._body.tools, self._body.tool_choice)
        building = Building(new_response(self._body, chat), self._numbers)
        async with aclosing(replied(self._state, self._admission, provider, chat, search)) as events:
            try:
                async for event in events:
                    if self.response is None:
                        self.response = building.response
                        for each in building.begin(chat, search):
                            yield each
                    for each in building.push(event):
                        yield each
            except CairnError as error:
                if self.response is None or not self._body.stream:
                    raise
                building.fail(error)
        if building.response.store:
            items = input_items(self._body)
            await asyncio.to_thread(
                store, self._state.registry, self._caller.user_id, building.response, items
            )
        yield building.end()

    def failure(self, _status: int, error: dict[str, Any]) -> bytes:
        """What nobody expected, within a stream: the event, with the error object that clients look for."""
        said = error["error"]
        told = {name: said[name] for name in ("code", "message", "param")}
        return typed_frame({"type": "error", "sequence_number": next(self._numbers), **told, **error})

    async def _chat(self, provider: TextProvider) -> ChatRequest:
        body = self._body
        before = await asyncio.to_thread(
            history, self._state.registry, body.previous_response_id, self._caller.user_id
        )
        chat = to_chat_request(body, before, self._caller, provider.sampling_defaults, self.receipt_id)
        return await fitted(chat, provider) if body.truncation == "auto" else chat


def _listed(item: dict[str, Any]) -> ListedItem:
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        item = item | {"content": [{"type": kind, "text": content}]}
    return ListedItem.model_validate(item)
