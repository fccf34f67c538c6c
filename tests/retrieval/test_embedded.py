"""The embedded index: the conformance suite, and what is its own: its file, its threads, its memory."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cairn.core.errors import StorageError
from cairn.retrieval.embedded import EmbeddedIndex, neighbours
from cairn.retrieval.index import Filter

from .conformance import (
    DIMENSIONS,
    EVERYTHING,
    Conformance,
    Opener,
    check_nearest,
    check_words,
    entry,
    vector,
)


@pytest.fixture
def make_opener(tmp_path: Path) -> Callable[[], Opener]:
    numbers = itertools.count()

    def make() -> Opener:
        folder = tmp_path / str(next(numbers))
        return lambda: EmbeddedIndex(folder, DIMENSIONS)

    return make


@pytest.fixture
def opener(make_opener: Callable[[], Opener]) -> Opener:
    return make_opener()


class TestEmbedded(Conformance):
    examples = 30
    steps = 25


class TestEmbeddedWithoutTheNativeModule(Conformance):
    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "native", lambda: None)


def _filled(folder: Path, count: int = 40) -> EmbeddedIndex:
    index = EmbeddedIndex(folder, DIMENSIONS)
    index.apply(count, [entry(n, f"anchor {n}") for n in range(1, count + 1)], [])
    return index


def test_what_was_not_flushed_is_asked_for_again(tmp_path: Path) -> None:
    index = _filled(tmp_path)
    index.flush()
    index.apply(50, [entry(99)], [])
    assert EmbeddedIndex(tmp_path, DIMENSIONS).position == 40


@pytest.mark.parametrize("damage", ["short", "flipped", "header", "empty", "other"])
def test_a_damaged_snapshot_is_none(tmp_path: Path, damage: str) -> None:
    _filled(tmp_path).flush()
    path = tmp_path / "index.cairn"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-4090] ^= 1
    elif damage == "header":
        data[40] ^= 1
    written = {"short": bytes(data[:-4097]), "empty": b"", "other": b"x" * 9000}.get(damage, bytes(data))
    path.write_bytes(written)
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    assert (index.position, index.count()) == (0, 0)
    index.apply(1, [entry(1)], [])
    index.flush()
    assert EmbeddedIndex(tmp_path, DIMENSIONS).count() == 1


def test_every_byte_of_the_snapshot_counts_or_is_padding(tmp_path: Path) -> None:
    """A bit that changes either nothing or is noticed; never a wrong answer."""
    index = _filled(tmp_path)
    index.flush()
    expected = index.search(vector(3), 5, EVERYTHING)
    path = tmp_path / "index.cairn"
    data = path.read_bytes()
    for place in range(0, len(data), 397):
        broken = bytearray(data)
        broken[place] ^= 16
        path.write_bytes(broken)
        again = EmbeddedIndex(tmp_path, DIMENSIONS)
        assert again.position == 0 or again.search(vector(3), 5, EVERYTHING) == expected


def test_the_snapshot_of_another_index_is_not_taken(tmp_path: Path) -> None:
    _filled(tmp_path).flush()
    assert EmbeddedIndex(tmp_path, DIMENSIONS, name="other").position == 0
    assert EmbeddedIndex(tmp_path, DIMENSIONS + 8).position == 0


def test_an_older_state_does_not_replace_a_newer_snapshot(tmp_path: Path) -> None:
    """Two processes with one folder: the one that lags behind takes what the other wrote."""
    behind, ahead = _filled(tmp_path), EmbeddedIndex(tmp_path, DIMENSIONS)
    ahead.apply(60, [entry(5)], [])
    ahead.flush()
    behind.flush()
    assert behind.position == 60
    assert EmbeddedIndex(tmp_path, DIMENSIONS).position == 60


def test_a_full_disk_leaves_the_old_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = _filled(tmp_path)
    index.flush()
    index.apply(41, [], [1])

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", refuse)
        with pytest.raises(StorageError):
            index.flush()
    assert EmbeddedIndex(tmp_path, DIMENSIONS).position == 40
    assert (index.position, index.count()) == (41, 39)
    index.flush()
    assert EmbeddedIndex(tmp_path, DIMENSIONS).count() == 39
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.cairn", "index.lock"]


def test_what_is_gone_gives_back_its_memory(tmp_path: Path) -> None:
    index = _filled(tmp_path)
    index.flush()
    size = (tmp_path / "index.cairn").stat().st_size
    for round_ in range(1, 60):
        index.apply(40 + round_, [entry(n, f"anchor {n}") for n in range(1, 41)], [])
    assert index.num_gone <= 1000 + 2 * 40, "the index gave back by itself"
    index.flush()
    assert index.num_gone == 0
    assert (tmp_path / "index.cairn").stat().st_size == size
    truth = {n: entry(n, f"anchor {n}") for n in range(1, 41)}
    check_nearest(index.search(vector(4), 10, EVERYTHING), truth, vector(4), 10, EVERYTHING)
    check_words(index.search_text("anchor 7", 50, EVERYTHING), truth, "anchor 7", 50, EVERYTHING)


def test_readers_see_all_of_a_change_or_none(tmp_path: Path) -> None:
    """One thread replaces every entry again and again, flushing between; others search all the while."""
    index = EmbeddedIndex(tmp_path, DIMENSIONS)
    labels = [frozenset({f"user:{n}"}) for n in range(2)]
    texts = ["anchor cedar", "dragon cedar"]
    index.apply(1, [replace(entry(n, texts[0]), allowed=labels[0]) for n in range(30)], [])
    done, failures = threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            for side in range(2):
                seen = len(index.search(vector(1), 50, Filter(labels[side])))
                found = index.search_text("cedar", 50, Filter(labels[side]))
                wrong = index.search_text(texts[1 - side].split()[0], 50, Filter(labels[side]))
                if seen not in (0, 30) or len(found) not in (0, 30) or wrong:
                    failures.append(f"{seen} {len(found)} {len(wrong)}")
                    return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for position in range(2, 120):
        side = position % 2
        entries = [replace(entry(n, texts[side]), allowed=labels[side]) for n in range(30)]
        index.apply(position, entries, [])
        if position % 20 == 0:
            index.flush()
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
