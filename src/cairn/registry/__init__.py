"""registry: everything made here, by digest and by name.

A content-addressed store of artifacts, the catalogue that knows their names, parents, runs and receipts,
and a hash-chained audit log of what was named, brought in and thrown out. SQLite and one folder by
default; Postgres by URL.
"""

from cairn.registry.aliases import Alias, AliasMove
from cairn.registry.artifact import Artifact, ArtifactWriter
from cairn.registry.audit import AUDIT_REMEDY, AuditEntry, AuditFinding, AuditHead, AuditLog
from cairn.registry.audit_export import audit_csv, audit_jsonl
from cairn.registry.audit_question import AuditQuestion
from cairn.registry.build_stages import BuildStage, record_stage, recorded_stages, reused_runs
from cairn.registry.database import MARKED_SECONDS, Database, Mark
from cairn.registry.lineage import Lineage
from cairn.registry.manifest import FileEntry
from cairn.registry.receipts import Receipt, new_receipt_id
from cairn.registry.registry import NAMES, Registry
from cairn.registry.runs import Run, RunStatus
from cairn.registry.tables import Base

__all__ = [
    "AUDIT_REMEDY",
    "MARKED_SECONDS",
    "NAMES",
    "Alias",
    "AliasMove",
    "Artifact",
    "ArtifactWriter",
    "AuditEntry",
    "AuditFinding",
    "AuditHead",
    "AuditLog",
    "AuditQuestion",
    "Base",
    "BuildStage",
    "Database",
    "FileEntry",
    "Lineage",
    "Mark",
    "Receipt",
    "Registry",
    "Run",
    "RunStatus",
    "audit_csv",
    "audit_jsonl",
    "new_receipt_id",
    "record_stage",
    "recorded_stages",
    "reused_runs",
]
