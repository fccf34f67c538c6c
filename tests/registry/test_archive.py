"""Archives: carried whole, or refused whole."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cairn.core import IntegrityError, NotFoundError, Settings, StorageError
from cairn.registry import Artifact, Registry
from tests.registry.conftest import Make

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings(home=tmp_path / "other")) as opened:
        yield opened


@pytest.fixture
def child(make: Make) -> Artifact:
    return make("child", kind="model", parents=[make("parent").digest])


def assert_empty(registry: Registry) -> None:
    assert registry.artifacts() == []
    assert list(registry.store.digests()) == []
    assert list((registry.store.root / "tmp").iterdir()) == []


def test_there_and_back(registry: Registry, other: Registry, child: Artifact, tmp_path: Path) -> None:
    registry.export(child.digest, tmp_path / "a.tar", parents=True)
    arrived = other.import_archive(tmp_path / "a.tar", actor="ann")
    assert (arrived.digest, arrived.files, arrived.parents) == (child.digest, child.files, child.parents)
    for artifact in other.artifacts():
        other.verify(artifact.digest)
    assert len(other.lineage(child.digest).nodes) == 2
    assert [entry.action for entry in other.audit.entries()] == ["artifact.import"] * 2
    assert other.import_archive(tmp_path / "a.tar") == arrived  # again: nothing new
    other.export(child.digest, tmp_path / "b.tar", parents=True)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_without_parents_they_are_told_missing(
    registry: Registry, other: Registry, child: Artifact, tmp_path: Path
) -> None:
    registry.export(child.digest, tmp_path / "a.tar")
    other.import_archive(tmp_path / "a.tar")
    found = other.lineage(child.digest)
    assert (len(found.nodes), found.missing) == (1, child.parents)
    assert found.edges == [(child.parents[0], child.digest)]
    other.set_alias("m", child.digest)
    assert other.gc(grace_seconds=-1) == []


def test_a_damaged_artifact_is_not_exported(registry: Registry, child: Artifact, tmp_path: Path) -> None:
    (child.folder / "text.txt").chmod(0o644)
    (child.folder / "text.txt").write_text("dlihc")
    with pytest.raises(IntegrityError, match="hashes to"):
        registry.export(child.digest, tmp_path / "a.tar")
    assert list(tmp_path.glob("*.tar*")) == []
    with pytest.raises(NotFoundError):
        registry.export("nothing", tmp_path / "a.tar")


def test_a_target_that_cannot_be_written(registry: Registry, child: Artifact, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        registry.export(child.digest, tmp_path / "nowhere" / "a.tar")


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def write(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def rename(name: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[2][0].name = name

    return change


def retype(kind: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[2][0].type = kind
        members[2][0].linkname = "/etc/passwd"

    return change


def flip(members: Members) -> None:
    members[2] = (members[2][0], b"dlihc")


def grow(members: Members) -> None:
    members[2] = (members[2][0], b"child!")


def forge_manifest(members: Members) -> None:
    manifest = json.loads(members[1][1])
    manifest["files"][0]["path"] = "../../evil"
    members[1] = (members[1][0], json.dumps(manifest).encode())


def index(**changes: object) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[0] = (members[0][0], json.dumps(json.loads(members[0][1]) | changes).encode())

    return change


CHANGES = {
    "path up": rename("../evil"),
    "absolute": rename("/tmp/evil"),
    "other file": rename("x" * 64 + "/text.txt"),
    "symbolic link": retype(tarfile.SYMTYPE),
    "hard link": retype(tarfile.LNKTYPE),
    "device": retype(tarfile.CHRTYPE),
    "flipped": flip,
    "grown": grow,
    "file missing": lambda members: members.pop(2),
    "manifest missing": lambda members: members.pop(1),
    "index missing": lambda members: members.pop(0),
    "one more": lambda members: members.append((tarfile.TarInfo("extra"), b"x")),
    "forged manifest": forge_manifest,
    "newer format": index(format=2),
    "no artifacts": index(artifacts=[]),
    "no digest": index(artifacts=["../../x"]),
    "twice": lambda members: index(artifacts=json.loads(members[0][1])["artifacts"] * 2)(members),
    "index is a list": lambda members: members.__setitem__(0, (members[0][0], b"[]")),
    "index is no JSON": lambda members: members.__setitem__(0, (members[0][0], b"{")),
    "nothing": lambda members: members.clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_tampered_archive_is_refused(
    sqlite_settings: Settings, tmp_path: Path, change: Callable[[Members], None]
) -> None:
    with Registry.open(sqlite_settings) as registry:
        with registry.create("model") as writer:
            (writer.folder / "text.txt").write_text("child")
        registry.export(writer.artifact.digest, tmp_path / "a.tar")
        registry.remove(writer.artifact.digest)
        members = members_of(tmp_path / "a.tar")
        change(members)
        write(tmp_path / "b.tar", members)
        with pytest.raises(IntegrityError):
            registry.import_archive(tmp_path / "b.tar")
        assert_empty(registry)
    assert not (tmp_path / "evil").exists()


def test_what_is_no_archive(other: Registry, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(IntegrityError, match="not a whole tar file"):
        other.import_archive(tmp_path / "text")
    with pytest.raises(NotFoundError, match="no such file"):
        other.import_archive(tmp_path / "nothing")
    with pytest.raises(StorageError, match="directory"):
        other.import_archive(tmp_path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("archive")
    with Registry.open(Settings(home=folder)) as registry:
        with registry.create("model") as writer:
            (writer.folder / "text.txt").write_text("child" * 300)
        registry.export(writer.artifact.digest, folder / "a.tar")
    return (folder / "a.tar").read_bytes()


@hypothesis_settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_cut_or_flipped_archive_never_lands_wrong(
    other: Registry, tmp_path: Path, archive: bytes, data: st.DataObject
) -> None:
    """Whatever a broken transfer does, the import either fails or brings in exactly what was exported."""
    if data.draw(st.booleans()):
        broken = archive[: data.draw(st.integers(0, len(archive) - 1))]
    else:
        at = data.draw(st.integers(0, len(archive) - 1))
        broken = archive[:at] + bytes([archive[at] ^ data.draw(st.integers(1, 255))]) + archive[at + 1 :]
    (tmp_path / "broken.tar").write_bytes(broken)
    try:
        arrived = other.import_archive(tmp_path / "broken.tar")
    except IntegrityError:
        assert_empty(other)
        return
    other.verify(arrived.digest)
    assert (arrived.folder / "text.txt").read_text() == "child" * 300
    other.remove(arrived.digest)
