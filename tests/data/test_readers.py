"""Every format and compression, invalid UTF-8, damaged and cut files."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import ConfigError, IntegrityError, NotFoundError
from cairn.data import Document, ReadConfig, ReadReport, read_documents
from cairn.data.compressed import decompress
from cairn.data.readers import _pieces

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".lz4": lz4.frame.compress,
}
ROWS = [{"text": "one, “two”\nthree", "n": 1}, {"text": "four é", "n": 2}]


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


CONTENTS: dict[str, bytes] = {
    "a.txt": "one, “two”\nthree".encode(),
    "a.md": "# Title\n\ntext é".encode(),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode() + b"\n\n",
    "a.csv": 'n,text\n1,"one, “two”\nthree"\n2,four é\n'.encode("utf-8-sig"),
    "a.tsv": "n\ttext\n1\tx y\n2\tfour é\n".encode(),
    "a.parquet": parquet(),
}


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", CONTENTS)
def test_formats_and_compressions(tmp_path: Path, name: str, compression: str) -> None:
    path = tmp_path / (name + compression)
    path.write_bytes(COMPRESS[compression](CONTENTS[name]))
    report = ReadReport()
    documents = list(read_documents(path, report=report))
    expected = {"a.txt": ["one, “two”\nthree"], "a.md": ["# Title\n\ntext é"], "a.tsv": ["x y", "four é"]}
    assert [document.text for document in documents] == expected.get(name, [row["text"] for row in ROWS])
    assert report.num_documents == len(documents)
    assert report.num_bytes == sum(len(document.text.encode()) for document in documents)
    if name.endswith((".jsonl", ".parquet")):
        assert documents[1].metadata == {"n": 2}
        assert str(documents[1].source) == f"{path} row 2"
    if name == "a.txt":
        assert documents[0].source.span == (0, len(CONTENTS[name]))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip"])
def test_archives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all{suffix}"
    members = {**CONTENTS, "b.jsonl.gz": gzip.compress(CONTENTS["a.jsonl"]), "skip.png": b"\x89PNG"}
    plain = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(plain, "w") as archive:
            for name, data in members.items():
                archive.writestr(f"x/{name}", data)
    else:
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(f"x/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    packed = {".tar": "", ".zip": "", ".tgz": ".gz"}.get(suffix, suffix.removeprefix(".tar"))
    path.write_bytes(COMPRESS[packed](plain.getvalue()))
    documents = list(read_documents(path))
    assert len(documents) == 12
    assert {Path(document.source.path).name for document in documents} == {*CONTENTS, "b.jsonl.gz"}


def test_folders_are_walked_in_order(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/1.txt", "c.md", "ignored.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    report = ReadReport()
    assert [document.text for document in read_documents(tmp_path, report=report)] == [
        "a/1.txt",
        "b/2.txt",
        "c.md",
    ]
    assert report.num_ignored_files == 1
    assert report.num_files == 3


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("policy", ["replace", "drop"])
def test_invalid_utf8(tmp_path: Path, name: str, policy: str) -> None:
    content = {
        "a.txt": b"caf\xe9 <|end|>fine \xc3\xa9",
        "a.jsonl": b'{"text": "caf\xe9 "}\n{"text": "fine \xc3\xa9"}\n',
        "a.csv": b"text\ncaf\xe9 \nfine \xc3\xa9\n",
    }[name]
    (tmp_path / name).write_bytes(content)
    report = ReadReport()
    config = ReadConfig.model_validate({"invalid_utf8": policy, "separator": "<|end|>"})
    texts = [document.text for document in read_documents(tmp_path / name, config, report)]
    assert texts == (["caf\ufffd ", "fine é"] if policy == "replace" else ["fine é"])
    assert (report.num_invalid_utf8, report.num_dropped) == (1, int(policy == "drop"))


def test_lone_surrogates_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud800y"}\n{"text": "\\ud83d\\ude42"}\n')
    texts = [document.text for document in read_documents(tmp_path / "a.jsonl")]
    assert texts == ["x\ufffdy", "🙂"]


@pytest.mark.parametrize("compression", [name for name in COMPRESS if name])
def test_a_cut_file_is_named(tmp_path: Path, compression: str) -> None:
    rows = b"".join(json.dumps({"text": f"row {i} {hash(i)}"}).encode() + b"\n" for i in range(50_000))
    packed = COMPRESS[compression](rows)
    path = tmp_path / f"a.jsonl{compression}"
    path.write_bytes(packed[: len(packed) // 2])
    report = ReadReport()
    with pytest.raises(
        IntegrityError, match=r"a\.jsonl\.\w+ is damaged or cut short.*documents were read before"
    ):
        list(read_documents(path, ReadConfig(bad_rows="skip"), report))
    # bzip2's blocks are larger than what is left of the file.
    assert report.num_documents > 100 or compression == ".bz2"


@pytest.mark.parametrize("compression", [name for name in COMPRESS if name])
def test_garbage_is_named(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.txt{compression}"
    path.write_bytes(b"this is not compressed at all, but says it is")
    with pytest.raises(IntegrityError, match="damaged or cut short"):
        list(read_documents(path))


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet"])
def test_damaged_containers_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1" + b"garbage" * 100)
    with pytest.raises(IntegrityError, match="damaged or cut short"):
        list(read_documents(tmp_path / name))


def test_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "ok"}\n{"txt": "no"}\nnot json\n[1]\n{"text": null}\n{"text": "ok too"}\n')
    report = ReadReport()
    documents = read_documents(path, ReadConfig(bad_rows="skip"), report)
    assert [document.text for document in documents] == ["ok", "ok too"]
    assert report.num_bad_rows == 4
    with pytest.raises(ConfigError, match=r"row 2 has no text in 'text'; it has: txt"):
        list(read_documents(path))


def test_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file or folder"):
        list(read_documents(tmp_path / "none.txt"))
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ConfigError, match="of no kind that is read here"):
        list(read_documents(tmp_path / "a.doc"))


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8),
    limit=st.integers(8, 60),
    separator=st.sampled_from(["", "\n\n", "<|end|>"]),
)
def test_pieces_are_the_whole(texts: list[str], limit: int, separator: str) -> None:
    data = separator.join(texts).encode()
    pieces = list(_pieces(io.BytesIO(data), separator.encode(), limit))
    assert sum(length for _, length in pieces) in (len(data), len(data) + len(separator))
    assert all(len(piece) <= limit for piece, _ in pieces)
    joined = b"".join(piece for piece, _ in pieces)
    assert joined == (data.replace(separator.encode(), b"") if separator else data)
    assert all(piece.decode() is not None for piece, _ in pieces)


def test_spans_point_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    data = "\n\n".join(f"Paragraph {i} é." * 20 for i in range(100)).encode()
    path.write_bytes(data)
    documents: list[Document] = list(read_documents(path, ReadConfig(max_document_bytes=2000)))
    assert len(documents) > 10
    for document in documents:
        assert document.source.span is not None
        assert data[slice(*document.source.span)].decode() == document.text
    assert "".join(document.text for document in documents).encode() == data


def test_several_frames(tmp_path: Path) -> None:
    packed = zstandard.ZstdCompressor().compress(b"one ") + zstandard.ZstdCompressor().compress(b"two")
    assert decompress(io.BytesIO(packed), ".zst").read() == b"one two"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert next(iter(read_documents(tmp_path / "a.txt.gz"))).text == "one two"
