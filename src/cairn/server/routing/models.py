"""`RoutedModels`: the server's models with routes before them. A name that is no route works as without."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from cairn.providers.encoder_loading import AnyEncoder
from cairn.providers.protocol import TextProvider
from cairn.server.routing.provider import RoutedProvider
from cairn.server.routing.table import RouteTable

if TYPE_CHECKING:
    from cairn.server.state import MemoryUse, Models, ServedModel


class RoutedModels:
    """Routes first, then the models themselves."""

    def __init__(self, models: "Models", table: RouteTable) -> None:
        self.models = models
        self.table = table

    def served(self) -> "Sequence[ServedModel]":
        """Models of this server, then the routes that have no model's name."""
        from cairn.server.state import ServedModel  # noqa: PLC0415 - the state is made of this

        models = self.models.served()
        names = {model.name for model in models}
        routes = (name for name in self.table.config.routes if name not in names)
        return [
            *models,
            *(ServedModel(name, "", self.table.changed_at, state="loaded") for name in routes),
        ]

    def encoders(self) -> "Sequence[ServedModel]":
        """Models that embed or classify text."""
        return self.models.encoders()

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[TextProvider]:
        """The route of a name, or its model, loaded when it is not yet."""
        if (route := self.table.route(name)) is not None:
            yield RoutedProvider(self.table, name, route, self.models)
            return
        async with self.models.use(name) as provider:
            yield provider

    def use_encoder(self, name: str) -> AbstractAsyncContextManager[AnyEncoder]:
        """The encoder of a name."""
        return self.models.use_encoder(name)

    async def load(self, name: str) -> None:
        """Bring a model into memory; of a route all that are this server's."""
        for each in self._local(name):
            await self.models.load(each)

    async def unload(self, name: str) -> bool:
        """Let a model's memory go; of a route none, since others may use them."""
        return self.table.route(name) is None and await self.models.unload(name)

    def set_aside(self, num_bytes: Callable[[], int]) -> None:
        """Leave so many bytes of the budget to others."""
        self.models.set_aside(num_bytes)

    def memory(self) -> "MemoryUse":
        """The memory of all models now."""
        return self.models.memory()

    def problem(self) -> str:
        """Why no answer can be given yet; routes to other servers answer while nothing is loaded here."""
        targets = [target for route in self.table.config.routes.values() for target in route.targets]
        return "" if any(target.provider for target in targets) else self.models.problem()

    async def warm_up(self) -> None:
        """Get ready, and follow the routes' file from now on."""
        self.table.keep(asyncio.create_task(self.table.watch()))
        await self.models.warm_up()

    async def close(self) -> None:
        """Let everything go."""
        await self.table.close()
        await self.models.close()

    def loaded(self) -> Sequence[TextProvider]:
        """Providers in memory."""
        return self.models.loaded()

    def _local(self, name: str) -> list[str]:
        route = self.table.route(name)
        if route is None:
            return [name]
        return [target.model for target in route.targets if not target.provider]
