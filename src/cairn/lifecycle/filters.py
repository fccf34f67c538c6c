"""The filters a recipe's passages go through."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cairn.core import Settings
from cairn.lifecycle.recipe import DataStage


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document."""

    document: int
    text: str


@dataclass(frozen=True, slots=True)
class StepCount:
    """What one filter did."""

    step: str
    kept: int
    dropped: int
    why: str

    @property
    def values(self) -> dict[str, Any]:
        return {"step": self.step, "kept": self.kept, "dropped": self.dropped, "why": self.why}


def clean_text(text: str) -> str:
    return text


def filter_passages(
    passages: Iterator[Passage], held_out: Sequence[str], config: DataStage, settings: Settings
) -> tuple[list[Passage], list[StepCount]]:
    kept = [p for p in passages if len(p.text.split()) >= config.min_words]
    return kept, [StepCount("words", len(kept), 0, "")]
