"""Recall of the approximate search: what it finds of what an exact one does, over the newest samples."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from cairn.registry import Database
from cairn.retrieval.catalogue import list_collections, told_names
from cairn.retrieval.index import Filter, Index
from cairn.retrieval.space_tables import RecallRow
from cairn.retrieval.tables import CollectionRow

_K = 10
_WINDOW = 200
LEAST_SAMPLES = 20
"""With fewer nothing is said to be low."""
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Recall:
    """What is known of a collection's active space."""

    collection: str
    """What it alone is called: its name, or OWNER/NAME."""
    recall: float
    """Mean share of the nearest ten that the search finds."""
    num_samples: int
    least: float
    """What it shall not fall below."""
    measured_at: float

    @property
    def is_low(self) -> bool:
        """Whether something is wrong with the index."""
        return self.num_samples >= LEAST_SAMPLES and self.recall < self.least


def recall_of(index: Index, vector: NDArray[np.float32], where: Filter) -> float | None:
    """Share of the exact nearest that the search finds, equally near ones as good; None if there are none."""
    exact = index.exact(vector, _K, where)
    if not exact:
        return None
    least = exact[-1].score - _SAME
    return sum(match.score >= least for match in index.search(vector, _K, where)) / len(exact)


def note_recall(
    database: Database, collection_id: str, space_id: int, shares: Sequence[float], *, anew: bool = False
) -> None:
    """Add samples to the newest ones, or put them in their place."""
    with database.writing() as session:
        if session.get(CollectionRow, collection_id) is None:
            return
        row = session.get(RecallRow, (collection_id, space_id))
        if row is None:
            row = RecallRow(collection_id=collection_id, space_id=space_id, recent=[], measured_at=0.0)
            session.add(row)
        row.recent = [*([] if anew else row.recent), *shares][-_WINDOW:]
        row.measured_at = time.time()


def recalls(database: Database) -> dict[str, Recall]:
    """What is known of each collection's active space, by id."""
    query = select(CollectionRow, RecallRow).join(
        RecallRow,
        (RecallRow.collection_id == CollectionRow.collection_id)
        & (RecallRow.space_id == CollectionRow.space_id),
    )
    names = told_names(list_collections(database))
    with database.session(read_only=True) as session:
        return {
            row.collection_id: Recall(
                names.get(row.collection_id, row.name),
                sum(samples.recent) / len(samples.recent),
                len(samples.recent),
                float(row.config.get("least_recall", 0.95)),
                samples.measured_at,
            )
            for row, samples in session.execute(query.order_by(CollectionRow.name))
            if samples.recent
        }
