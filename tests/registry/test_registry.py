"""The facade: making, finding, listing, adopting and removing artifacts."""

from pathlib import Path

import pytest

from cairn.core import (
    ConfigError,
    ConflictError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    Settings,
    StorageError,
)
from cairn.registry import Registry
from tests.registry.conftest import Make


def test_create_and_get(registry: Registry) -> None:
    with registry.create("model", metadata={"params": 3, "shape": (1, 2)}) as writer:
        (writer.folder / "weights").mkdir()
        (writer.folder / "weights" / "a.bin").write_bytes(b"\0" * 100)
        (writer.folder / "config.json").write_text("{}")
    found = registry.get(writer.artifact.digest)
    assert found == writer.artifact
    assert [entry.path for entry in found.files] == ["config.json", "weights/a.bin"]
    assert found.size == 102
    assert found.metadata == {"params": 3, "shape": [1, 2]}
    assert (found.folder / "config.json").read_text() == "{}"
    assert registry.artifacts() == [found]


def test_equal_content_is_one_artifact(registry: Registry, make: Make) -> None:
    first, second = make("same"), make("same")
    assert first == second  # the time of the first making included
    assert len(registry.artifacts()) == 1
    assert make("same", kind="other").digest != first.digest
    assert make("same", parents=[first.digest]).digest != first.digest


def test_an_error_in_the_block_leaves_nothing(registry: Registry) -> None:
    def fail_half_way() -> None:
        with registry.create("model") as writer:
            (writer.folder / "a").write_text("a")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert registry.artifacts() == []
    assert list(registry.store.digests()) == []
    assert list((registry.store.root / "tmp").iterdir()) == []


def test_parents_must_be_here(registry: Registry) -> None:
    with (
        pytest.raises(NotFoundError, match="parent sha256:00"),
        registry.create("m", parents=["sha256:" + "0" * 64]),
    ):
        pass
    assert list(registry.store.digests()) == []


def test_metadata_and_parents_may_be_set_in_the_block(registry: Registry, make: Make) -> None:
    parent = make()
    with registry.create("report") as writer:
        writer.metadata["score"] = 0.5
        writer.parents.append(parent.digest)
    assert writer.artifact.metadata == {"score": 0.5}
    assert writer.artifact.parents == (parent.digest,)


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": object()}])
def test_metadata_must_be_json(registry: Registry, metadata: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="metadata"), registry.create("m", metadata=metadata):
        pass


@pytest.mark.parametrize("kind", ["", "Model", "../x", "a" * 65])
def test_kind_is_checked_before_the_work(registry: Registry, kind: str) -> None:
    with pytest.raises(InvalidRequestError, match="kind"), registry.create(kind):
        raise AssertionError("the block must not run")


def test_get_by_prefix_and_name(registry: Registry, make: Make) -> None:
    artifact = make()
    registry.set_alias("assistant", artifact.digest)
    registry.set_alias("assistant", artifact.digest, alias="production")
    hex_digits = artifact.digest.removeprefix("sha256:")
    for ref in (hex_digits, hex_digits[:8], f"sha256:{hex_digits[:12]}", "assistant", "assistant:production"):
        assert registry.get(ref) == artifact


def test_unknown_refs_name_near_misses(registry: Registry, make: Make) -> None:
    artifact = make()
    with pytest.raises(NotFoundError, match="no artifact has a name yet"):
        registry.get("assistant")
    registry.set_alias("assistant", artifact.digest)
    with pytest.raises(NotFoundError, match="did you mean assistant:latest"):
        registry.get("asistant")
    with pytest.raises(NotFoundError, match="did you mean assistant:latest"):
        registry.get("assistant:production")
    near = artifact.digest[7:11] + "00000000"
    with pytest.raises(NotFoundError, match=artifact.digest[7:19]):
        registry.get(near)
    with pytest.raises(InvalidRequestError, match="not a digest"):
        registry.get("sha256:xyz")


def test_ambiguous_prefix(registry: Registry, make: Make) -> None:
    from cairn.registry.tables import ArtifactRow

    artifact = make()
    twin = artifact.digest[:-1] + ("0" if artifact.digest[-1] != "0" else "1")
    with registry.database.session() as session:
        session.add(
            ArtifactRow(digest=twin, kind="x", size=0, manifest="", run_id=None, created_at=0, touched_at=0)
        )
        session.commit()
    with pytest.raises(InvalidRequestError, match="several digests"):
        registry.get(artifact.digest[:30])


def test_artifacts_by_kind_newest_first(registry: Registry, make: Make) -> None:
    made = [make(str(i), kind="model" if i % 2 else "dataset") for i in range(4)]
    assert registry.artifacts() == made[::-1]
    assert registry.artifacts("model") == [made[3], made[1]]
    assert registry.artifacts("nothing") == []


def test_run_id_is_kept(registry: Registry) -> None:
    with registry.create("m", run_id="run_1") as writer:
        pass
    assert registry.get(writer.artifact.digest).run_id == "run_1"


def test_add_folder_copies_and_resolves_links(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (tmp_path / "blob").write_text("blob")
    (source / "deep" / "link").symlink_to(tmp_path / "blob")
    (source / "plain").write_text("plain")
    artifact = registry.add_folder(source, "model")
    assert [entry.path for entry in artifact.files] == ["deep/link", "plain"]
    assert not (artifact.folder / "deep" / "link").is_symlink()
    (source / "plain").write_text("changed")  # ours is another file
    registry.verify(artifact.digest)


def test_add_folder_links_when_asked(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_text("big")
    artifact = registry.add_folder(source, "model", link=True)
    assert (source / "big").samefile(artifact.folder / "big")
    assert artifact == registry.add_folder(source, "model")


def test_add_folder_refuses_links_to_folders(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "loop").symlink_to(source)
    with pytest.raises(InvalidRequestError, match="link to a folder"):
        registry.add_folder(source, "model")
    with pytest.raises(NotFoundError, match="no such folder"):
        registry.add_folder(tmp_path / "nowhere", "model")


def test_a_folder_the_catalogue_lost_is_adopted(registry: Registry, make: Make) -> None:
    from cairn.registry import catalogue

    parent = make("parent")
    artifact = make("child", parents=[parent.digest])
    with registry.database.session() as session:
        catalogue.forget(session, [artifact.digest])
        session.commit()
    assert registry.unregistered() == [artifact.digest]
    adopted = registry.adopt(artifact.digest)
    assert (adopted.digest, adopted.parents) == (artifact.digest, (parent.digest,))
    assert registry.unregistered() == []
    assert registry.lineage(parent.digest).edges == [(parent.digest, artifact.digest)]


def test_a_damaged_folder_is_not_adopted(registry: Registry, make: Make) -> None:
    from cairn.registry import catalogue

    artifact = make("child")
    with registry.database.session() as session:
        catalogue.forget(session, [artifact.digest])
        session.commit()
    (artifact.folder / "text.txt").chmod(0o644)
    (artifact.folder / "text.txt").write_text("dlihc")
    with pytest.raises(IntegrityError, match="hashes to"):
        registry.adopt(artifact.digest)


def test_remove_refuses_what_is_needed(registry: Registry, make: Make) -> None:
    parent = make("parent")
    child = make("child", parents=[parent.digest])
    registry.set_alias("a", child.digest)
    run = registry.start_run(recipe="r", inputs=[child.digest])
    with pytest.raises(ConflictError, match="its child"):
        registry.remove(parent.digest)
    with pytest.raises(ConflictError, match=rf"the name a:latest, the running {run.run_id}"):
        registry.remove(child.digest)
    registry.remove_alias("a")
    registry.finish_run(run.run_id, status="failed")
    assert registry.remove(child.digest) == child
    assert registry.artifacts() == [parent]
    assert list(registry.store.digests()) == [parent.digest]
    with pytest.raises(NotFoundError):
        registry.get(child.digest)
    assert registry.audit.entries()[-1].action == "artifact.remove"


def test_missing_folder_is_told(registry: Registry, make: Make) -> None:
    artifact = make()
    registry.store.discard([artifact.digest])
    with pytest.raises(NotFoundError, match="not on disk"):
        registry.get(artifact.digest)


def test_object_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://"):
        Registry.open(Settings(home=tmp_path, artifacts="s3://bucket"))


def test_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make"):
        Registry.open(Settings(home=tmp_path / "file" / "home"))
