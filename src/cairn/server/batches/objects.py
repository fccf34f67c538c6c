"""Batches in OpenAI's shapes."""

from typing import Any, Literal

from pydantic import BaseModel

from cairn.jobs import Job
from cairn.server.body import RequestBody
from cairn.server.files.objects import ListPage, Metadata

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
_STATUSES: dict[str, BatchStatus] = {
    "waiting": "validating",
    "running": "in_progress",
    "finishing": "finalizing",
}


class NewBatch(RequestBody):
    """`POST /v1/batches`."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None


class LineError(BaseModel):
    """What is wrong with a line of the input."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class LineErrors(BaseModel):
    """Why a batch was not begun."""

    object: Literal["list"] = "list"
    data: list[LineError]


class BatchCounts(BaseModel):
    """Requests by what became of them."""

    total: int
    completed: int
    failed: int


class BatchUsage(BaseModel):
    """Tokens of all answers, once the batch has ended."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, int] = {"cached_tokens": 0}
    output_tokens_details: dict[str, int] = {"reasoning_tokens": 0}


class Batch(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: Endpoint
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatus
    errors: LineErrors | None
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: BatchUsage | None
    metadata: dict[str, str]


class BatchList(ListPage):
    """Batches."""

    data: list[Batch]


def batch_of(job: Job) -> Batch:
    """A job as a batch."""
    status = _STATUSES.get(job.state, job.state)
    if job.cancelled_at is not None and job.ended_at is None:
        status = "cancelling"
    outcome: dict[str, Any] = job.outcome or {}

    def ended_as(state: str) -> int | None:
        return _seconds(job.ended_at) if job.state == state else None

    return Batch(
        id=job.job_id,
        endpoint=job.spec["endpoint"],
        input_file_id=job.spec["input_file_id"],
        status=status,
        errors=LineErrors(data=outcome["errors"]) if outcome.get("errors") else None,
        output_file_id=outcome.get("output_file_id"),
        error_file_id=outcome.get("error_file_id"),
        created_at=int(job.created_at),
        expires_at=int(job.expires_at),
        in_progress_at=_seconds(job.started_at),
        finalizing_at=_seconds(job.finishing_at),
        completed_at=ended_as("completed"),
        failed_at=ended_as("failed"),
        expired_at=ended_as("expired"),
        cancelling_at=_seconds(job.cancelled_at),
        cancelled_at=ended_as("cancelled"),
        request_counts=BatchCounts(total=job.num_items, completed=job.num_done, failed=job.num_failed),
        usage=outcome.get("usage"),
        metadata=job.spec["metadata"],
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
