"""A server with gRPC, and real clients of it."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from cairn.server.grpc import api_pb2 as api
from cairn.server.grpc import api_pb2_grpc as stubs
from tests.server.conftest import PATIENCE, Running, Script, Serve


class Client:
    """Stubs over one channel, with a key."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self.channel = channel
        make: Any = stubs  # generated without types
        self.chat = make.ChatStub(channel)
        self.completions = make.CompletionsStub(channel)
        self.embeddings = make.EmbeddingsStub(channel)
        self.reranking = make.RerankingStub(channel)
        self.models = make.ModelsStub(channel)
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def ask(self, method: Any, request: Any, *, timeout: float | None = None, **metadata: str) -> Any:
        """Call a method; `with_call` where it has one, so that its metadata can be read."""
        more = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        return method(request, metadata=self.metadata + more, timeout=timeout)


Connect = Callable[..., Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(server)`, `connect(server, key)`, `connect(server, "")` for nobody."""
    channels: list[grpc.Channel] = []

    def open_one(server: Running, key: str | None = None) -> Client:
        server.wait_until(lambda: server.server.grpc_port > 0)
        channel = grpc.insecure_channel(f"127.0.0.1:{server.server.grpc_port}")
        channels.append(channel)
        grpc.channel_ready_future(channel).result(PATIENCE)
        return Client(channel, server.key if key is None else key)

    yield open_one
    for each in channels:
        each.close()


@pytest.fixture
def server(serve: Serve, script: Script) -> Running:
    return serve(script(), grpc_port=0)


def asking(text: str = "hi", **values: Any) -> api.ChatRequest:
    """A chat of one message."""
    request = api.ChatRequest(model="scripted", **values)
    request.messages.add(role="user", content=text)
    return request


def details(error: grpc.RpcError) -> tuple[ErrorInfo, RetryInfo | None]:
    """Code and remedy of a refusal, and how long to wait."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = Status.FromString(packed)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info, wait = ErrorInfo(), RetryInfo()
    status.details[0].Unpack(info)
    has_wait = len(status.details) > 1 and status.details[1].Unpack(wait)
    return info, wait if has_wait else None


def refusal(call: Callable[[], Any]) -> grpc.RpcError:
    """What a call is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value
