"""Routes for embeddings: the same choice, retries and counting as for text, around one call.

All targets of such a route must be one model: vectors of different models do not compare, and nothing here
can tell.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cairn.core.embedding import Embeddings, TextInput
from cairn.core.errors import CairnError, InvalidRequestError
from cairn.providers.encoders import LocalEmbedder, shortened
from cairn.providers.remote.errors import UpstreamUnavailableError
from cairn.server.openai_types import refuse
from cairn.server.routing.choice import order
from cairn.server.routing.config import RouteConfig, TargetConfig
from cairn.server.routing.plan import Plan
from cairn.server.routing.provider import blame
from cairn.server.routing.table import RouteTable

if TYPE_CHECKING:
    from cairn.server.state import Models


class RoutedEmbedder:
    """One route for one request."""

    def __init__(self, table: RouteTable, name: str, route: RouteConfig, models: "Models") -> None:
        self._table = table
        self._name = name
        self._route = route
        self._models = models

    async def embed(
        self, texts: Sequence[TextInput], dimensions: int | None, user: str
    ) -> tuple[Embeddings, str]:
        """Vectors of texts, and the target that made them."""
        outstanding = {
            target.name: self._table.target(target.name).outstanding for target in self._route.targets
        }
        key = str(random.random())
        targets = order(self._route, self._name, key=key, user=user, outstanding=outstanding)
        loop = asyncio.get_running_loop()
        plan = Plan(self._name, self._route, targets, self._table.target, loop.time())
        while True:
            target = await plan.next()
            lease = self._table.enter(
                self._name, target, "embeddings", loop.time(), num_attempts=plan.num_attempts
            )
            assert lease.watch is not None, "the table watches"
            try:
                async with asyncio.timeout_at(plan.deadline):
                    with lease.watch.span.active():
                        found = await self._vectors(target, texts, dimensions)
                lease.began(loop.time())
                lease.succeed()
                if target.name != targets[0].name:
                    self._table.metrics.numbers(self._name, target.name).fallbacks.inc()
                return found, target.name
            except TimeoutError:
                late = UpstreamUnavailableError(
                    f"{target.name} did not answer within the deadline of {self._name!r}", remedy="ask again"
                )
                blame(lease, late, loop.time())
                raise late from None
            except CairnError as error:
                blame(lease, error, loop.time())
                plan.failed(target, error)
            finally:
                lease.leave()

    async def _vectors(
        self, target: TargetConfig, texts: Sequence[TextInput], dimensions: int | None
    ) -> Embeddings:
        if target.provider:
            return await self._table.remote(target).embed(texts, dimensions)
        found, _ = await embed_here(self._models, target.model, texts, dimensions)
        return found


async def embed_here(
    models: "Models", name: str, texts: Sequence[TextInput], dimensions: int | None
) -> tuple[Embeddings, str]:
    """Vectors of texts by a model of this server, and what that is called."""
    async with models.use_encoder(name) as encoder:
        if not isinstance(encoder, LocalEmbedder):
            raise InvalidRequestError(
                f"{name!r} is a model for classification", remedy="choose an embedder", param="model"
            )
        if dimensions is not None and dimensions > encoder.dimensions:
            raise refuse("dimensions", dimensions, f"1 to {encoder.dimensions}, as this model has")
        found = await encoder.embed_async(texts)
    if dimensions is not None and dimensions < encoder.dimensions:
        found = Embeddings(shortened(found.vectors, dimensions), found.num_tokens)
    return found, encoder.name
