"""One progress display for a whole build: a bar in predicted seconds over the bars of its stages.

Each stage weighs what it is predicted to take, or took the last time, or a rough guess; its own
progress moves the whole bar by the same share, so that the ETA is that of the build.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from cairn.core import Progress
from cairn.core.progress import Task
from cairn.lifecycle.history import last_seconds
from cairn.lifecycle.stage import AnyRecipe
from cairn.lifecycle.stage_plan import StagePlan
from cairn.registry import Registry

_GUESS = 5.0
"""Seconds of a stage of which nothing is known."""


class Overall:
    """The whole build's bar."""

    def __init__(self, progress: Progress, task: Task, weights: Mapping[str, float]) -> None:
        self._progress = progress
        self._task = task
        self._weights = weights
        self._advanced = dict.fromkeys(weights, 0.0)

    @classmethod
    @contextmanager
    def open(
        cls,
        recipe: AnyRecipe,
        registry: Registry,
        progress: Progress,
        todo: Sequence[str],
        plans: Mapping[str, StagePlan],
    ) -> Iterator[Self]:
        """The bar of a build whose stages `todo` have to run."""
        known = last_seconds(registry, recipe.name) | {name: plan.seconds for name, plan in plans.items()}
        weights = {name: known.get(name, _GUESS) for name in todo}
        with progress.task(f"build {recipe.name}", sum(weights.values()) or None) as task:
            yield cls(progress, task, weights)

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """The progress for a stage to report to."""
        self._task.note(name)
        yield _StageProgress(self._progress, self, name)

    def move(self, name: str, share: float) -> None:
        """A stage got further by this share of itself."""
        if step := self._step(name, share):
            self._task.advance(step)

    def resume(self, name: str, share: float) -> None:
        """An earlier build had done this share of a stage."""
        if step := self._step(name, share):
            self._task.resume(step)

    def done(self, name: str) -> None:
        """A stage is finished, whatever it reported."""
        self.move(name, 1.0)

    def _step(self, name: str, share: float) -> float:
        """The seconds that a share of a stage stands for, never beyond the stage's end."""
        weight = self._weights.get(name, 0.0)
        step = max(min(share * weight, weight - self._advanced.get(name, weight)), 0.0)
        if step:
            self._advanced[name] += step
        return step


class _StageProgress:
    """A progress whose first task with a known length also moves the whole."""

    def __init__(self, progress: Progress, overall: Overall, name: str) -> None:
        self._progress = progress
        self._overall = overall
        self._name = name
        self._has_main = False

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        is_main = not self._has_main and bool(total)
        self._has_main = self._has_main or is_main
        with self._progress.task(f"{self._name}: {label}", total) as task:
            yield _MainTask(task, self._overall, self._name, total or 1.0) if is_main else task

    def say(self, text: str) -> None:
        self._progress.say(text)


class _MainTask:
    def __init__(self, task: Task, overall: Overall, name: str, total: float) -> None:
        self._task = task
        self._overall = overall
        self._name = name
        self._total = total

    def advance(self, amount: float = 1) -> None:
        self._task.advance(amount)
        self._overall.move(self._name, amount / self._total)

    def resume(self, amount: float) -> None:
        self._task.resume(amount)
        self._overall.resume(self._name, amount / self._total)

    def note(self, text: str) -> None:
        self._task.note(text)
