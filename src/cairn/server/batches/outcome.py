"""How a batch ends: its answers become files, and the batch what it is, in one transaction."""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cairn.jobs import Job, JobState, Result, queue
from cairn.registry import Registry
from cairn.registry.tables import ArtifactUseRow
from cairn.retrieval.documents import discard_artifacts
from cairn.server.batches.lines import Line
from cairn.server.batches.objects import BatchUsage, LineError
from cairn.server.files.attaching import CONTENT, new_file_id, use_of
from cairn.server.tables import FileRow

_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def input_use(job_id: str) -> str:
    """Who needs the artifact of a batch's input, so that deleting the file takes nothing away from it."""
    return f"batch {job_id}"


def refuse_batch(registry: Registry, job: Job, errors: Sequence[LineError]) -> None:
    """End a batch of which nothing can be made."""
    _end(registry, job, "failed", [], {"errors": [error.model_dump() for error in errors]})


def close_batch(registry: Registry, job: Job, lines: Sequence[Line], state: JobState) -> None:
    """End a batch with what it came to."""
    usage = BatchUsage()
    files = []
    for name, is_failure in (("output", False), ("error", True)):
        artifact = None
        with registry.create("file") as writer, (writer.folder / CONTENT).open("w", encoding="ascii") as file:
            size = 0
            for line in _told(registry, job, lines, state, is_failure, usage):
                size += file.write(line + "\n")
        artifact = writer.artifact
        if not size:
            discard_artifacts(registry, [artifact.digest])
            continue
        row = FileRow(
            file_id=new_file_id(),
            owner=job.owner,
            filename=f"{job.job_id}_{name}.jsonl",
            purpose="batch_output",
            size=size,
            artifact=artifact.digest,
            created_at=time.time(),
        )
        files.append((f"{name}_file_id", row))
    outcome = {name: row.file_id for name, row in files} | {"usage": usage.model_dump()}
    _end(registry, job, state, [row for _, row in files], outcome)


def _end(
    registry: Registry, job: Job, state: JobState, files: Sequence[FileRow], outcome: dict[str, Any]
) -> None:
    with registry.database.writing() as session:
        if queue.end(session, job.job_id, state, outcome):
            for row in files:
                session.add(row)
                session.add(ArtifactUseRow(digest=row.artifact, user=use_of(row.file_id)))
        use = session.get(ArtifactUseRow, (job.spec["artifact"], input_use(job.job_id)))
        if use is not None:
            session.delete(use)
    discard_artifacts(registry, [job.spec["artifact"], *(row.artifact for row in files)])


def _told(
    registry: Registry,
    job: Job,
    lines: Sequence[Line],
    state: JobState,
    is_failure: bool,
    usage: BatchUsage,
) -> Iterator[str]:
    done = set()
    with registry.database.session(read_only=True) as session:
        for result in queue.results(session, job.job_id):
            done.add(result.number)
            if result.is_failure == is_failure:
                _count(usage, result)
                yield result.value
    if is_failure and state == "expired":
        for number in queue.remaining(len(lines), done):
            told = {"custom_id": lines[number].custom_id, "response": None, "error": _EXPIRED}
            yield json.dumps({"id": f"batch_req_{secrets.token_hex(12)}", **told})


def _count(usage: BatchUsage, result: Result) -> None:
    found = (json.loads(result.value)["response"]["body"] or {}).get("usage") or {}
    usage.input_tokens += found.get("prompt_tokens", found.get("input_tokens", 0))
    usage.output_tokens += found.get("completion_tokens", found.get("output_tokens", 0))
    usage.total_tokens += found.get("total_tokens", 0)
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details") or {}
    usage.input_tokens_details["cached_tokens"] += details.get("cached_tokens", 0)
