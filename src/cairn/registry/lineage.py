"""Lineage: which artifacts came from which. And what follows from it: what nothing needs any more."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from cairn.core import short
from cairn.registry.artifact import Artifact
from cairn.registry.runs import running
from cairn.registry.tables import AliasRow, ArtifactRow, ArtifactUseRow, ParentRow

Edges = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Ancestors and descendants of `digest`, itself included.

    `edges` are (parent, child) pairs; `missing` are parents that the registry does not hold
    (an import without its ancestors), which appear in `edges` but not in `nodes`.
    """

    digest: str
    nodes: list[Artifact]
    edges: list[tuple[str, str]]
    missing: tuple[str, ...] = ()


def edges(session: Session) -> tuple[Edges, Edges]:
    """Every edge, as parents of each child and children of each parent."""
    parents: dict[str, list[str]] = defaultdict(list)
    children: dict[str, list[str]] = defaultdict(list)
    for child, parent in session.execute(
        select(ParentRow.child, ParentRow.parent).order_by(ParentRow.child, ParentRow.parent)
    ):
        parents[child].append(parent)
        children[parent].append(child)
    return parents, children


def reachable(roots: Iterable[str], steps: Edges) -> set[str]:
    """Everything that can be reached from `roots` along `steps`, roots included."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest not in seen:
            seen.add(digest)
            todo.extend(steps.get(digest, ()))
    return seen


def garbage(session: Session, grace_seconds: float) -> list[ArtifactRow]:
    """What no alias, no use, no running run and no artifact within its grace period needs, oldest first."""
    rows = list(session.scalars(select(ArtifactRow).order_by(ArtifactRow.created_at)))
    roots = set(session.scalars(select(AliasRow.digest)))
    roots.update(session.scalars(select(ArtifactUseRow.digest)))
    for run in running(session):
        roots.update(run.inputs)
    horizon = time.time() - grace_seconds
    roots.update(row.digest for row in rows if row.touched_at > horizon)
    parents, _ = edges(session)
    needed = reachable(roots, parents)
    return [row for row in rows if row.digest not in needed]


def reasons_to_keep(session: Session, digest: str) -> list[str]:
    """Names, uses, children and running runs that need this very artifact, in words."""
    pairs = session.execute(select(AliasRow.name, AliasRow.alias).where(AliasRow.digest == digest)).all()
    children = session.scalars(select(ParentRow.child).where(ParentRow.parent == digest)).all()
    users = session.scalars(select(ArtifactUseRow.user).where(ArtifactUseRow.digest == digest)).all()
    using = [run.run_id for run in running(session) if digest in run.inputs]
    return [
        *(f"the name {name}:{alias}" for name, alias in pairs),
        *(f"the {user}" for user in users),
        *(f"its child {short(child)}" for child in children),
        *(f"the running {run_id}" for run_id in using),
    ]


def ancestors(session: Session, digest: str) -> list[ArtifactRow]:
    """Every ancestor that is here, parents before children."""
    parents, _ = edges(session)
    order: list[str] = []
    _visit(digest, parents, set(), order)
    rows = {row.digest: row for row in _rows(session, order)}
    return [rows[each] for each in order if each in rows and each != digest]


def around(session: Session, digest: str, to_artifact: Callable[[ArtifactRow], Artifact]) -> Lineage:
    """Ancestors and descendants of an artifact; nodes oldest first."""
    parents, children = edges(session)
    found = reachable([digest], parents) | reachable([digest], children)
    rows = _rows(session, found)
    here = {row.digest for row in rows}
    pairs = [
        (parent, child) for child in sorted(here) for parent in parents.get(child, ()) if parent in found
    ]
    return Lineage(digest, [to_artifact(row) for row in rows], pairs, tuple(sorted(found - here)))


def _visit(digest: str, parents: Edges, seen: set[str], order: list[str]) -> None:
    """Depth-first post-order, without recursion: lineages may be long chains."""
    todo = [(digest, False)]
    while todo:
        current, is_done = todo.pop()
        if is_done:
            order.append(current)
        elif current not in seen:
            seen.add(current)
            todo.append((current, True))
            todo.extend((parent, False) for parent in parents.get(current, ()))


def _rows(session: Session, digests: Iterable[str]) -> list[ArtifactRow]:
    # Chosen here and not in the query: a lineage may have more digests than a statement takes parameters.
    query = select(ArtifactRow).order_by(ArtifactRow.created_at, ArtifactRow.digest)
    wanted = set(digests)
    return [row for row in session.scalars(query) if row.digest in wanted]
