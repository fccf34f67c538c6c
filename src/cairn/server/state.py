"""What the routes need, in one value that the application carries: nothing here is global."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from fastapi import Request

from cairn.providers.encoder_loading import AnyEncoder, ModelTask
from cairn.providers.protocol import TextProvider
from cairn.registry import Registry
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.metrics import Metrics
from cairn.server.middleware import InFlight
from cairn.server.rate import FailureLimiter


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that requests may ask for."""

    name: str
    digest: str
    created_at: float
    state: Literal["loaded", "loading", "unloaded"] = "unloaded"
    num_bytes: int = 0
    """Memory it takes; two names of one artifact share it."""
    note: str = ""
    """How far its loading is."""
    is_pinned: bool = False
    parent: str = ""
    """Of an adapter: its base's name, or digest where it has none."""
    task: ModelTask = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """The memory of all models, and what has come and gone since the start."""

    budget: int
    held: int
    num_loads: int = 0
    num_failures: int = 0
    departures: Mapping[str, int] = field(default_factory=dict)
    """By reason: room, idle, asked, broken."""


class Models(Protocol):
    """Where the routes get their providers from."""

    def served(self) -> Sequence[ServedModel]:
        """Every name of a model that writes text, the default one first."""
        ...

    def encoders(self) -> Sequence[ServedModel]:
        """Every name of a model that embeds or classifies text."""
        ...

    def use(self, name: str) -> AbstractAsyncContextManager[TextProvider]:
        """The provider of a name, kept loaded while the context is open; `NotFoundError` if unknown."""
        ...

    def use_encoder(self, name: str) -> AbstractAsyncContextManager[AnyEncoder]:
        """The same for an encoder."""
        ...

    async def load(self, name: str) -> None:
        """Bring a model of either sort into memory."""
        ...

    async def unload(self, name: str) -> bool:
        """Let a model's memory go; False when it is not loaded, `ConflictError` while it answers."""
        ...

    def memory(self) -> MemoryUse:
        """The memory of all models now."""
        ...

    def problem(self) -> str:
        """Why no answer can be given yet (loading, nothing to load); empty when ready."""
        ...

    async def warm_up(self) -> None:
        """Get ready, in the background of the server's start."""
        ...

    async def close(self) -> None:
        """Let everything go."""
        ...

    def loaded(self) -> Sequence[TextProvider]:
        """Providers in memory now, for the metrics."""
        ...


@dataclass(slots=True)
class ServerState:
    """The parts a running server is made of."""

    registry: Registry
    config: ServerConfig
    models: Models
    identity: Identity
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    failures: FailureLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.failures = FailureLimiter(self.config.sign_in_failures)


def state_of(request: Request) -> ServerState:
    """The state of the application that serves a request."""
    state = request.app.state.cairn
    assert isinstance(state, ServerState)
    return state
