"""Which target is asked next, and when to give up: the retries of one request."""

import asyncio
import random
from collections.abc import Callable, Sequence

from cairn.core.errors import CairnError, UnavailableError
from cairn.providers.remote.errors import worth
from cairn.server.routing.config import RouteConfig, TargetConfig
from cairn.server.routing.targets import Target

_MOST_PAUSE = 30.0


class NoTargetError(UnavailableError):
    """Every target of a route is left alone just now: after failures, or because it asked for it."""

    code = "route.no_target"


class Plan:
    """The attempts of one request: each target in turn, then a pause, and again, within the deadline."""

    def __init__(
        self,
        name: str,
        route: RouteConfig,
        targets: Sequence[TargetConfig],
        target: Callable[[str], Target],
        now: float,
    ) -> None:
        self.deadline = now + route.deadline_seconds
        self.num_attempts = 0
        self._name = name
        self._route = route
        self._targets = list(targets)
        self._line = list(targets)
        self._target = target
        self._num_rounds = 0
        self._last: CairnError | None = None

    async def next(self) -> TargetConfig:
        """Who is asked now; the last failure is raised where nobody is left."""
        loop = asyncio.get_running_loop()
        while self.num_attempts < self._route.attempts:
            while self._line:
                target = self._line.pop(0)
                if self._target(target.name).breaker.allows(loop.time()):
                    self.num_attempts += 1
                    return target
            if not any(self._target(each.name).breaker.allows(loop.time()) for each in self._targets):
                break
            pause = random.uniform(0, min(self._route.backoff_seconds * 2**self._num_rounds, _MOST_PAUSE))
            if loop.time() + pause >= self.deadline:
                break
            await asyncio.sleep(pause)
            self._num_rounds += 1
            self._line = list(self._targets)
        raise self._last or self._nobody(loop.time())

    def failed(self, target: TargetConfig, error: CairnError) -> None:
        """An attempt failed before it began to answer; what no target can mend is raised."""
        value = worth(error)
        if value == "no":
            raise error
        if value == "elsewhere":
            self._targets = [each for each in self._targets if each.name != target.name]
        self._last = error

    def _nobody(self, now: float) -> NoTargetError:
        waits = [self._target(target.name).breaker.wait(now) for target in self._targets]
        return NoTargetError(
            f"no target of {self._name!r} is well just now",
            remedy="ask again later; cairn route ls says what is wrong",
            retry_after=max(1.0, min(waits, default=1.0)),
        )
