"""A stage: one step of a build, its key, and what it is given to run.

The key is the digest of the stage's config, of the artifacts that go in and of the version of
its code. Equal keys mean equal outputs, so a stage whose key has been built is skipped.
`version` is raised by hand when a change of code changes the output; a digest of the source
would rebuild a model for a comment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from cairn.core import Progress, Settings, digest_json, load_toml, parse_config
from cairn.lifecycle.head_recipe import HeadRecipe
from cairn.lifecycle.recipe import Recipe
from cairn.registry import Artifact, Registry

AnyRecipe = Recipe | HeadRecipe
R = TypeVar("R", bound=AnyRecipe, default=Recipe)


def load_recipe(path: Path) -> AnyRecipe:
    """Read a recipe, of a model or of a head; every mistake in it is reported at once."""
    values = load_toml(path)
    kind: type[AnyRecipe] = HeadRecipe if "head" in values else Recipe
    return parse_config(kind, values, source=str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext(Generic[R]):
    """What a stage works with."""

    recipe: R
    recipe_path: Path
    registry: Registry
    folder: Path
    """The run's folder: checkpoints, metrics.jsonl, result.json; survives an interruption."""
    run_id: str
    progress: Progress
    inputs: Mapping[str, Artifact]
    """Outputs of the stages it needs, by stage name."""

    @property
    def settings(self) -> Settings:
        return self.registry.settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step. `config` is JSON and holds all that decides the output, besides the inputs."""

    name: str
    version: int
    needs: tuple[str, ...]
    config: Callable[[Any, Path], dict[str, Any]]
    run: Callable[[StageContext[Any]], Artifact]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a key is made of; stored with the run, so that a later build can say what changed."""

    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def values(self) -> dict[str, Any]:
        return {"version": self.version, "config": dict(self.config), "inputs": dict(self.inputs)}

    def key(self, stage: str) -> str:
        """The stage key."""
        return digest_json({"stage": stage, **self.values})


def record(stage: Stage, recipe: AnyRecipe, recipe_path: Path, inputs: Mapping[str, str]) -> Recorded:
    """What the stage's key is made of, given the digests of its inputs."""
    return Recorded(
        stage.version, stage.config(recipe, recipe_path), {name: inputs[name] for name in stage.needs}
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`config.vocab_size: 4096 -> 5120` for every leaf in which two records differ."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return [
        f"{path}: {_shown(old, path)} -> {_shown(new, path)}"
        for path in sorted({**old, **new})
        if old.get(path, _MISSING) != new.get(path, _MISSING)
    ]


_MISSING = object()


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        children = [(f"{path}.{key}" if path else str(key), child) for key, child in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    else:
        return [(path, value)]
    return [leaf for name, child in children for leaf in _leaves(child, name)]


def _shown(leaves: Mapping[str, Any], path: str) -> str:
    if path not in leaves:
        return "nothing"
    text = str(leaves[path])
    return text.removeprefix("sha256:")[:12] if text.startswith("sha256:") else text[:60]
