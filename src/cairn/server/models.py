"""The models a server answers with: names of the registry's artifacts over a `Residency` of loaded ones.

A build that moves an alias is served from the next request on, without a restart; requests under way keep the
artifact they began with. What a name means is remembered until any process moves a name, and looked up at
every request where only the database could tell that one has.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from cairn.core.errors import CairnError, InvalidRequestError, NotFoundError
from cairn.core.progress import Progress
from cairn.engine import EngineConfig
from cairn.providers.encoder_loading import AnyEncoder, loadable_encoder, task_of
from cairn.providers.loading import ADAPTER, loadable_model
from cairn.providers.local import LocalProvider
from cairn.providers.measuring import memory_for_models
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder
from cairn.providers.protocol import TextProvider
from cairn.providers.residency import Loadable, Residence, Residency
from cairn.registry import MARKED_SECONDS, NAMES, Alias, Artifact, Mark, Registry
from cairn.server.config import ServerConfig
from cairn.server.errors import logger
from cairn.server.state import MemoryUse, ServedModel
from cairn.telemetry import current

NO_MODEL_REMEDY = "make one: cairn build recipes/tutorial.toml"
_NO_MODEL = f"there is no model; {NO_MODEL_REMEDY}"
_LOADING = "loading"
_KIND = "model"
_NEEDED = frozenset({"config.json", "tokenizer.json"})
"""Should a process have been killed between moving a name and saying so."""
_MOST_REMEMBERED = 1000


class ModelNotFoundError(NotFoundError):
    """A model name that nothing is registered under."""

    code: ClassVar[str] = "model_not_found"
    param: ClassVar[str] = "model"


class WrongTaskError(InvalidRequestError):
    """A model asked for what it is not made for."""

    code = "model_wrong_task"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a name stands for, and as long as what it does."""

    artifact: Artifact
    adapter: Artifact | None
    mark: Mark
    until: float


class ModelPool:
    """Providers over the registry's models. The first of `names` is the default; none: the latest model.

    All of `names` are loaded at the start, as far as they fit.
    """

    def __init__(
        self,
        registry: Registry,
        config: ServerConfig,
        *,
        names: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self._registry = registry
        self._config = config
        self._names = tuple(names)
        self._pinned: dict[str, str] = {}
        self._meanings: dict[str, _Meaning] = {}
        self._problem = "starting"
        self._set_aside: Callable[[], int] = lambda: 0
        self.residency: Residency[LocalProvider | AnyEncoder] = Residency(
            lambda: max(0, memory_for_models(config.memory_budget) - self._set_aside()),
            idle_seconds=config.idle_seconds,
            patience=config.load_patience_seconds,
            progress=progress,
        )

    def served(self) -> Sequence[ServedModel]:
        """Models that write text: those named at the start in their order, then the latest first."""
        return [model for model in self._all() if model.task == "text"]

    def encoders(self) -> Sequence[ServedModel]:
        """Models that embed or classify text, in the same order."""
        return [model for model in self._all() if model.task != "text"]

    def _all(self) -> list[ServedModel]:
        found = {model.name: model for model in self._named()}
        for name in self._names:
            if name not in found:
                artifact = self._find(name)
                found[name] = ServedModel(name, artifact.digest, artifact.created_at, task=task_of(artifact))
        order = {name: place for place, name in enumerate(self._names)}
        residences = {each.key: each for each in self.residency.residences()}
        residences |= self._loaded_adapters()
        return [
            self._with_state(model, residences.get(model.digest))
            for model in sorted(
                found.values(), key=lambda model: (order.get(model.name, len(order)), -model.created_at)
            )
        ]

    def _with_state(self, model: ServedModel, residence: Residence | None) -> ServedModel:
        is_pinned = model.name in self._config.pinned_models
        if residence is None or residence.state == "leaving":
            return replace(model, is_pinned=is_pinned)
        return replace(
            model,
            state="loaded" if residence.state == "loaded" else "loading",
            num_bytes=residence.num_bytes,
            note=residence.note,
            is_pinned=is_pinned,
            num_requests=residence.num_users,
            last_used=residence.last_used,
        )

    def _loaded_adapters(self) -> dict[str, Residence]:
        """Adapters in their bases' engines, by digest."""
        return {
            adapter_id: Residence(
                key=adapter_id,
                name=adapter_id,
                state="loaded",
                num_bytes=loaded.adapter.num_bytes,
                num_users=0,
                note="",
            )
            for provider in self._local_providers()
            for adapter_id, loaded in provider.engine.engine.adapters.loaded().items()
        }

    def set_aside(self, num_bytes: Callable[[], int]) -> None:
        """Leave so many bytes of the budget to others, asked anew at every load."""
        self._set_aside = num_bytes

    def memory(self) -> MemoryUse:
        """The memory of all models now."""
        residency = self.residency
        return MemoryUse(
            budget=residency.memory(),
            held=residency.held_bytes,
            num_loads=residency.num_loads,
            num_failures=residency.num_failures,
            departures={str(reason): num for reason, num in residency.departures.items()},
        )

    def _named(self) -> list[ServedModel]:
        models = {
            artifact.digest: task_of(artifact)
            for artifact in self._registry.artifacts(_KIND)
            if _can_answer(artifact)
        }
        bases = {each.digest: each.parents[0] for each in self._registry.artifacts(ADAPTER) if each.parents}
        names = {alias.digest: _shown(alias) for alias in reversed(self._registry.aliases())}
        return [
            ServedModel(
                _shown(alias),
                alias.digest,
                alias.updated_at,
                task=models[base or alias.digest],
                parent=names.get(base, base),
            )
            for alias in self._registry.aliases()
            for base in [bases.get(alias.digest, "")]
            if (base or alias.digest) in models
        ]

    def problem(self) -> str:
        """Why no answer can be given yet, or how far the default's loading is; empty when ready."""
        if self._problem == _NO_MODEL and self.served():
            self._problem = ""  # a build has made one since; it loads when asked for
        notes = [f": {each.note}" for each in self.residency.residences() if each.note]
        return self._problem + (notes[0] if notes and self._problem.startswith(_LOADING) else "")

    def loaded(self) -> Sequence[TextProvider]:
        """Providers in memory."""
        return self._local_providers()

    def _local_providers(self) -> list[LocalProvider]:
        return [each for each in self.residency.residents() if isinstance(each, LocalProvider)]

    async def warm_up(self) -> None:
        """Load the models named at the start; one that cannot be is a problem to report, not a crash."""
        served = await asyncio.to_thread(self.served)
        if not served:
            self._problem = _NO_MODEL
            return
        self._problem = f"{_LOADING} {served[0].name}"
        for model in served[: max(1, len(self._names))]:
            try:
                async with self.use(model.name):
                    pass
            except CairnError as error:
                if model is served[0]:
                    self._problem = error.sentence
                logger.error("cannot load %s: %s", model.name, error)

    async def close(self) -> None:
        """Stop every engine."""
        await self.residency.close()

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[TextProvider]:
        """The provider of a name, loaded when it is not yet, and kept while in use."""
        async with self._resident(name, is_text=True) as provider:
            assert isinstance(provider, LocalProvider), "the task of an artifact decides its provider"
            self._problem = ""
            yield provider

    @asynccontextmanager
    async def use_encoder(self, name: str) -> AsyncIterator[AnyEncoder]:
        """The encoder of a name, loaded when it is not yet, and kept while in use."""
        if name == DEFAULT_EMBEDDER:
            await asyncio.to_thread(adopt_packaged_encoder, self._registry)
        async with self._resident(name, is_text=False) as encoder:
            assert not isinstance(encoder, LocalProvider), "the task of an artifact decides its provider"
            yield encoder

    async def load(self, name: str) -> None:
        """Bring a model of either sort into memory."""
        async with self._resident(name):
            pass

    @asynccontextmanager
    async def _resident(
        self, name: str, *, is_text: bool | None = None
    ) -> AsyncIterator[LocalProvider | AnyEncoder]:
        span = current().child("find model")
        artifact, adapter = await self._meaning_of(name)
        task = task_of(artifact)
        if is_text is not None and is_text != (task == "text"):
            raise WrongTaskError(
                f"{name!r} is a model for {task}",
                remedy="ask it at /v1/chat/completions" if task == "text" else f"ask it for {task}s",
                param="model",
            )
        if name in self._config.pinned_models:
            self._pinned[name] = artifact.digest
            self.residency.pinned = set(self._pinned.values())
        async with self.residency.use(artifact.digest, self._loadable(artifact, name)) as resident:
            span.end()
            if adapter is None:
                yield resident
                return
            assert isinstance(resident, LocalProvider), "an adapter's base is a text model"
            room = partial(self.residency.growth, resident)
            async with resident.engine.use_adapter(adapter.digest, adapter.folder, room):
                yield resident.adapted(name, adapter.digest)

    def _loadable(self, artifact: Artifact, name: str) -> Loadable[LocalProvider | AnyEncoder]:
        weights, max_waiting = self._config.weights, self._config.max_waiting
        if task_of(artifact) != "text":
            return loadable_encoder(
                self._registry, artifact, name=name, weights=weights, max_waiting=max_waiting
            )
        config = EngineConfig(
            kv_cache_bytes=self._config.kv_cache_bytes,
            max_waiting=max_waiting,
            weights=weights,
            shares=self._config.shares,
            adapter_bytes=self._config.adapter_bytes,
            draft_model=self._config.draft_models.get(name),
        )
        return loadable_model(self._registry, artifact, name=name, config=config)

    async def unload(self, name: str) -> bool:
        """Let a model's memory go; False when it is not loaded, `ConflictError` while it answers."""
        artifact, adapter = await self._meaning_of(name)
        if adapter is None:
            return await self.residency.unload(artifact.digest)
        for provider in self._local_providers():
            adapters = provider.engine.engine.adapters
            if provider.artifact_digest == artifact.digest and adapter.digest in adapters:
                adapters.unload(adapter.digest)
                return True
        return False

    def _find(self, name: str) -> Artifact:
        try:
            return self._registry.get(name)
        except (NotFoundError, InvalidRequestError) as error:
            names = ", ".join(model.name for model in self._named())
            raise ModelNotFoundError(
                f"no model {name!r}", remedy=f"there are: {names}" if names else NO_MODEL_REMEDY
            ) from error

    async def _meaning_of(self, name: str) -> tuple[Artifact, Artifact | None]:
        """As `_artifacts_of`; without the database where it is known."""
        mark = self._registry.database.mark_of(NAMES)
        known = self._meanings.get(name)
        if known is not None and known.mark == mark and time.monotonic() < known.until:
            return known.artifact, known.adapter
        artifact, adapter = await asyncio.to_thread(self._artifacts_of, name)
        if mark is not None:
            if len(self._meanings) >= _MOST_REMEMBERED:
                self._meanings.clear()
            until = time.monotonic() + MARKED_SECONDS
            self._meanings[name] = _Meaning(artifact, adapter, mark, until)
        return artifact, adapter

    def _artifacts_of(self, name: str) -> tuple[Artifact, Artifact | None]:
        """The model that answers to a name, and the adapter that takes part."""
        artifact, adapter = self._find(name), None
        if artifact.kind == ADAPTER:
            artifact, adapter = self._find(artifact.parents[0]), artifact
        if artifact.kind != _KIND or not _can_answer(artifact):
            raise ModelNotFoundError(
                f"{name!r} is a {artifact.kind} without {' and '.join(sorted(_NEEDED))}: it cannot answer"
            )
        return artifact, adapter


def _shown(alias: Alias) -> str:
    """A name as requests give it."""
    return alias.name if alias.alias == "latest" else alias.full_name


def _can_answer(artifact: Artifact) -> bool:
    """Whether it holds a network and a tokenizer; other models are for other rooms."""
    return {entry.path for entry in artifact.files} >= _NEEDED
