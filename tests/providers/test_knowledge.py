"""A collection with an encoder that is really computed: what is cut for it, it can read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cairn.core.chat import Principal
from cairn.data.parsing import parse_bytes
from cairn.providers.encoder_loading import open_encoder
from cairn.providers.encoders import LocalEmbedder
from cairn.providers.knowledge import collection_encoders
from cairn.registry import Registry
from cairn.retrieval import (
    Collection,
    CollectionRetriever,
    IndexFolder,
    NewDocument,
    create_collection,
)
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder

pytestmark = needs_native


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEmbedder]:
    folder = embedder_folder(tmp_path_factory.mktemp("embedder") / "tiny")
    opened = open_encoder(folder, weights="float32", num_threads=1, artifact_digest="sha256:tiny")
    assert isinstance(opened, LocalEmbedder)
    yield opened
    opened.close()


def test_tokens_are_counted_as_they_are_read(embedder: LocalEmbedder) -> None:
    texts = ["the cat sat on the mat", "", "zebra " * 9]
    assert sum(embedder.count_tokens(texts)) == embedder.embed(texts).num_tokens
    assert embedder.count_tokens(["the " * 500]) == [502]


async def test_what_is_cut_for_it_it_can_read(
    registry: Registry, tmp_path: Path, embedder: LocalEmbedder
) -> None:
    create_collection(registry, "notes", owner="ann")
    models = collection_encoders(embedder)
    with Collection.open(registry, "notes", models, IndexFolder(tmp_path / "indexes")) as collection:
        for number in range(3):
            text = f"# Cats {number}\n\n" + "the cat sat on the mat. " * 40 + "\n\n" + "zebra" * 200
            data = text.encode()
            parsed = parse_bytes(data, "a.md")
            collection.put(NewDocument(source=f"{number}.md", original=data, parsed=parsed))
        chunks = collection.chunk(parsed)
        assert len(chunks) > 3
        assert max(chunk.num_tokens for chunk in chunks) <= embedder.max_tokens
        hits = await CollectionRetriever(collection).retrieve("what cat?", Principal("ann"), limit=5)
        assert len(hits) == 5
        assert await CollectionRetriever(collection).retrieve("what cat?", Principal("bob")) == []
