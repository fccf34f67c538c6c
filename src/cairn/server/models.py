"""The models a server answers with: loaded when first asked for, kept by digest, the longest idle leaves.

A name is looked up at every request, so a build that moves an alias is served from the next request on,
without a restart; requests under way keep the artifact they began with.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from cairn.core.digests import short
from cairn.core.errors import CairnError, InvalidRequestError, NotFoundError
from cairn.engine import EngineConfig
from cairn.providers.loading import load_local_provider
from cairn.providers.local import LocalProvider
from cairn.providers.protocol import TextProvider
from cairn.registry import Artifact, Registry
from cairn.server.config import ServerConfig
from cairn.server.errors import logger
from cairn.server.state import ServedModel

NO_MODEL_REMEDY = "make one: cairn build recipes/tutorial.toml"
_NO_MODEL = f"there is no model; {NO_MODEL_REMEDY}"
_KIND = "model"
_NEEDED = frozenset({"config.json", "tokenizer.json"})


class ModelNotFoundError(NotFoundError):
    """A model name that nothing is registered under."""

    code: ClassVar[str] = "model_not_found"
    param: ClassVar[str] = "model"


@dataclass(slots=True)
class _Slot:
    """A place for one artifact's provider."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    provider: LocalProvider | None = None
    num_users: int = 0
    last_used: float = 0.0


class ModelPool:
    """Providers over the registry's models. `default` is the name served first; None: the latest."""

    def __init__(self, registry: Registry, config: ServerConfig, *, default: str | None = None) -> None:
        self._registry = registry
        self._config = config
        self._default = default
        self._slots: dict[str, _Slot] = {}
        self._problem = "starting"

    def served(self) -> Sequence[ServedModel]:
        """Every name of a model, the default first, then the latest."""
        found = self._named()
        if self._default is not None and all(model.name != self._default for model in found):
            artifact = self._find(self._default)
            found.append(ServedModel(self._default, artifact.digest, artifact.created_at))
        return sorted(found, key=lambda model: (model.name != self._default, -model.created_at))

    def _named(self) -> list[ServedModel]:
        models = {artifact.digest for artifact in self._registry.artifacts(_KIND) if _can_answer(artifact)}
        return [
            ServedModel(
                alias.name if alias.alias == "latest" else alias.full_name, alias.digest, alias.updated_at
            )
            for alias in self._registry.aliases()
            if alias.digest in models
        ]

    def problem(self) -> str:
        """Why no answer can be given yet; empty when ready."""
        if self._problem == _NO_MODEL and self.served():
            self._problem = ""  # a build has made one since; it loads when asked for
        return self._problem

    def loaded(self) -> Sequence[TextProvider]:
        """Providers in memory."""
        return [slot.provider for slot in self._slots.values() if slot.provider is not None]

    async def warm_up(self) -> None:
        """Load the default model; a model that cannot be loaded is a problem to report, not a crash."""
        served = await asyncio.to_thread(self.served)
        if not served:
            self._problem = _NO_MODEL
            return
        self._problem = f"loading {served[0].name}"
        try:
            async with self.use(served[0].name):
                pass
        except CairnError as error:
            self._problem = error.sentence
            logger.error("cannot load %s: %s", served[0].name, error)

    async def close(self) -> None:
        """Stop every engine."""
        for slot in self._slots.values():
            await _stop(slot)

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[TextProvider]:
        """The provider of a name, loaded when it is not yet, and kept while in use."""
        digest = await asyncio.to_thread(self._digest_of, name)
        slot = self._slots.setdefault(digest, _Slot())
        slot.num_users += 1
        try:
            yield await self._provider(slot, digest, name)
        finally:
            slot.num_users -= 1
            slot.last_used = time.monotonic()

    async def _provider(self, slot: _Slot, digest: str, name: str) -> LocalProvider:
        async with slot.lock:
            if slot.provider is not None and not slot.provider.engine.is_healthy:
                logger.error("the engine of %s broke; loading it again", name)
                await _stop(slot)
            if slot.provider is None:
                await self._make_room(digest)
                slot.provider = await asyncio.to_thread(self._load, digest, name)
                self._problem = ""
            return slot.provider

    def _load(self, digest: str, name: str) -> LocalProvider:
        config = EngineConfig(
            kv_cache_bytes=self._config.kv_cache_bytes,
            max_waiting=self._config.max_waiting,
            weights=self._config.weights,
        )
        started = time.monotonic()
        provider = load_local_provider(self._registry, digest, name=name, config=config)
        logger.info("loaded %s (%s) in %.1f s", name, short(digest), time.monotonic() - started)
        return provider

    def _find(self, name: str) -> Artifact:
        try:
            return self._registry.get(name)
        except (NotFoundError, InvalidRequestError) as error:
            names = ", ".join(model.name for model in self._named())
            raise ModelNotFoundError(
                f"no model {name!r}", remedy=f"there are: {names}" if names else NO_MODEL_REMEDY
            ) from error

    def _digest_of(self, name: str) -> str:
        artifact = self._find(name)
        if artifact.kind != _KIND or not _can_answer(artifact):
            raise ModelNotFoundError(
                f"{name!r} is a {artifact.kind} without {' and '.join(sorted(_NEEDED))}: it cannot answer"
            )
        return artifact.digest

    async def _make_room(self, wanted: str) -> None:
        """Let idle models go until one more fits; busy ones stay, even above the limit."""
        loaded = [digest for digest, slot in self._slots.items() if slot.provider is not None]
        idle = sorted(
            (digest for digest in loaded if not self._slots[digest].num_users and digest != wanted),
            key=lambda digest: self._slots[digest].last_used,
        )
        for digest in idle[: max(0, len(loaded) + 1 - self._config.max_loaded_models)]:
            logger.info("unloading %s", short(digest))
            await _stop(self._slots.pop(digest))


def _can_answer(artifact: Artifact) -> bool:
    """Whether it holds a network and a tokenizer; other models are for other rooms."""
    return {entry.path for entry in artifact.files} >= _NEEDED


async def _stop(slot: _Slot) -> None:
    provider, slot.provider = slot.provider, None
    if provider is not None:
        await asyncio.to_thread(provider.engine.stop)
