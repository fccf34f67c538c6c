"""Artifact: what everything made here is. A folder of files under a manifest, named by the manifest's
SHA-256."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cairn.registry.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A stored artifact; `created_at` (Unix seconds) and `run_id` tell when and by what it was made."""

    digest: str
    kind: str
    parents: tuple[str, ...]
    metadata: Mapping[str, Any] = field(hash=False)
    files: tuple[FileEntry, ...]
    folder: Path
    created_at: float
    run_id: str | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @classmethod
    def of(
        cls, manifest: Manifest, *, digest: str, folder: Path, created_at: float, run_id: str | None
    ) -> "Artifact":
        """The artifact that a manifest describes."""
        return cls(
            digest=digest,
            kind=manifest.kind,
            parents=manifest.parents,
            metadata=manifest.metadata,
            files=manifest.files,
            folder=folder,
            created_at=created_at,
            run_id=run_id,
        )


class ArtifactWriter:
    """An artifact being made: write files under `folder`; after the `with` block `artifact` is there.

    `parents` and `metadata` may still be set inside the block.
    """

    def __init__(self, folder: Path, parents: Sequence[str], metadata: Mapping[str, Any]) -> None:
        self.folder = folder
        self.parents = list(parents)
        self.metadata = dict(metadata)
        self._artifact: Artifact | None = None

    @property
    def artifact(self) -> Artifact:
        """The stored artifact; only after the block."""
        assert self._artifact is not None, "the artifact exists only after the `with` block"
        return self._artifact

    def finish(self, artifact: Artifact) -> None:
        """Hand over what was stored (the registry calls this)."""
        self._artifact = artifact
