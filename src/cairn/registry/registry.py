"""The registry: one door to the store, the catalogue, names, runs, receipts, lineage and the audit log.

Each method opens its own short transaction; none may be called inside another writing session. Objects may be
shared between threads; processes share the folder and the database.

Crash order: bytes land before the catalogue knows them and leave after it has forgotten them, so the
catalogue never names what is not there. A folder that the catalogue does not know is reported by
`unregistered` and taken in by `adopt`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self

from sqlalchemy import text

from cairn.core import ConfigError, ConflictError, NotFoundError, Settings, short
from cairn.registry import aliases, archive, catalogue, durable, journal, lineage, receipts, runs
from cairn.registry.aliases import Alias, AliasMove
from cairn.registry.artifact import Artifact, ArtifactWriter
from cairn.registry.audit import AuditLog
from cairn.registry.database import Database
from cairn.registry.lineage import Lineage
from cairn.registry.locks import Hold, hold
from cairn.registry.manifest import Manifest, check_kind, make_manifest
from cairn.registry.receipts import Receipt
from cairn.registry.runs import Run, RunStatus
from cairn.registry.store import ArtifactStore, copy_folder

NAMES = "names"
"""The mark of changes to what names mean."""
GRACE_SECONDS = 3600.0


class Registry:
    """Everything that was made here, by digest and by name."""

    def __init__(self, settings: Settings, database: Database, store: ArtifactStore) -> None:
        self.settings = settings
        self.database = database
        self.store = store
        self.audit = AuditLog(database)
        self._journals = settings.home / journal.FOLDER
        self._held_runs: dict[str, Hold] = {}

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """Make the folders, migrate the database, sweep what dead processes left; close it when done."""
        settings = settings or Settings.from_env()
        if "://" in settings.artifacts:
            raise ConfigError(
                f"CAIRN_ARTIFACTS is {settings.artifacts!r}",
                remedy="allowed: a folder on this machine or a mount",
            )
        with durable.storage_errors(f"cannot make {settings.home}"):
            settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database(settings.sqlalchemy_url)
        try:
            database.migrate()
            registry = cls(settings, database, ArtifactStore(settings.artifacts_folder))
            registry.store.open()
            registry._settle_runs()
        except BaseException:
            database.close()
            raise
        return registry

    def close(self) -> None:
        """Close the database. Runs not finished by now count as abandoned."""
        for held in self._held_runs.values():
            held.release(keep_file=True)
        self._held_runs.clear()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Artifacts

    @contextmanager
    def create(
        self,
        kind: str,
        *,
        parents: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> Iterator[ArtifactWriter]:
        """Make an artifact: write files under `writer.folder`; after the block `writer.artifact` is stored.

        An error in the block leaves nothing behind. `parents` are digests that must be here.
        """
        check_kind(kind)
        with self.store.stage() as folder:
            writer = ArtifactWriter(folder, parents, metadata or {})
            with durable.storage_errors("cannot write the artifact", only_full=True):
                yield writer
            manifest = make_manifest(kind, writer.parents, writer.metadata, self.store.seal(folder))
            with self.store.lock(shared=True):
                with self.database.session(read_only=True) as session:
                    catalogue.require(session, manifest.parents, "parent")
                self.store.land(folder, manifest)
                writer.finish(self._record([manifest], run_id))

    def add_folder(
        self,
        folder: Path,
        kind: str,
        *,
        parents: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        link: bool = False,
    ) -> Artifact:
        """Copy an existing folder in; symbolic links to files in it are resolved.

        `link=True` hard-links where the file system can: only for files that nobody writes to again,
        because they share their bytes with the artifact and turn read-only.
        """
        if not folder.is_dir():
            raise NotFoundError(f"no such folder: {folder}", remedy="check the path")
        with self.create(kind, parents=parents, metadata=metadata, run_id=run_id) as writer:
            copy_folder(folder, writer.folder, link=link)
        return writer.artifact

    def find(self, ref: str) -> Artifact:
        """What the catalogue says a digest, hex prefix (8 or more), `name` or `name:alias` means."""
        with self.database.session(read_only=True) as session:
            return catalogue.to_artifact(catalogue.resolve(session, ref), self.store)

    def get(self, ref: str) -> Artifact:
        """Like `find`, and checked on disk: the one to open files of."""
        artifact = self.find(ref)
        self.store.read(artifact.digest)
        return artifact

    def verify(self, ref: str) -> None:
        """Hash every file of an artifact; `IntegrityError` says what is wrong."""
        self.store.verify(self.find(ref).digest)

    def artifacts(self, kind: str | None = None) -> list[Artifact]:
        """Every artifact (of a kind), newest first, from the catalogue alone."""
        with self.database.session(read_only=True) as session:
            return [catalogue.to_artifact(row, self.store) for row in catalogue.listing(session, kind)]

    def unregistered(self) -> list[str]:
        """Digests of folders in the store that the catalogue does not know."""
        known = {artifact.digest for artifact in self.artifacts()}
        return [digest for digest in self.store.digests() if digest not in known]

    def adopt(self, digest: str) -> Artifact:
        """Verify a folder that is in the store and take it into the catalogue."""
        manifest = self.store.verify(digest)
        with self.store.lock(shared=True):
            return self._record([manifest], None)

    def remove(self, ref: str, *, actor: str = "local") -> Artifact:
        """Remove one artifact; `ConflictError` while a name, a child or a running run needs it."""
        with self.store.lock(shared=False):
            with self.database.writing(marks=NAMES) as session:
                row = catalogue.resolve(session, ref)
                if reasons := lineage.reasons_to_keep(session, row.digest):
                    raise ConflictError(
                        f"{short(row.digest)} is needed: {', '.join(reasons)}", remedy="remove those first"
                    )
                artifact = catalogue.to_artifact(row, self.store)
                catalogue.forget(session, [row.digest])
                self.audit.append_in(session, "artifact.remove", actor, row.digest, {"kind": row.kind})
            self.store.discard([artifact.digest])
        return artifact

    def gc(
        self, dry_run: bool = False, *, grace_seconds: float = GRACE_SECONDS, actor: str = "local"
    ) -> list[Artifact]:
        """Remove what no name, no running run and nothing younger than the grace period needs; returns it."""
        with self.store.lock(shared=False):
            with self.database.writing(marks=NAMES) as session:
                rows = lineage.garbage(session, grace_seconds)
                found = [catalogue.to_artifact(row, self.store) for row in rows]
                if dry_run or not found:
                    return found
                digests = [artifact.digest for artifact in found]
                catalogue.forget(session, digests)
                self.audit.append_in(session, "artifact.gc", actor, "", {"digests": digests})
            self.store.discard(digests)
        return found

    # Lineage and archives

    def lineage(self, ref: str) -> Lineage:
        """Ancestors and descendants of an artifact, and the edges between them."""
        with self.database.session(read_only=True) as session:
            digest = catalogue.resolve(session, ref).digest
            return lineage.around(session, digest, lambda row: catalogue.to_artifact(row, self.store))

    def export(self, ref: str, path: Path, *, parents: bool = False) -> Artifact:
        """Write an artifact (and with `parents` all its ancestors that are here) to a `.tar` archive."""
        artifact = self.find(ref)
        chosen = self.ancestors(artifact.digest) if parents else []
        with self.store.lock(shared=True):
            for each in (*chosen, artifact):
                self.store.verify(each.digest)
            archive.write_archive(path, [*chosen, artifact])
        return artifact

    def import_archive(self, path: Path, *, actor: str = "local") -> Artifact:
        """Bring the artifacts of an archive in, all or none; returns the one that was exported."""
        with archive.read_archive(path, self.store) as staged, self.store.lock(shared=True):
            for folder, manifest in staged:
                self.store.land(folder, manifest)
            return self._record([manifest for _, manifest in staged], None, importer=actor)

    def ancestors(self, digest: str) -> list[Artifact]:
        """Every ancestor that is here, parents before children."""
        with self.database.session(read_only=True) as session:
            rows = lineage.ancestors(session, digest)
            return [catalogue.to_artifact(row, self.store) for row in rows]

    # Names

    def set_alias(
        self,
        name: str,
        digest: str,
        *,
        alias: str = catalogue.LATEST,
        actor: str = "local",
        expected: str | EllipsisType | None = ...,
    ) -> Alias:
        """Point `name:alias` to an artifact, in one step for all who look.

        `expected` (a digest, or None for "new") makes it a compare-and-set that raises `ConflictError`.
        """
        aliases.check_name(name, alias)
        with self.store.lock(shared=True), self.database.writing(marks=NAMES) as session:
            row = catalogue.resolve(session, digest)
            moved = aliases.move(
                session, self.audit, name=name, alias=alias, digest=row.digest, actor=actor, expected=expected
            )
        assert moved is not None
        return moved

    def remove_alias(self, name: str, alias: str = catalogue.LATEST, *, actor: str = "local") -> None:
        """Remove `name:alias`; its history stays."""
        with self.database.writing(marks=NAMES) as session:
            aliases.move(session, self.audit, name=name, alias=alias, digest=None, actor=actor)

    def aliases(self, name: str | None = None) -> list[Alias]:
        """Every alias (of a name), sorted."""
        with self.database.session(read_only=True) as session:
            return aliases.listing(session, name)

    def alias_history(self, name: str, alias: str = catalogue.LATEST) -> list[AliasMove]:
        """Every move of an alias, oldest first."""
        with self.database.session(read_only=True) as session:
            return aliases.history(session, name, alias)

    # Runs and receipts

    def start_run(
        self,
        *,
        recipe: str,
        stage: str = "",
        key: str = "",
        config: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        parent_id: str | None = None,
    ) -> Run:
        """Record that a build or stage runs in this process; `inputs` are digests that must be here."""
        run_id = runs.new_run_id()
        held = hold(self.run_folder(run_id) / runs.LOCK_NAME)
        try:
            with self.store.lock(shared=True), self.database.writing() as session:
                catalogue.require(session, inputs, "input")
                run = runs.start(
                    session,
                    run_id,
                    recipe=recipe,
                    stage=stage,
                    key=key,
                    config=config or {},
                    inputs=inputs,
                    parent_id=parent_id,
                )
        except BaseException:
            held.release()
            raise
        self._held_runs[run_id] = held
        return run

    def finish_run(
        self, run_id: str, *, status: RunStatus, output: str | None = None, error: str = ""
    ) -> Run:
        """Record how a run ended: succeeded (with its `output` digest), failed or interrupted."""
        with self.database.writing() as session:
            run = runs.finish(session, run_id, status=status, output=output, error=error)
        if held := self._held_runs.pop(run_id, None):
            held.release()
        return run

    def run(self, run_id: str) -> Run:
        """A run by id."""
        with self.database.session(read_only=True) as session:
            return runs.to_run(runs.find(session, run_id))

    def runs(self, limit: int = 50, *, parent_id: str | None = None) -> list[Run]:
        """The newest runs (of a parent), newest first."""
        with self.database.session(read_only=True) as session:
            return runs.listing(session, limit, parent_id)

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run's checkpoints, metrics and reports; made when it is not there."""
        runs.check_run_id(run_id)
        folder = self.settings.runs_folder / run_id
        with durable.storage_errors(f"cannot make {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def cached_output(self, key: str) -> Artifact | None:
        """The output of the newest successful run with this stage key, if the artifact is here and sound."""
        with self.database.writing() as session:
            digest = runs.last_output(session, key)
            if digest is None:
                return None
            catalogue.touch(session, digest)
        try:
            return self.get(digest)
        except NotFoundError:
            return None

    def check_writable(self) -> None:
        """Raise `StorageError` where nothing can be recorded now."""
        with self.database.writing() as session:
            # SQLite begins on a file it may only read, and refuses the first statement that would write.
            session.execute(text("DELETE FROM receipts WHERE 1 = 0"))

    def save_receipt(self, receipt: Receipt) -> None:
        """Record what made an answer."""
        self.save_receipts([receipt])

    def save_receipts(self, made: Sequence[Receipt]) -> None:
        """Record what made several answers, all or none.

        An answer waits for its receipt, so the receipt does not wait for the disk: a machine that goes down
        loses those of its last moments (a server's ledger, synced twice a second, takes them along).
        """
        with self.database.session(is_synced=False) as session:
            receipts.save(session, map(receipts.line_of, made))
            session.commit()

    def receipt(self, receipt_id: str) -> Receipt:
        """A receipt by id, be it in the database or on its way there."""
        for _ in range(2):  # a line may go, its row being there, between the one look and the other
            with self.database.session(read_only=True) as session:
                found = receipts.find(session, receipt_id)
            if found is not None:
                return found
            lines = receipts.of_lines(journal.noted(self._journals, key=receipt_id))
            if receipt_id in lines:
                return receipts.read(lines[receipt_id])
        raise NotFoundError(
            f"there is no receipt {receipt_id}", remedy="replies carry theirs in the header x-cairn-receipt"
        )

    def receipts(self, limit: int = 50) -> list[Receipt]:
        """The newest receipts, newest first, with those on their way into the database."""
        lines = receipts.of_lines(journal.noted(self._journals))
        found = {receipt_id: receipts.read(line) for receipt_id, line in lines.items()}
        with self.database.session(read_only=True) as session:
            found |= {each.receipt_id: each for each in receipts.listing(session, limit)}
        order = sorted(found.values(), key=lambda each: (each.created_at, each.receipt_id), reverse=True)
        return order[:limit]

    def _record(self, manifests: Sequence[Manifest], run_id: str | None, *, importer: str = "") -> Artifact:
        """Catalogue artifacts that have landed; returns the last. The caller holds the store's lock."""
        with self.database.writing() as session:
            for manifest in manifests:
                row = catalogue.record(session, manifest, run_id)
                if importer:
                    self.audit.append_in(session, "artifact.import", importer, row.digest, {"kind": row.kind})
            return catalogue.to_artifact(row, self.store)

    def _settle_runs(self) -> None:
        with self.database.session(read_only=True) as session:
            lost = runs.abandoned(session, self.settings.runs_folder)
        if not lost:
            return
        with self.database.writing() as session:
            runs.interrupt(session, lost)
        for held in lost.values():
            held.release()
