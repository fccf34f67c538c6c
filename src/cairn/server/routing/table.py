"""The routes in force: read from their file, again when it changes, with what is known of each target.

A file that says something wrong changes nothing: the routes before stay, and `problem` says what is wrong.
"""

import asyncio
import logging
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from cairn.core.errors import CairnError
from cairn.providers.receipt_writer import SaveReceipt
from cairn.providers.remote import ProviderConfig, RemoteProvider, make_upstream
from cairn.providers.remote.connection import Upstream
from cairn.providers.remote.errors import UpstreamError
from cairn.server.routing.config import RouteConfig, RoutesConfig, TargetConfig, read_routes, read_text
from cairn.server.routing.targets import Lease, Target
from cairn.server.routing.watch import RouteMetrics, Watch
from cairn.telemetry import CLIENT, INTERNAL, current

logger = logging.getLogger("cairn.server.routing")

_LOOK_SECONDS = 0.5


class RouteTable:
    """Routes by name, targets by name, and the connections to providers."""

    def __init__(self, path: Path, save_receipt: SaveReceipt, metrics: RouteMetrics | None = None) -> None:
        self.path = path
        self.metrics = RouteMetrics(CollectorRegistry()) if metrics is None else metrics
        self.config = RoutesConfig()
        self.text = ""
        self.problem = ""
        """Why the file is not in force; empty when it is."""
        self.changed_at = time.time()
        self.writing = asyncio.Lock()
        """Held by whoever reads the file to change it."""
        self._save_receipt = save_receipt
        self._targets: dict[str, Target] = {}
        self._upstreams: dict[str, tuple[ProviderConfig, Upstream, str]] = {}
        self._seen: tuple[int, int, int] | None = None
        self._copies: set[asyncio.Task[None]] = set()
        self.num_copies: dict[str, int] = {}
        """Copies for shadow targets that are under way, by route."""
        self.refresh()

    def route(self, name: str) -> RouteConfig | None:
        """The route of a name."""
        return self.config.routes.get(name)

    async def watch(self) -> None:
        """Follow the file for as long as the server runs."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.refresh()

    def refresh(self) -> None:
        """Read the file where it has changed. Once requests are served, in their event loop alone."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        self._read()

    def _read(self) -> None:
        try:
            text = read_text(self.path)
            config = read_routes(text, source=str(self.path))
        except CairnError as error:
            if error.sentence != self.problem:
                logger.error("the routes stay as they were: %s", error.sentence)
            self.problem = error.sentence
            return
        self.problem, self.text = "", text
        if config != self.config:
            logger.info("routes in force: %s", ", ".join(config.routes) or "none")
            self._apply(config)

    def _apply(self, config: RoutesConfig) -> None:
        if config.breaker != self.config.breaker:
            self._targets = {}
        self.config, self.changed_at = config, time.time()
        named = {target.name for name in config.routes for target in self.targets_of(name)}
        self._targets = {name: target for name, target in self._targets.items() if name in named}
        for name, (was, upstream, _) in list(self._upstreams.items()):
            if config.providers.get(name) != was:
                upstream.close()
                del self._upstreams[name]
        for name, provider in config.providers.items():
            try:
                provider.key(name)
            except UpstreamError as error:
                logger.warning("%s", error.sentence)

    def targets_of(self, name: str) -> list[TargetConfig]:
        """All that a route names: its targets, the canary, the shadow."""
        route = self.config.routes[name]
        extra = [part.target for part in (route.canary, route.shadow) if part is not None]
        return [*route.targets, *extra]

    def target(self, name: str) -> Target:
        """What is known of a target."""
        if name not in self._targets:
            self._targets[name] = Target(name, self.config.breaker)
        return self._targets[name]

    def enter(
        self, route: str, target: TargetConfig, operation: str, now: float, *, num_attempts: int = 1
    ) -> Lease:
        """Begin a request to a target of a route, watched by a span and counters."""
        span = current().child(f"{operation} {target.model}", kind=CLIENT if target.provider else INTERNAL)
        if span:
            span.attributes |= {
                "gen_ai.operation.name": operation,
                "gen_ai.request.model": target.model,
                "cairn.route": route,
                "cairn.target": target.name,
                "cairn.attempt": num_attempts,
            }
        numbers = self.metrics.numbers(route, target.name)
        if num_attempts > 1:
            numbers.retries.inc()
        return self.target(target.name).enter(now, Watch(numbers, span))

    def observe(self, now: float) -> None:
        """Have the metrics say how targets are."""
        self.metrics.observe(
            [(each.name, each.breaker.state(now), each.outstanding) for each in self._targets.values()]
        )

    def remote(self, target: TargetConfig) -> RemoteProvider:
        """The provider of a remote target; `UpstreamError` where its key is not there."""
        config = self.config.providers[target.provider]
        if target.provider not in self._upstreams:
            self._upstreams[target.provider] = (config, *make_upstream(target.provider, config))
        _, upstream, key = self._upstreams[target.provider]
        return RemoteProvider(upstream, target.model, self._save_receipt, secret=key)

    def keep(self, copy: asyncio.Task[None]) -> None:
        """Hold on to a task that nobody waits for, until it ends."""
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def close(self) -> None:
        """End what is under way in the background, and let connections go."""
        for copy in self._copies:
            copy.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)
        for _, upstream, _ in self._upstreams.values():
            await upstream.aclose()
        self._upstreams.clear()
