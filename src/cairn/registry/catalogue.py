"""Queries on artifacts and the names that point to them.

Functions take a session, those that change something a `Database.writing` one; callers commit.
"""

import difflib
import re
import time
from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cairn.core import InvalidRequestError, NotFoundError, short
from cairn.core.digests import PREFIX
from cairn.registry.artifact import Artifact
from cairn.registry.manifest import Manifest, parse_manifest
from cairn.registry.store import ArtifactStore
from cairn.registry.tables import AliasRow, ArtifactRow, ParentRow

_HEX_REF = re.compile(r"[0-9a-f]{8,64}")
LATEST = "latest"


def to_artifact(row: ArtifactRow, store: ArtifactStore) -> Artifact:
    """A row as an `Artifact`; the manifest comes from the catalogue and is checked against the digest."""
    return Artifact.of(
        parse_manifest(row.manifest.encode(), row.digest),
        digest=row.digest,
        folder=store.folder(row.digest),
        created_at=row.created_at,
        run_id=row.run_id,
    )


def record(session: Session, manifest: Manifest, run_id: str | None) -> ArtifactRow:
    """Put an artifact that has landed into the catalogue; one that is there already is only touched."""
    now = time.time()
    digest = manifest.digest
    row = session.get(ArtifactRow, digest)
    if row is not None:
        row.touched_at = now
        return row
    row = ArtifactRow(
        digest=digest,
        kind=manifest.kind,
        size=manifest.size,
        manifest=manifest.to_bytes().decode(),
        run_id=run_id,
        created_at=now,
        touched_at=now,
    )
    session.add(row)
    session.flush()
    session.add_all(ParentRow(child=digest, parent=parent) for parent in manifest.parents)
    return row


def touch(session: Session, digest: str) -> None:
    """Note that an artifact is in use, so that collection spares it for the grace period."""
    session.get_one(ArtifactRow, digest).touched_at = time.time()


def forget(session: Session, digests: Iterable[str]) -> None:
    """Take artifacts out of the catalogue; their edges to parents go with them."""
    # One at a time: a statement takes a limited number of parameters.
    for digest in digests:
        session.execute(delete(ParentRow).where(ParentRow.child == digest))
        session.execute(delete(ArtifactRow).where(ArtifactRow.digest == digest))


def listing(session: Session, kind: str | None) -> list[ArtifactRow]:
    """Every artifact (of a kind), newest first."""
    query = select(ArtifactRow).order_by(ArtifactRow.created_at.desc(), ArtifactRow.digest)
    if kind is not None:
        query = query.where(ArtifactRow.kind == kind)
    return list(session.scalars(query))


def resolve(session: Session, ref: str) -> ArtifactRow:
    """The row that a digest, a hex prefix (8 digits or more), `name` or `name:alias` means."""
    hex_digits = ref.removeprefix(PREFIX)
    if ref.startswith(PREFIX) or _HEX_REF.fullmatch(ref):
        return _by_prefix(session, hex_digits, ref)
    name, _, alias = ref.partition(":")
    row = session.get(AliasRow, (name, alias or LATEST))
    artifact = session.get(ArtifactRow, row.digest) if row else None
    if artifact is None:
        raise NotFoundError(f"no artifact is called {ref!r}", remedy=_near_names(session, ref))
    return artifact


def require(session: Session, digests: Iterable[str], what: str) -> None:
    """`NotFoundError` unless every digest is in the catalogue."""
    for digest in digests:
        if session.get(ArtifactRow, digest) is None:
            raise NotFoundError(
                f"{what} {digest} is not in the registry", remedy="list what is there: cairn artifact ls"
            )


def _by_prefix(session: Session, hex_digits: str, ref: str) -> ArtifactRow:
    if not _HEX_REF.fullmatch(hex_digits):
        raise InvalidRequestError(
            f"{ref!r} is not a digest",
            remedy="give 8 to 64 hex digits, or a name such as assistant:production",
        )
    query = select(ArtifactRow).where(ArtifactRow.digest.startswith(f"{PREFIX}{hex_digits}"))
    found = list(session.scalars(query.order_by(ArtifactRow.digest).limit(5)))
    if not found:
        raise NotFoundError(f"no artifact has the digest {ref}", remedy=_near_digests(session, hex_digits))
    if len(found) > 1:
        raise InvalidRequestError(
            f"{ref} is the beginning of several digests: {', '.join(short(row.digest) for row in found)}",
            remedy="give more digits",
        )
    return found[0]


def _near_names(session: Session, ref: str) -> str:
    pairs = session.execute(
        select(AliasRow.name, AliasRow.alias).order_by(AliasRow.name, AliasRow.alias)
    ).all()
    known = [f"{name}:{alias}" for name, alias in pairs]
    name = ref.partition(":")[0]
    near = [full for full in known if full.startswith(f"{name}:")]
    wanted = ref if ":" in ref else f"{ref}:{LATEST}"
    near = near or difflib.get_close_matches(wanted, known, n=3)
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    return (
        "list the names: cairn artifact alias" if known else "no artifact has a name yet: cairn artifact ls"
    )


def _near_digests(session: Session, hex_digits: str) -> str:
    digests = session.scalars(
        select(ArtifactRow.digest).where(ArtifactRow.digest.startswith(f"{PREFIX}{hex_digits[:4]}")).limit(3)
    ).all()
    if digests:
        return f"did you mean {' or '.join(short(digest) for digest in digests)}?"
    return "list what is there: cairn artifact ls"
