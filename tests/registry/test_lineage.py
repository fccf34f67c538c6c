"""What came from what, and what may go."""

import pytest
from sqlalchemy import insert

from cairn.core import NotFoundError, Settings
from cairn.registry import Artifact, Registry
from cairn.registry.manifest import Manifest, make_manifest
from cairn.registry.tables import ArtifactRow, ParentRow
from tests.registry.conftest import Make


@pytest.fixture
def family(make: Make) -> dict[str, Artifact]:
    """raw -> clean -> base -> chat; clean -> tokenizer -> base; raw -> other."""
    made: dict[str, Artifact] = {}
    for name, parents in {
        "raw": (),
        "clean": ("raw",),
        "tokenizer": ("clean",),
        "base": ("clean", "tokenizer"),
        "chat": ("base",),
        "other": ("raw",),
    }.items():
        made[name] = make(name, parents=[made[parent].digest for parent in parents])
    return made


def names(family: dict[str, Artifact], found: list[Artifact]) -> set[str]:
    by_digest = {artifact.digest: name for name, artifact in family.items()}
    return {by_digest[artifact.digest] for artifact in found}


def test_ancestors_and_descendants(registry: Registry, family: dict[str, Artifact]) -> None:
    found = registry.lineage(family["tokenizer"].digest)
    assert names(family, found.nodes) == {"raw", "clean", "tokenizer", "base", "chat"}
    assert found.missing == ()
    wanted = [
        ("raw", "clean"),
        ("clean", "tokenizer"),
        ("clean", "base"),
        ("tokenizer", "base"),
        ("base", "chat"),
    ]
    assert sorted(found.edges) == sorted((family[a].digest, family[b].digest) for a, b in wanted)
    with pytest.raises(NotFoundError):
        registry.lineage("nothing")


def test_ancestors_come_before_their_children(registry: Registry, family: dict[str, Artifact]) -> None:
    order = [artifact.digest for artifact in registry.ancestors(family["chat"].digest)]
    assert order == [family[name].digest for name in ("raw", "clean", "tokenizer", "base")]


def test_a_long_lineage_needs_no_deep_stack(sqlite_settings: Settings) -> None:
    chain: list[Manifest] = []
    for i in range(1200):
        chain.append(make_manifest("model", [m.digest for m in chain[-1:]], {"i": i}, ()))
    rows = [
        {"digest": m.digest, "kind": "model", "size": 0, "manifest": m.to_bytes().decode()}
        | {"created_at": i, "touched_at": 0}
        for i, m in enumerate(chain)
    ]
    edges = [{"child": m.digest, "parent": parent} for m in chain for parent in m.parents]
    with Registry.open(sqlite_settings) as registry:
        with registry.database.writing() as session:
            session.execute(insert(ArtifactRow), rows)
            session.execute(insert(ParentRow), edges)
        assert [a.digest for a in registry.ancestors(chain[-1].digest)] == [
            row["digest"] for row in rows[:-1]
        ]
        assert len(registry.lineage(chain[600].digest).nodes) == 1200


def test_collection_keeps_what_is_reachable(registry: Registry, family: dict[str, Artifact]) -> None:
    registry.set_alias("t", family["tokenizer"].digest)
    run = registry.start_run(recipe="r", inputs=[family["other"].digest])
    assert names(family, registry.gc(dry_run=True, grace_seconds=-1)) == {"base", "chat"}
    assert len(registry.artifacts()) == 6  # a dry run does nothing
    assert names(family, registry.gc(grace_seconds=-1, actor="ann")) == {"base", "chat"}
    assert not family["base"].folder.exists()
    entry = registry.audit.entries()[-1]
    assert (entry.action, entry.actor) == ("artifact.gc", "ann")
    assert set(entry.details["digests"]) == {family["base"].digest, family["chat"].digest}
    registry.finish_run(run.run_id, status="succeeded")
    assert names(family, registry.gc(grace_seconds=-1)) == {"other"}
    registry.remove_alias("t")
    assert names(family, registry.gc(grace_seconds=-1)) == {"raw", "clean", "tokenizer"}
    assert list(registry.store.digests()) == []


def test_collection_spares_what_is_recent(registry: Registry, make: Make) -> None:
    artifact = make()
    assert registry.gc() == []
    with registry.database.writing() as session:
        session.get_one(ArtifactRow, artifact.digest).touched_at -= 7200
    assert registry.gc(dry_run=True) == [artifact]
    make()  # made again: in use again
    assert registry.gc() == []


def test_a_cache_hit_counts_as_use(registry: Registry, make: Make) -> None:
    artifact = make()
    run = registry.start_run(recipe="r", key="k")
    registry.finish_run(run.run_id, status="succeeded", output=artifact.digest)
    with registry.database.writing() as session:
        session.get_one(ArtifactRow, artifact.digest).touched_at -= 7200
    assert registry.cached_output("k") == artifact
    assert registry.gc() == []


def test_a_running_run_of_a_dead_process_holds_nothing(settings: Settings) -> None:
    with Registry.open(settings) as registry:
        with registry.create("dataset") as writer:
            pass
        registry.start_run(recipe="r", inputs=[writer.artifact.digest])
        assert registry.gc(grace_seconds=-1) == []
    with Registry.open(settings) as registry:
        assert registry.gc(grace_seconds=-1) == [writer.artifact]
