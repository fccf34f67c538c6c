"""The table of data sets, and fetching: from a mirror, over HTTP, broken off, changed, unsafe."""

import gzip
import hashlib
import http.server
import io
import lzma
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cairn.core import ConfigError, IntegrityError, NotFoundError, Settings, Silent
from cairn.core.digests import digest_bytes
from cairn.core.errors import UnavailableError
from cairn.data import dataset_table, find_dataset, get_dataset, local_dataset, verify_dataset
from cairn.data import datasets as datasets_module
from cairn.data.datasets import SETS, DatasetSpec, file_digests
from cairn.data.fetch import content_digest

FILES = {"a/one.txt": b"one\n", "two.txt": b"two\n" * 1000, "a/same.txt": b"one\n"}


def manifest(files: Mapping[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))


def archive(files: Mapping[str, bytes], compression: str, top: str = "small") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo(f"{top}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return (lzma.compress if compression == "xz" else gzip.compress)(out.getvalue())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """A data set `small` of three files, in the table in place of all others."""
    packed = archive(FILES, "xz")
    sets = tmp_path / "sets"
    sets.mkdir()
    (sets / "small.sha256").write_text(manifest(FILES))
    spec = DatasetSpec(
        name="small",
        repository="someone/something",
        commit="0" * 40,
        licence="CC0",
        holds="three files",
        use=("tests",),
        weights="yes",
        held_out="",
        archive_bytes=len(packed),
        archive=digest_bytes(packed),
        content=digest_bytes(manifest(FILES).encode()),
    )
    monkeypatch.setattr(datasets_module, "SETS", sets)
    monkeypatch.setattr(datasets_module, "dataset_table", lambda: {"small": spec})
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "small.tar.xz").write_bytes(packed)
    return spec


@pytest.fixture
def mirrored(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"mirror": tmp_path / "mirror"})


def test_the_table_is_whole() -> None:
    table = dataset_table()
    assert len(table) == 45
    assert sum(spec.is_evaluation_only for spec in table.values()) > 10
    for name, spec in table.items():
        assert len(spec.commit) == 40, name
        assert spec.licence, name
        assert all(len(digest) in (0, 71) for digest in (spec.archive, spec.content)), name
        files = file_digests(spec)
        assert files or name == "dcss-tiles"
        assert spec.source.startswith("https://github.com/")


def test_near_misses_are_named() -> None:
    with pytest.raises(NotFoundError) as caught:
        find_dataset("childrens-book")
    assert "did you mean children-books" in caught.value.remedy
    with pytest.raises(NotFoundError) as caught:
        find_dataset("zzzz")
    assert caught.value.remedy == "see `cairn data ls`"


def test_the_tutorial_needs_no_network(settings: Settings) -> None:
    local = get_dataset("tutorial", settings)
    verify_dataset(local)
    assert (local.folder / "alice.md").is_file()


def test_from_a_mirror(small: DatasetSpec, mirrored: Settings) -> None:
    assert local_dataset("small", mirrored) is None
    local = get_dataset("small", mirrored)
    assert local.folder == mirrored.home / "datasets" / f"small-{small.content[7:19]}"
    found = {path.relative_to(local.folder).as_posix() for path in local.folder.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert content_digest(local.folder) == small.content
    verify_dataset(local)
    assert get_dataset("small", mirrored.model_copy(update={"mirror": None})) == local  # no network is asked
    (local.folder / "two.txt").write_text("changed")
    with pytest.raises(IntegrityError, match="is not what it was"):
        verify_dataset(local)


def test_a_mirror_without_it(small: DatasetSpec, mirrored: Settings) -> None:
    assert mirrored.mirror is not None
    (mirrored.mirror / "small.tar.xz").unlink()
    with pytest.raises(NotFoundError, match=r"the mirror has no small\.tar\.xz"):
        get_dataset("small", mirrored)


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_archive(small: DatasetSpec, mirrored: Settings, damage: str) -> None:
    assert mirrored.mirror is not None
    path = mirrored.mirror / "small.tar.xz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    changed = {"cut": path.read_bytes()[:-40], "flip": bytes(data), "other": archive({"x": b"y"}, "xz")}
    path.write_bytes(changed[damage])
    with pytest.raises(IntegrityError, match="is not the archive it should be: its digest differs"):
        get_dataset("small", mirrored)
    assert not list(mirrored.home.rglob("*.txt"))


@pytest.mark.parametrize(
    ("content", "message"), [("cut", "cannot be unpacked"), ("other", "holds other files")]
)
def test_a_table_that_is_wrong(
    small: DatasetSpec, mirrored: Settings, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    assert mirrored.mirror is not None
    data = archive(FILES, "xz")[:-60] if content == "cut" else archive({"x.txt": b"y"}, "xz")
    (mirrored.mirror / "small.tar.xz").write_bytes(data)
    wrong = small.model_copy(update={"archive": digest_bytes(data)})
    monkeypatch.setattr(datasets_module, "dataset_table", lambda: {"small": wrong})
    with pytest.raises(IntegrityError, match=message):
        get_dataset("small", mirrored)
    assert list((mirrored.home / "datasets").iterdir()) == []


class Upstream:
    """A server that hands out one tarball, can break off, and can or cannot go on from the middle."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.break_after: int | None = None
        self.can_resume = True
        self.ranges: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path != f"/someone/something/tar.gz/{'0' * 40}":
            handler.send_error(404)
            return
        asked = handler.headers.get("Range", "")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.can_resume else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.data) - start))
        handler.end_headers()
        handler.wfile.write(self.data[start : self.break_after])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    # Upstream the files lie elsewhere, beside others that are not wanted.
    files = {f"deep/{name}": data for name, data in FILES.items()} | {"README": b"not wanted"}
    served = Upstream(archive(files, "gz", top="something-000"))
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


def test_from_its_repository(small: DatasetSpec, settings: Settings, upstream: Upstream) -> None:
    local = get_dataset("small", settings, base_url=upstream.url, progress=Silent())
    assert {
        path.relative_to(local.folder).as_posix() for path in local.folder.rglob("*") if path.is_file()
    } == set(FILES)
    assert content_digest(local.folder) == small.content
    assert list((settings.home / "datasets" / ".downloads").iterdir()) == []


@pytest.mark.parametrize("can_resume", [True, False])
def test_a_download_that_broke_off(
    small: DatasetSpec, settings: Settings, upstream: Upstream, can_resume: bool
) -> None:
    upstream.break_after, upstream.can_resume = 100, can_resume
    with pytest.raises(UnavailableError, match="broke off after 100 of"):
        get_dataset("small", settings, base_url=upstream.url)
    assert local_dataset("small", settings) is None
    upstream.break_after = None
    assert content_digest(get_dataset("small", settings, base_url=upstream.url).folder) == small.content
    assert upstream.ranges == ["", "bytes=100-"]


def test_a_source_that_changed(small: DatasetSpec, settings: Settings, upstream: Upstream) -> None:
    upstream.data = archive({"deep/two.txt": FILES["two.txt"], "a/one.txt": b"other"}, "gz")
    with pytest.raises(IntegrityError, match=r"no longer has these bytes: a/one\.txt, a/same\.txt"):
        get_dataset("small", settings, base_url=upstream.url)
    upstream.data = gzip.compress(b"no tar")
    with pytest.raises(IntegrityError, match="the download is damaged"):
        get_dataset("small", settings, base_url=upstream.url)
    assert list((settings.home / "datasets").glob("small*")) == []


def test_no_network(small: DatasetSpec, settings: Settings, upstream: Upstream) -> None:
    with pytest.raises(UnavailableError, match="answered 404"):
        get_dataset("small", settings, base_url=f"{upstream.url}/nowhere")
    with pytest.raises(UnavailableError, match="cannot download") as caught:
        get_dataset("small", settings, base_url="http://127.0.0.1:9")
    assert "CAIRN_MIRROR" in caught.value.remedy


def test_a_set_without_a_list_of_files(small: DatasetSpec, settings: Settings) -> None:
    (datasets_module.SETS / "small.sha256").unlink()
    with pytest.raises(ConfigError, match="from a mirror only"):
        get_dataset("small", settings)


def test_a_changed_list_of_files(small: DatasetSpec, settings: Settings) -> None:
    (datasets_module.SETS / "small.sha256").write_text("0  x\n")
    with pytest.raises(IntegrityError, match="is not what the table says"):
        get_dataset("small", settings)


def test_names_that_lead_out_are_refused(
    small: DatasetSpec, mirrored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mirrored.mirror is not None
    data = archive({"../../out.txt": b"x"}, "xz")
    (mirrored.mirror / "small.tar.xz").write_bytes(data)
    wrong = small.model_copy(update={"archive": digest_bytes(data)})
    monkeypatch.setattr(datasets_module, "dataset_table", lambda: {"small": wrong})
    with pytest.raises(IntegrityError):
        get_dataset("small", mirrored)
    assert not list(mirrored.home.rglob("out.txt"))


def test_lists_are_sorted_and_safe() -> None:
    for path in SETS.glob("*.sha256"):
        names = [line.split("  ", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()]
        assert names == sorted(names)
        assert not any(name.startswith("/") or ".." in Path(name).parts for name in names)
