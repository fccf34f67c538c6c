"""Artifacts, lineage, runs and receipts as the page reads them."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from cairn.core.errors import NotFoundError
from cairn.providers.receipts import shown
from cairn.registry import Artifact, Registry, Run, reused_runs
from cairn.retrieval.access import labels_of
from cairn.server.auth import Caller, MayReadCatalogue
from cairn.server.state import state_of

router = APIRouter(prefix="/api", tags=["catalogue"])

_OWNED = {"document", "file"}
"""Kinds that hold what somebody put in: they are asked for as files and in collections, with their owners."""
_MAX_LINES = 5000
_MAX_CARD_BYTES = 1_000_000


class ArtifactSummary(BaseModel):
    """A line of the list of artifacts; `names` are the aliases that point here."""

    digest: str
    kind: str
    names: list[str]
    created_at: float
    size: int
    metadata: dict[str, Any]


class ArtifactFile(BaseModel):
    """A file of an artifact."""

    path: str
    size: int
    sha256: str


class ArtifactDetail(ArtifactSummary):
    """An artifact with its files and its card (Markdown; empty when it has none)."""

    files: list[ArtifactFile]
    parents: list[str]
    card: str
    run_id: str | None


class LineageNode(BaseModel):
    """An artifact in a lineage graph."""

    digest: str
    kind: str
    names: list[str]
    created_at: float


class LineageGraph(BaseModel):
    """Ancestors and descendants; an edge is (parent, child)."""

    nodes: list[LineageNode]
    edges: list[tuple[str, str]]


class RunSummary(BaseModel):
    """A line of the list of runs."""

    run_id: str
    recipe: str
    stage: str
    status: str
    started_at: float
    finished_at: float | None
    output: str | None
    error: str
    parent_id: str | None


class RunDetail(RunSummary):
    """A run with what it was given and the runs inside it."""

    config: dict[str, Any]
    inputs: list[str]
    children: list[RunSummary]
    cached: list[RunSummary]
    """Of a build: the earlier runs whose output it took instead of running the stage again."""


class MetricLines(BaseModel):
    """Lines of a run's metrics from `after` on; ask again with `after=next`."""

    lines: list[dict[str, Any]]
    next: int


class ReceiptOut(BaseModel):
    """What made an answer: artifact, token ids, sampling with its seed."""

    receipt_id: str
    created_at: float
    kind: str
    model: str
    artifact: str
    adapter: str
    trace_id: str
    """Of its trace, which may have made room for newer ones; empty: none was made."""
    prompt_token_ids: list[int]
    sampling: dict[str, Any]
    outputs: list[list[int]]
    finish_reasons: list[str]
    runner: dict[str, Any]
    request: dict[str, Any]


@router.get("/artifacts")
def list_artifacts(
    request: Request, _caller: MayReadCatalogue, kind: str | None = None
) -> list[ArtifactSummary]:
    """All artifacts, or those of a kind; files and documents are their owners', and not among them."""
    registry = state_of(request).registry
    names = _names(registry)
    return [_artifact(found, names) for found in registry.artifacts(kind) if found.kind not in _OWNED]


@router.get("/artifacts/{digest}")
def get_artifact(request: Request, _caller: MayReadCatalogue, digest: str) -> ArtifactDetail:
    """One artifact, by digest or name."""
    registry = state_of(request).registry
    found = _common(registry, digest)
    files = [ArtifactFile(path=str(file.path), size=file.size, sha256=file.sha256) for file in found.files]
    return ArtifactDetail(
        **_artifact(found, _names(registry)).model_dump(),
        files=files,
        parents=list(found.parents),
        card=_card(found.folder / "card.md"),
        run_id=found.run_id,
    )


@router.get("/artifacts/{digest}/lineage")
def get_lineage(request: Request, _caller: MayReadCatalogue, digest: str) -> LineageGraph:
    """What an artifact was made from and what was made from it."""
    registry = state_of(request).registry
    lineage, names = registry.lineage(_common(registry, digest).digest), _names(registry)
    hidden = {node.digest for node in lineage.nodes if node.kind in _OWNED}
    nodes = [
        LineageNode(
            digest=node.digest,
            kind=node.kind,
            names=names.get(node.digest, []),
            created_at=node.created_at,
        )
        for node in lineage.nodes
        if node.digest not in hidden
    ]
    return LineageGraph(nodes=nodes, edges=[edge for edge in lineage.edges if hidden.isdisjoint(edge)])


@router.get("/runs")
def list_runs(
    request: Request, _caller: MayReadCatalogue, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[RunSummary]:
    """Builds and their stages, the latest first."""
    return [_run(run) for run in state_of(request).registry.runs(limit=limit)]


@router.get("/runs/{run_id}")
def get_run(request: Request, _caller: MayReadCatalogue, run_id: str) -> RunDetail:
    """One run."""
    registry = state_of(request).registry
    run = registry.run(run_id)
    return RunDetail(
        **_run(run).model_dump(),
        config=dict(run.config),
        inputs=list(run.inputs),
        children=[_run(child) for child in registry.runs(limit=500, parent_id=run_id)],
        cached=[_run(registry.run(found)) for found in reused_runs(registry.run_folder(run_id))],
    )


@router.get("/runs/{run_id}/metrics")
def get_run_metrics(
    request: Request, _caller: MayReadCatalogue, run_id: str, after: Annotated[int, Query(ge=0)] = 0
) -> MetricLines:
    """Metrics written since line `after`."""
    registry = state_of(request).registry
    registry.run(run_id)
    lines, following = _read_metrics(registry.run_folder(run_id) / "metrics.jsonl", after)
    return MetricLines(lines=lines, next=following)


@router.get("/receipts/{receipt_id}")
def get_receipt(request: Request, caller: Caller, receipt_id: str) -> ReceiptOut:
    """A receipt of one's own; without its prompt once a passage in it is gone or closed to who asks."""
    registry = state_of(request).registry
    receipt = registry.receipt(receipt_id)
    if receipt.user_id != caller.user_id:
        raise NotFoundError(f"no receipt {receipt_id!r}")
    receipt = shown(registry.database, receipt, labels_of(caller))
    return ReceiptOut(**{name: getattr(receipt, name) for name in ReceiptOut.model_fields})


def _read_metrics(path: Path, after: int) -> tuple[list[dict[str, Any]], int]:
    """The readable lines from `after` on, and where to go on."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = list(islice(file, after, after + _MAX_LINES))
    except FileNotFoundError:
        return [], after
    # The writer may be in the middle of the last line; it is read next time.
    whole = [line for line in lines if line.endswith("\n")]
    rows = (_metrics_row(line) for line in whole)
    return [row for row in rows if row is not None], after + len(whole)


def _metrics_row(line: str) -> dict[str, Any] | None:
    """A line as JSON, null for what is not finite, which JSON cannot say; None when it is damaged."""
    try:
        row = json.loads(line, parse_constant=lambda _: None, parse_float=_finite)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _card(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_MAX_CARD_BYTES).decode(errors="replace")


def _common(registry: Registry, ref: str) -> Artifact:
    """An artifact that every signed-in user may see."""
    found = registry.get(ref)
    if found.kind in _OWNED:
        raise NotFoundError(f"no artifact {ref!r}", remedy="list them: cairn artifact ls")
    return found


def _names(registry: Registry) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for alias in registry.aliases():
        names.setdefault(alias.digest, []).append(f"{alias.name}:{alias.alias}")
    return names


def _artifact(found: Artifact, names: dict[str, list[str]]) -> ArtifactSummary:
    return ArtifactSummary(
        digest=found.digest,
        kind=found.kind,
        names=names.get(found.digest, []),
        created_at=found.created_at,
        size=found.size,
        metadata=dict(found.metadata),
    )


def _run(run: Run) -> RunSummary:
    return RunSummary(**{name: getattr(run, name) for name in RunSummary.model_fields})
