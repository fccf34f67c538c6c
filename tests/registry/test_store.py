"""The store on its own: layout, what is refused, what a read notices."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core import IntegrityError, InvalidRequestError, NotFoundError, StorageError
from cairn.registry import durable
from cairn.registry.locks import hold, locked, take_over
from cairn.registry.manifest import (
    FileEntry,
    Manifest,
    is_safe_path,
    make_manifest,
    parse_manifest,
)
from cairn.registry.store import ArtifactStore


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    opened = ArtifactStore(tmp_path / "artifacts")
    opened.open()
    return opened


def add(store: ArtifactStore, **files: str) -> str:
    with store.stage() as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        return store.land(folder, make_manifest("dataset", (), {}, store.seal(folder)))


def reopened(store: ArtifactStore) -> ArtifactStore:
    """As another process sees it: nothing was read yet."""
    return ArtifactStore(store.root)


def overwrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_layout_and_modes(store: ArtifactStore) -> None:
    digest = add(store, a="a")
    hex_digits = digest.removeprefix("sha256:")
    folder = store.root / hex_digits[:2] / hex_digits
    assert store.folder(digest) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["a", "manifest.json"]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
    assert list(store.digests()) == [digest]


def test_digest_depends_on_content_alone() -> None:
    entries = [FileEntry("b", 1, "0" * 64), FileEntry("a", 1, "1" * 64)]
    one = make_manifest("m", (), {"x": 1, "y": 2}, entries)
    two = make_manifest("m", (), {"y": 2, "x": 1}, entries[::-1])
    assert one.digest == two.digest
    assert parse_manifest(one.to_bytes(), one.digest) == one


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing", "link"])
def test_a_small_damaged_file_is_noticed_on_first_read(store: ArtifactStore, damage: str) -> None:
    digest = add(store, a="abc", b="xyz")
    path = store.folder(digest) / "a"
    if damage == "changed":
        overwrite(path, "abd")
    elif damage == "shorter":
        overwrite(path, "ab")
    else:
        path.unlink()
        if damage == "link":
            path.symlink_to(store.folder(digest) / "b")
    with pytest.raises(IntegrityError, match=": a"):
        reopened(store).read(digest)
    with pytest.raises(IntegrityError, match=": a"):
        store.verify(digest)


def test_a_big_damaged_file_is_noticed_by_verify(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add(store, a="abc", big="x" * 100)
    overwrite(store.folder(digest) / "big", "y" * 100)
    monkeypatch.setattr("cairn.registry.store._FIRST_READ_BYTES", 50)
    reopened(store).read(digest)
    with pytest.raises(IntegrityError, match="big hashes to"):
        store.verify(digest)


def test_a_damaged_manifest_is_noticed(store: ArtifactStore) -> None:
    digest = add(store, a="abc")
    manifest = store.folder(digest) / "manifest.json"
    overwrite(manifest, manifest.read_text().replace("dataset", "datasex"))
    with pytest.raises(IntegrityError, match="hashes to"):
        store.read(digest)


def test_a_file_that_was_slipped_in_is_noticed(store: ArtifactStore) -> None:
    digest = add(store, a="abc")
    (store.folder(digest) / "extra").write_text("x")
    with pytest.raises(IntegrityError, match="extra"):
        store.verify(digest)
    (store.folder(digest) / "extra").unlink()
    store.verify(digest)
    (store.folder(digest) / "link").symlink_to("/")
    with pytest.raises(IntegrityError, match="link"):
        store.verify(digest)


def test_equal_content_replaces_a_damaged_copy(store: ArtifactStore) -> None:
    digest = add(store, a="abc")
    overwrite(store.folder(digest) / "a", "abd")
    assert add(reopened(store), a="abc") == digest
    store.verify(digest)


def test_links_and_devices_are_refused(store: ArtifactStore) -> None:
    for make in (lambda path: path.symlink_to("/etc/passwd"), os.mkfifo):
        with store.stage() as folder:
            make(folder / "odd")
            with pytest.raises(InvalidRequestError, match="odd is"):
                store.seal(folder)
    with store.stage() as folder:
        (folder / "manifest.json").write_text("{}")
        with pytest.raises(InvalidRequestError, match="not allowed"):
            store.seal(folder)


def test_unreadable_modes_are_mended(store: ArtifactStore) -> None:
    with store.stage() as folder:
        (folder / "a").write_text("a")
        (folder / "a").chmod(0o200)
        [entry] = store.seal(folder)
        assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o444
    assert entry.size == 1


def test_unknown_digest(store: ArtifactStore) -> None:
    with pytest.raises(NotFoundError, match="not on disk"):
        store.read("sha256:" + "0" * 64)


def test_only_orphans_are_swept(store: ArtifactStore) -> None:
    staging = store.root / "tmp"
    (staging / "dead").mkdir()
    (staging / "dead" / "half").write_text("half")
    (staging / "dead.lock").write_text("")
    (staging / "nobody").mkdir()
    with store.stage() as alive:
        store.open()
        assert {path.name for path in staging.iterdir()} == {alive.name, f"{alive.name}.lock"}
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "a\0b", "a\nb", "manifest.json", "x" * 1025],
)
def test_unsafe_paths(path: str) -> None:
    assert not is_safe_path(path)
    with pytest.raises(IntegrityError, match="not one that this Cairn writes"):
        forged(files=[{"path": path, "size": 0, "sha256": "0" * 64}])


@given(st.text(max_size=40))
def test_a_safe_path_stays_inside(path: str) -> None:
    if is_safe_path(path):
        resolved = Path(os.path.normpath(Path("/base") / path))
        assert resolved.is_relative_to("/base")
        assert resolved != Path("/base")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "../x"},
        {"parents": ["abc"]},
        {"metadata": []},
        {"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": True, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "size": 1, "sha256": "0"}]},
        {"files": [{"path": "a", "size": 1, "sha256": "0" * 64, "more": 1}]},
        {"files": [{"path": name, "size": 1, "sha256": "0" * 64} for name in ("b", "a")]},
        {"files": [{"path": name, "size": 1, "sha256": "0" * 64} for name in ("a", "a")]},
        {"files": [{"path": name, "size": 1, "sha256": "0" * 64} for name in ("a", "a/b")]},
        {"more": 1},
    ],
)
def test_forged_manifests_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match="not one that this Cairn writes"):
        forged(**change)


def forged(**change: object) -> Manifest:
    from cairn.core import canonical_json, digest_bytes

    good: dict[str, object] = {"format": 1, "kind": "model", "parents": [], "metadata": {}, "files": []}
    data = canonical_json(good | change)
    return parse_manifest(data, digest_bytes(data))


def test_storage_errors_carry_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory") as caught, durable.storage_errors("trying"):
        (tmp_path / "file" / "below").write_text("")
    assert "healthy disk" in caught.value.remedy


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert take_over(path) is None
    held = hold(path)
    assert take_over(path) is None
    held.release(keep_file=True)
    taken = take_over(path)
    assert taken is not None
    assert take_over(path) is None
    taken.release()
    taken.release()
    assert not path.exists()


def test_shared_locks_go_together(tmp_path: Path) -> None:
    with locked(tmp_path / "l", shared=True), locked(tmp_path / "l", shared=True):
        assert take_over(tmp_path / "l") is None
