"""What the routes need, in one value that the application carries: nothing here is global."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from fastapi import Request
from sqlalchemy import select

from cairn import __version__
from cairn.core.errors import NotFoundError
from cairn.providers.encoder_loading import AnyEncoder, ModelTask
from cairn.providers.protocol import TextProvider
from cairn.registry import Registry
from cairn.server.answers import AnswerCache
from cairn.server.answers.embedding import QuestionEmbedder
from cairn.server.config import ServerConfig
from cairn.server.identity import Identity
from cairn.server.identity.throttle import FailureLimiter
from cairn.server.metrics import Metrics
from cairn.server.middleware import InFlight
from cairn.server.routing.config import FILE_NAME
from cairn.server.routing.models import RoutedModels
from cairn.server.routing.table import RouteTable
from cairn.server.tables import VectorStoreFileRow
from cairn.server.usage.metering import Metering
from cairn.server.usage.rollup import roll_up
from cairn.telemetry import Recorder, make_recorder

logger = logging.getLogger("cairn.server")

if TYPE_CHECKING:
    from cairn.providers.knowledge import Library
    from cairn.server.files.housekeeping import Housekeeper
    from cairn.server.files.ingestion import Ingestor
    from cairn.server.identity.sign_on import SignOn
    from cairn.server.knowledge.own_docs import OwnDocs
    from cairn.server.knowledge.upkeep import Upkeep


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
    num_requests: int = 0
    """Those it answers now, its adapters' among them."""
    last_used: float = 0.0
    """Seconds since 1970; 0: not known."""


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

    def set_aside(self, num_bytes: Callable[[], int]) -> None:
        """Leave so many bytes of the budget to others, asked anew at every load."""
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
    routes: RouteTable = field(init=False)
    metering: Metering = field(init=False)
    recorder: Recorder | None = field(init=False)
    """None: no traces are made."""
    answers: AnswerCache | None = field(default=None, init=False)
    """None: nothing is answered from memory."""
    _library: "Library | None" = field(default=None, init=False)
    _sign_on: "SignOn | None" = field(default=None, init=False)
    _own_docs: "OwnDocs | None" = field(default=None, init=False)
    _ingestor: "Ingestor | None" = field(default=None, init=False)
    _upkeep: "Upkeep | None" = field(default=None, init=False)
    _housekeeper: "Housekeeper | None" = field(default=None, init=False)
    _making: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.failures = FailureLimiter(self.config.sign_in_failures)
        path = self.registry.settings.home / FILE_NAME
        self.metering = Metering(self.registry, self.config)
        self.routes = RouteTable(path, self.metering.ledger.keep, self.metrics.routes)
        self.models = RoutedModels(self.models, self.routes)
        self.recorder = make_recorder(self.config.telemetry, self.registry.settings.home, __version__)
        if self.config.answer_cache_bytes:
            self.answers = AnswerCache(
                self.registry,
                self.metrics,
                max_bytes=self.config.answer_cache_bytes,
                seconds=self.config.answer_cache_seconds,
                similar=self.config.answer_cache_similar,
                embed=QuestionEmbedder(self.registry, lambda: self.models),
            )

    @property
    def sign_on(self) -> "SignOn":
        """The identity provider; `NotFoundError` when there is none."""
        from cairn.server.identity.sign_on import SignOn  # noqa: PLC0415 - as below

        if self.config.sign_on is None:
            raise NotFoundError("no single sign-on is set up here", remedy="cairn up --sign-on FILE")
        with self._making:
            if self._sign_on is None:
                self._sign_on = SignOn(self.config.sign_on)
            return self._sign_on

    @property
    def library(self) -> "Library":
        """Collections and what they need; made when first asked for, so that a start does not wait for it."""
        from cairn.providers.knowledge import Library  # noqa: PLC0415 - a server may never need it

        with self._making:
            if self._library is None:
                library = Library(self.registry, weights=self.config.weights)
                # The encoders of collections count among the models.
                self.models.set_aside(lambda: library.resident_bytes)
                self._library = library
            return self._library

    @property
    def own_docs(self) -> "OwnDocs":
        """What makes a collection of Cairn's own documentation."""
        from cairn.server.knowledge.own_docs import OwnDocs  # noqa: PLC0415 - as above

        with self._making:
            if self._own_docs is None:
                self._own_docs = OwnDocs(self.registry, lambda: self.library)
            return self._own_docs

    @property
    def ingestor(self) -> "Ingestor":
        """What works off the files in line for collections."""
        from cairn.server.files.ingestion import Ingestor  # noqa: PLC0415 - as above

        with self._making:
            if self._ingestor is None:
                self._ingestor = Ingestor(self.registry, lambda: self.library)
            return self._ingestor

    @property
    def upkeep(self) -> "Upkeep":
        """Long work on collections."""
        from cairn.server.knowledge.upkeep import Upkeep  # noqa: PLC0415 - as above

        with self._making:
            if self._upkeep is None:
                self._upkeep = Upkeep(self.registry, lambda: self.library)
            return self._upkeep

    def resume(self) -> None:
        """Go on with what an earlier server left in line, and let go what has expired."""
        from cairn.server.files.housekeeping import Housekeeper  # noqa: PLC0415 - as above
        from cairn.server.responses.stored import delete_expired  # noqa: PLC0415 - as above

        expiry = partial(delete_expired, self.registry.database, self.config.response_days)
        self._housekeeper = Housekeeper(self.registry, lambda: self.library, also=[expiry, self._roll_up])
        if num := self.metering.ledger.recover():
            logger.warning("the usage of %d requests of a server that was killed is in the ledger now", num)
        query = select(VectorStoreFileRow.file_id).where(VectorStoreFileRow.status == "in_progress")
        with self.registry.database.session(read_only=True) as session:
            is_waiting = session.scalar(query.limit(1)) is not None
        if is_waiting:
            self.ingestor.wake()

    def _roll_up(self) -> None:
        roll_up(self.registry.database, self.config.usage_days, time.time())

    def close(self) -> None:
        """Let go of what was made when asked for."""
        for each in (self._housekeeper, self._upkeep, self._ingestor, self._own_docs, self._library):
            if each is not None:
                each.close()


def state_of(request: Request) -> ServerState:
    """The state of the application that serves a request."""
    state = request.app.state.cairn
    assert isinstance(state, ServerState)
    return state
