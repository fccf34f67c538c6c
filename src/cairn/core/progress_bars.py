"""Progress on a terminal: bars with a rate and an ETA, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

from cairn.core.progress import Task


class Bars:
    """Rich bars; the display is alive only while at least one task is open."""

    def __init__(self) -> None:
        self._bars = RichBars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        )
        self._num_open = 0

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        self._num_open += 1
        if self._num_open == 1:
            self._bars.start()
        task_id = self._bars.add_task(label, total=total, note="")
        try:
            yield _Bar(self._bars, task_id)
        finally:
            self._bars.remove_task(task_id)
            self._num_open -= 1
            if self._num_open == 0:
                self._bars.stop()

    def say(self, text: str) -> None:
        self._bars.console.print(text, highlight=False)


class _Bar:
    def __init__(self, bars: RichBars, task_id: TaskID) -> None:
        self._bars = bars
        self._task_id = task_id

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task_id, amount)

    def resume(self, amount: float) -> None:
        (task,) = (task for task in self._bars.tasks if task.id == self._task_id)
        # The one call that moves a bar without a sample of its speed.
        self._bars.reset(self._task_id, completed=round(task.completed + amount))

    def note(self, text: str) -> None:
        self._bars.update(self._task_id, note=text)
