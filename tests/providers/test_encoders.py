"""Embedders and classifiers against sentence-transformers, alone and many at a time."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

from cairn.core.errors import ContextLengthError, InvalidRequestError, UnsupportedModelError
from cairn.providers.encoder_loading import open_encoder
from cairn.providers.encoders import LocalClassifier, LocalEmbedder, as_scores, shortened
from tests.engine.native_tiny import needs_native
from tests.models.tiny_encoders import tiny_encoder
from tests.providers.tiny_encoder import classifier_folder, embedder_folder

pytestmark = needs_native
TEXTS = ["the cat sat on the mat", "", "who ran to the blue house?", "the dog. " * 20, "one two three"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedder_folder(tmp_path_factory.mktemp("embedder") / "tiny")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Iterator[LocalEmbedder]:
    opened = open_encoder(folder, weights="float32", num_threads=2)
    assert isinstance(opened, LocalEmbedder)
    yield opened
    opened.close()


def test_vectors_are_those_of_sentence_transformers(embedder: LocalEmbedder, folder: Path) -> None:
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = embedder.embed(TEXTS)
    np.testing.assert_allclose(ours.vectors, theirs, atol=1e-4, rtol=0)
    assert ours.vectors.dtype == np.float32
    assert embedder.dimensions == ours.vectors.shape[1]
    lengths = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
    assert ours.num_tokens == sum(map(len, lengths))


def test_long_texts_are_refused_or_cut(embedder: LocalEmbedder, folder: Path) -> None:
    long = "the cat sat " * 60
    with pytest.raises(ContextLengthError, match="182 tokens, the model reads 80"):
        embedder.embed(["a", long])
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode([long])
    np.testing.assert_allclose(embedder.embed([long], truncate=True).vectors, theirs, atol=1e-4, rtol=0)


def test_token_ids_are_taken_as_they_are(embedder: LocalEmbedder, folder: Path) -> None:
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
    assert embedder.embed(ids).vectors.tobytes() == embedder.embed(TEXTS).vectors.tobytes()
    for wrong, message in ((([],), "no tokens"), (([5, 199],), "token id 199"), (([-1],), "token id -1")):
        with pytest.raises(InvalidRequestError, match=message):
            embedder.embed(list(wrong))
    with pytest.raises(ContextLengthError):
        embedder.embed([[5] * 81])


def test_no_texts(embedder: LocalEmbedder) -> None:
    assert embedder.embed([]).vectors.shape == (0, embedder.dimensions)


async def test_many_callers_at_once_get_their_own_bits(embedder: LocalEmbedder) -> None:
    alone = [embedder.embed([text]).vectors.tobytes() for text in TEXTS]
    requests = [[TEXTS[(n + k) % len(TEXTS)] for k in range(n % 4 + 1)] for n in range(24)]
    found = await asyncio.gather(*map(embedder.embed_async, requests))
    for request, result in zip(requests, found, strict=True):
        rows = [row.tobytes() for row in result.vectors]
        assert rows == [alone[TEXTS.index(text)] for text in request]


def test_a_prompt_comes_before_every_text(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "prompted")
    (tmp_path / "prompted" / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "what is "}, "default_prompt_name": "query"}'
    )
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "prompted"), device="cpu").encode(TEXTS)
    opened = open_encoder(tmp_path / "prompted", weights="float32", num_threads=1)
    assert isinstance(opened, LocalEmbedder)
    np.testing.assert_allclose(opened.embed(TEXTS).vectors, theirs, atol=1e-4, rtol=0)
    opened.close()


def test_a_classifier_scores_texts_as_transformers_does(tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "tiny", "calm", "cross", "neither")
    opened = open_encoder(folder, weights="float32", num_threads=1)
    assert isinstance(opened, LocalClassifier)
    found = opened.classify(TEXTS)
    opened.close()
    assert opened.labels == ("calm", "cross", "neither")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0] for text in TEXTS]
    np.testing.assert_allclose(found.scores, torch.stack(rows).numpy(), atol=1e-4, rtol=0)


async def test_a_cross_encoder_judges_pairs_as_sentence_transformers_does(tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "tiny", "relevant")
    pairs = [("who sat?", text) for text in TEXTS]
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu").predict(pairs)
    opened = open_encoder(folder, weights="float32", num_threads=1)
    assert isinstance(opened, LocalClassifier)
    found = await opened.classify_async(pairs)
    opened.close()
    np.testing.assert_allclose(found.scores[:, 0], theirs, atol=1e-4, rtol=0)


def test_short_vectors_of_nothing_and_of_very_little() -> None:
    vectors = np.array([[0, 0, 1], [1e-30, 0, 1], [3, 4, 12]], np.float32)
    assert shortened(vectors, 2).tolist() == [[0, 0], [1, 0], [np.float32(0.6), np.float32(0.8)]]
    assert shortened(vectors[:0], 2).shape == (0, 2)


def test_scores_of_large_logits() -> None:
    logits = np.array([[1000.0, 0.0, -1000.0]], np.float32)
    assert as_scores(logits, "softmax").tolist() == [[1.0, 0.0, 0.0]]
    assert as_scores(logits, "sigmoid").tolist() == [[1.0, 0.5, 0.0]]
    assert as_scores(logits, "none") is logits


def test_what_is_not_served_is_refused(tmp_path: Path) -> None:
    _, folder = tiny_encoder("bert", "ForTokenClassification")
    with pytest.raises(UnsupportedModelError, match="labels single tokens"):
        open_encoder(folder)


def test_embedding_never_imports_torch(folder: Path) -> None:
    program = (
        "import sys, pathlib; from cairn.providers.encoder_loading import open_encoder;"
        f"e = open_encoder(pathlib.Path({str(folder)!r}), num_threads=1); e.embed(['the cat']); e.close();"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "False"], done.stderr
