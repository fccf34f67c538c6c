"""The routes' file: `routes.toml` in the home folder. Every mistake is named with its line."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from cairn.core import Config, ConfigError
from cairn.core.config import describe
from cairn.providers.remote import ProviderConfig
from cairn.server.routing.lines import line_of, parsed

FILE_NAME = "routes.toml"
MOST_BYTES = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}")
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class TargetConfig(Config):
    """Who may answer: a model of this server, or one of a provider."""

    model: str = Field(min_length=1, description="name of the model, as its server knows it")
    provider: str = Field(
        default="", description="name of a provider of this file; empty: a model of this server"
    )
    weight: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="share of requests beside the other targets', where they are shared",
    )

    @property
    def name(self) -> str:
        """What receipts, headers and metrics call it."""
        return f"{self.provider or 'local'}/{self.model}"


class CanaryConfig(Config):
    """A target that some of the users get first."""

    target: TargetConfig = Field(description="who answers them; the route's targets are its fallbacks")
    percent: float = Field(ge=0, le=100, description="share of users; who is in stays in when it grows")


class ShadowConfig(Config):
    """A target that gets a copy of requests, and whose answers are thrown away."""

    target: TargetConfig = Field(description="who gets the copies")
    percent: float = Field(default=100.0, ge=0, le=100, description="share of requests that are copied")
    max_outstanding: int = Field(
        default=4, ge=1, le=1000, description="copies under way at once; further ones are dropped"
    )


class CascadeConfig(Config):
    """Whether the first target, the cheap one, is enough."""

    by: Literal["score", "logprob"] = Field(
        default="score",
        description="`score`: a guess from the request's length, code and questions; `logprob`: the first "
        "target's own mean log-probability, once its whole reply is there",
    )
    threshold: float = Field(
        description="score: harder requests (0 to 1) skip the first target; logprob: replies with a lower "
        "mean (0 is sure, -1 is not) are thrown away and the next target asked"
    )


class BreakerConfig(Config):
    """When a target that fails is left alone."""

    failures: int = Field(default=5, ge=1, description="failures in a row after which it is left alone")
    open_seconds: float = Field(
        default=10.0, gt=0, description="how long, before one request tries it; doubles each time it fails"
    )
    max_open_seconds: float = Field(default=300.0, gt=0, description="longest time between tries")


class RouteConfig(Config):
    """One name that requests may ask for, and who answers."""

    targets: tuple[TargetConfig, ...] = Field(min_length=1, max_length=64, description="who may answer")
    strategy: Literal["ordered", "weighted", "least_outstanding"] = Field(
        default="ordered",
        description="which target is asked first: the first that is well, one by chance and weight, or the "
        "one with the fewest requests under way for its weight; the others are its fallbacks",
    )
    affinity: bool = Field(
        default=False,
        description="a conversation stays with its target, whose prefix cache knows it (not with `ordered`)",
    )
    attempts: int = Field(default=3, ge=1, le=20, description="most requests sent for one answer")
    deadline_seconds: float = Field(
        default=60.0, gt=0, description="longest time until an answer begins, all attempts together"
    )
    backoff_seconds: float = Field(
        default=0.2,
        ge=0,
        le=60,
        description="longest pause before a target is tried again, doubled each round; its length is chance",
    )
    canary: CanaryConfig | None = Field(default=None, description="a target that some users get first")
    shadow: ShadowConfig | None = Field(default=None, description="a target that gets copies")
    cascade: CascadeConfig | None = Field(
        default=None, description="the first target answers what is easy, the next ones the rest"
    )


class RoutesConfig(Config):
    """The whole file."""

    providers: dict[str, ProviderConfig] = Field(
        default={}, description="other servers, by the name given here"
    )
    routes: dict[str, RouteConfig] = Field(default={}, description="names that requests may ask for")
    breaker: BreakerConfig = Field(
        default=BreakerConfig(), description="when a target that fails is left alone"
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in the file, and its line from 1."""

    line: int
    message: str


class RoutesError(ConfigError):
    """A routes' file that says something that is not allowed."""

    code = "routes.invalid"

    def __init__(self, problems: list[Problem], source: str) -> None:
        problems = sorted(problems, key=lambda problem: problem.line)
        lines = "; ".join(f"line {problem.line}: {problem.message}" for problem in problems)
        super().__init__(f"{source}: {lines}", remedy="mend these lines; the routes before stay in force")
        self.problems = problems


def read_routes(text: str, *, source: str = FILE_NAME) -> RoutesConfig:
    """The routes that a file's text says, or `RoutesError` with every mistake and its line."""
    values, problem = parsed(text)
    if problem is not None:
        raise RoutesError([Problem(*problem)], source)
    try:
        config = RoutesConfig.model_validate(values)
    except ValidationError as error:
        details: list[Any] = error.errors()
        raise RoutesError(
            [Problem(line=line_of(text, detail["loc"]), message=_described(detail)) for detail in details],
            source,
        ) from None
    if problems := [
        Problem(line=line_of(text, loc), message=message) for loc, message in _contradictions(config)
    ]:
        raise RoutesError(problems, source)
    return config


def load_routes(path: Path) -> RoutesConfig:
    """The routes of a file; none where there is no file."""
    return read_routes(read_text(path), source=str(path))


def read_text(path: Path) -> str:
    """The text of a routes' file, empty where there is none."""
    try:
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes")
        return data.decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start})", remedy="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _described(detail: Any) -> str:
    """A mistake as a sentence; what stands in a provider is not repeated: somebody may put a key there."""
    if detail["loc"][:1] == ("providers",) and detail["type"] != "extra_forbidden":
        return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    return describe(RoutesConfig, detail)


def _contradictions(config: RoutesConfig) -> list[tuple[tuple[str | int, ...], str]]:
    """What no single field shows."""
    found: list[tuple[tuple[str | int, ...], str]] = [
        (("providers", name), f"{name!r} is no name of a provider, allowed: letters, digits, _ and -")
        for name in config.providers
        if not _PROVIDER_NAME.fullmatch(name) or name == "local"
    ]
    for name, route in config.routes.items():
        where = ("routes", name)
        if not _NAME.fullmatch(name):
            found.append((where, f"{name!r} is no name of a model"))
        targets: list[tuple[tuple[str | int, ...], TargetConfig]] = [
            ((*where, "targets", place), target) for place, target in enumerate(route.targets)
        ]
        seen: set[str] = set()
        for loc, target in targets:
            if target.name in seen:
                found.append((loc, f"{target.name} is a target of {name!r} twice"))
            seen.add(target.name)
        targets += [
            ((*where, part, "target"), extra.target)
            for part, extra in (("canary", route.canary), ("shadow", route.shadow))
            if extra is not None
        ]
        allowed = ", ".join(config.providers) or "none is defined"
        found += [
            ((*loc, "provider"), f"there is no provider {target.provider!r}, allowed: {allowed}")
            for loc, target in targets
            if target.provider and target.provider not in config.providers
        ]
        if route.cascade is not None and len(route.targets) < 2:
            found.append(((*where, "cascade"), "a cascade needs two targets, the cheap one first"))
        if route.cascade is not None and route.canary is not None:
            found.append(((*where, "cascade"), "a cascade and a canary contradict each other: leave one out"))
        if route.affinity and route.strategy == "ordered":
            found.append(((*where, "affinity"), "affinity needs the strategy weighted or least_outstanding"))
    return found
