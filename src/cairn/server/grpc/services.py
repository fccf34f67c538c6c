"""The services: a message becomes the request that it stands for, the answer becomes messages again."""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext as Context
from starlette.types import ASGIApp

from cairn.server.grpc import api_pb2 as api
from cairn.server.grpc import api_pb2_grpc as stubs
from cairn.server.grpc.bodies import (
    body_of,
    chat_body,
    completion_body,
    completion_reply,
    embeddings_body,
    embeddings_reply,
    message_of,
)
from cairn.server.grpc.failures import CallError, failure
from cairn.server.usage.promise import HEADER as DEADLINE_HEADER
from cairn.server.within import Answer, Asked, answered, call

logger = logging.getLogger("cairn.server")

M = TypeVar("M", bound=Message)
Metadata = tuple[tuple[str, str], ...]

_TAKEN = ("authorization", "x-api-key")
_TAKEN_PREFIX = "x-cairn-"
_TOLD = ("x-cairn-", "x-ratelimit-", "x-request-id", "x-should-retry", "retry-after")
"""Headers of an answer that its metadata repeats."""
_MOST_MILLISECONDS = 10**9 - 1
_EVENT_END = b"\n\n"
_DATA = b"data: "


class Asking:
    """Asks the application what a call asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def json(
        self, context: Context, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The whole answer of a path: to a body, or to nothing but its being read."""
        try:
            answer = await call(self._app, _asked(context, path, body))
        except Exception:
            await _fail(context)
            raise
        await context.send_initial_metadata(_told(answer.headers))
        if answer.status != 200:
            await _abort(context, failure(answer.status, answer.body, answer.headers))
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def events(
        self, context: Context, path: str, body: Mapping[str, Any], told: Callable[[dict[str, Any]], Message]
    ) -> None:
        """Write the events of a stream as messages, as they come."""
        streaming = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with aclosing(_events(self._app, _asked(context, path, streaming), context)) as events:
                async for event in events:
                    await context.write(told(event))
        except CallError as error:
            await _abort(context, error)
        except Exception:  # noqa: BLE001 (a process edge: it is logged)
            await _fail(context)


class ChatService(stubs.ChatServicer):
    """Conversations."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def Complete(self, request: api.ChatRequest, context: Context) -> api.ChatReply:  # noqa: N802
        found = await self._asking.json(context, "/v1/chat/completions", chat_body(request))
        return message_of(api.ChatReply, found)

    async def Stream(self, request: api.ChatRequest, context: Context) -> None:  # noqa: N802
        body = chat_body(request)
        await self._asking.events(context, "/v1/chat/completions", body, _told_as(api.ChatChunk))


class CompletionService(stubs.CompletionsServicer):
    """Text that is continued."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def Complete(self, request: api.CompletionRequest, context: Context) -> api.CompletionReply:  # noqa: N802
        found = await self._asking.json(context, "/v1/completions", completion_body(request))
        return completion_reply(found)

    async def Stream(self, request: api.CompletionRequest, context: Context) -> None:  # noqa: N802
        await self._asking.events(context, "/v1/completions", completion_body(request), completion_reply)


class EmbeddingService(stubs.EmbeddingsServicer):
    """Vectors of texts."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def Embed(self, request: api.EmbeddingsRequest, context: Context) -> api.EmbeddingsReply:  # noqa: N802
        return embeddings_reply(await self._asking.json(context, "/v1/embeddings", embeddings_body(request)))


class RerankingService(stubs.RerankingServicer):
    """How well documents answer a query."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def Rerank(self, request: api.RerankRequest, context: Context) -> api.RerankReply:  # noqa: N802
        body = {"documents": [], "query": "", **body_of(request)}
        return message_of(api.RerankReply, await self._asking.json(context, "/v1/rerank", body))


class ModelService(stubs.ModelsServicer):
    """Names that may be asked for."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def List(self, request: api.ListModelsRequest, context: Context) -> api.ListModelsReply:  # noqa: N802
        return message_of(api.ListModelsReply, await self._asking.json(context, "/v1/models"))

    async def Get(self, request: api.GetModelRequest, context: Context) -> api.Model:  # noqa: N802
        return message_of(api.Model, await self._asking.json(context, f"/v1/models/{request.name}"))


def add_services(app: ASGIApp, server: grpc.aio.Server) -> list[str]:
    """Put all services over an application into a server; their names."""
    asking, add = Asking(app), cast("Any", stubs)  # generated without types
    add.add_ChatServicer_to_server(ChatService(asking), server)
    add.add_CompletionsServicer_to_server(CompletionService(asking), server)
    add.add_EmbeddingsServicer_to_server(EmbeddingService(asking), server)
    add.add_RerankingServicer_to_server(RerankingService(asking), server)
    add.add_ModelsServicer_to_server(ModelService(asking), server)
    return [each.full_name for each in api.DESCRIPTOR.services_by_name.values()]


class SignedInOnly(grpc.aio.ServerInterceptor):
    """Reflection is for whoever has a key, as the OpenAPI document is for whoever is signed in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Let a call pass, or answer it with what is missing."""
        if not details.method.startswith("/grpc.reflection."):
            return await continuation(details)
        asked = Asked(method="GET", path="/v1/models", headers=_taken(details.invocation_metadata))
        answer = await call(self._app, asked)
        if answer.status in (200, 403):  # a key for something else is a key
            return await continuation(details)
        return grpc.stream_stream_rpc_method_handler(_refusing(answer))


def _refusing(answer: Answer) -> Callable[[Any, Context], Awaitable[None]]:
    async def refuse(_requests: Any, context: Context) -> None:
        await _abort(context, failure(answer.status, answer.body, answer.headers))

    return refuse


def _asked(context: Context, path: str, body: Mapping[str, Any] | None) -> Asked:
    """The request of a call. Its deadline is the longest time until an answer may begin."""
    headers = _taken(context.invocation_metadata())
    if (left := context.time_remaining()) is not None:
        milliseconds = min(max(0, int(left * 1000)), _MOST_MILLISECONDS)
        given = headers.get(DEADLINE_HEADER, "")
        if not given.isdigit() or int(given) > milliseconds:
            headers[DEADLINE_HEADER] = str(milliseconds)
    return Asked(
        path=path,
        method="GET" if body is None else "POST",
        body=b"" if body is None else json.dumps(body).encode(),
        headers=headers,
        client=_address(context.peer()),
    )


def _taken(metadata: Any) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata or ()
        if isinstance(value, str) and (key in _TAKEN or key.startswith(_TAKEN_PREFIX))
    }


def _address(peer: str) -> tuple[str, int] | None:
    """`ipv4:127.0.0.1:50000`, `ipv6:%5B::1%5D:50000`."""
    kind, _, rest = peer.partition(":")
    host, _, port = rest.replace("%5B", "").replace("%5D", "").rpartition(":")
    return (host, int(port)) if kind in ("ipv4", "ipv6") and port.isdigit() else None


def _told(headers: Mapping[str, str]) -> Metadata:
    return tuple((name, value) for name, value in headers.items() if name.startswith(_TOLD))


def _told_as(kind: type[M]) -> Callable[[dict[str, Any]], M]:
    return lambda event: message_of(kind, event)


async def _events(app: ASGIApp, asked: Asked, context: Context) -> AsyncGenerator[dict[str, Any], None]:
    """The events of a stream; `CallError` for a refusal, before or within it."""
    answer, buffer = Answer(), b""
    async with aclosing(answered(app, asked)) as messages:
        async for message in messages:
            if message["type"] == "http.response.start":
                answer.add(message)
                await context.send_initial_metadata(_told(answer.headers))
            elif answer.status != 200:
                answer.add(message)
            else:
                *whole, buffer = (buffer + message.get("body", b"")).split(_EVENT_END)
                for each in whole:
                    if each.startswith(_DATA + b"{"):
                        event = json.loads(each.removeprefix(_DATA))
                        if "error" in event:
                            raise failure(None, each.removeprefix(_DATA), answer.headers)
                        yield event
    if answer.status != 200:
        raise failure(answer.status, answer.body, answer.headers)


async def _fail(context: Context) -> None:
    """A failure that no handler knew: the log has it, the client is told nothing of its inside."""
    logger.exception("a gRPC call failed")
    await context.abort(grpc.StatusCode.INTERNAL, "the server failed on this call; its log says why")


async def _abort(context: Context, error: CallError) -> None:
    await context.abort(error.code, error.message, trailing_metadata=error.trailers)
