"""Writing and opening shards: round trips, damage, a full disk."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cairn.core import ConflictError, IntegrityError, InvalidRequestError, NotFoundError, StorageError
from cairn.data import PackedDataset, write_shards
from cairn.data import shards as shards_module
from cairn.data.shards import Example


def documents(count: int, *, vocab_size: int = 500, seed: int = 0, masked: bool = False) -> list[Example]:
    """Random documents of 1 to 60 tokens, three bytes to a token."""
    rng = np.random.default_rng(seed)
    made: list[Example] = []
    for length in rng.integers(1, 60, size=count).tolist():
        mask = rng.random(length) < 0.5 if masked else None
        made.append((rng.integers(0, vocab_size, size=length), mask, 3 * length))
    return made


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(500, "<u2"), (65536, "<u2"), (65537, "<u4"), (None, "<u4")]
)
def test_round_trip(tmp_path: Path, masked: bool, vocab_size: int | None, dtype: str) -> None:
    made = documents(200, vocab_size=vocab_size or 200_000, masked=masked)
    index = write_shards(iter(made), tmp_path / "out", vocab_size=vocab_size, shard_tokens=1000)
    dataset = PackedDataset.open(tmp_path / "out")
    assert index.dtype == dtype
    assert index == dataset.index
    assert dataset.num_documents == 200
    assert dataset.num_tokens == sum(len(ids) for ids, _, _ in made)
    assert dataset.num_bytes == 3 * dataset.num_tokens
    for place, (ids, mask, _) in enumerate(made):
        stored, stored_mask = dataset.document(place)
        assert stored.tolist() == list(ids)
        assert stored_mask.all() if mask is None else stored_mask.tolist() == list(mask)


def test_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_BUFFER_TOKENS", 100)
    made = documents(300)
    index = write_shards(made, tmp_path / "out", vocab_size=500, shard_tokens=1000)
    assert len(index.shard_tokens) > 5
    dataset = PackedDataset.open(tmp_path / "out")
    assert all(dataset.document(i)[0].tolist() == list(made[i][0]) for i in range(300))


def test_empty_documents_are_left_out(tmp_path: Path) -> None:
    write_shards([([], None, 0), ([1, 2], None, 2), ([], None, 5)], tmp_path / "out")
    assert PackedDataset.open(tmp_path / "out").num_documents == 1
    write_shards([], tmp_path / "none")
    with pytest.raises(IntegrityError, match="holds no tokens"):
        PackedDataset.open(tmp_path / "none")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="token ids run from 3 to 500, allowed: 0 to 499"):
        write_shards([([3, 500], None, 1)], tmp_path / "a", vocab_size=500)
    with pytest.raises(InvalidRequestError, match="not as long as its document"):
        write_shards([([3, 4], [True], 1)], tmp_path / "a")
    with pytest.raises(InvalidRequestError, match="give all or none"):
        write_shards([([3], None, 1), ([3], [True], 1)], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    write_shards([([3], None, 1)], tmp_path / "a")
    with pytest.raises(ConflictError, match="exists already"):
        write_shards([([3], None, 1)], tmp_path / "a")


@pytest.mark.parametrize("name", ["00000.tokens", "00000.mask", "documents", "bytes"])
def test_a_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    write_shards(documents(50, masked=True), tmp_path / "out", vocab_size=500)
    path = tmp_path / "out" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"{name} is corrupt.*\n.*pack the data again"):
        PackedDataset.open(tmp_path / "out")


def test_missing_and_cut_files_are_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no packed data in .*index\.json is missing"):
        PackedDataset.open(tmp_path)
    folder = tmp_path / "out"
    write_shards(documents(50), folder, vocab_size=500)
    path = folder / "00000.tokens"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(IntegrityError, match=rf"has {size - 2} bytes, should have {size}"):
        PackedDataset.open(folder, verify=False)
    path.unlink()
    with pytest.raises(IntegrityError, match=r"00000\.tokens is missing"):
        PackedDataset.open(folder)
    for content in ('{"format": ', "5", '"x"', "[]", '{"files": [5]}', "[" * 100_000):
        (folder / "index.json").write_text(content)
        with pytest.raises(IntegrityError, match=r"index\.json is damaged"):
            PackedDataset.open(folder)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_BUFFER_TOKENS", 100)
    written = 0
    write = shards_module._HashedFile.write

    def full(
        self: shards_module._HashedFile, values: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]
    ) -> None:
        nonlocal written
        written += values.nbytes
        if written > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, values)

    monkeypatch.setattr(shards_module._HashedFile, "write", full)
    with pytest.raises(StorageError, match="No space left on device; nothing was kept"):
        write_shards(documents(200), tmp_path / "out", vocab_size=500)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from cairn.core import StorageError
from cairn.data import write_shards
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_shards((([1] * 100, None, 1) for _ in range(1000)), Path(sys.argv[1]))
except StorageError as error:
    print(error.message)
"""


def test_a_real_limit_on_files_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large; nothing was kept" in done.stdout
    assert list(tmp_path.iterdir()) == []
