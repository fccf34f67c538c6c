"""How many collections a library keeps open."""

from pathlib import Path

import pytest

from cairn.core.chat import Principal
from cairn.providers import knowledge
from cairn.providers.importing import import_checkpoint
from cairn.providers.knowledge import Library
from cairn.registry import Registry
from cairn.retrieval import CollectionConfig, create_collection
from cairn.retrieval.search import SearchOptions, find
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder

pytestmark = needs_native


def test_the_longest_unused_collections_are_closed_when_many_are_open(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_checkpoint(registry, embedder_folder(tmp_path / "embedder"))
    monkeypatch.setattr(knowledge, "MOST_OPEN", 2)
    for name in "abcd":
        create_collection(registry, name, owner="ann", config=CollectionConfig(embedder="embedder"))
    with Library(registry, weights="float32") as library:
        opened = [library.collection(name) for name in "abc"]
        assert library.collection("a") is opened[0]  # all were asked for a moment ago: none is closed
        monkeypatch.setattr(knowledge, "IDLE_SECONDS", -1.0)
        library.collection("d")
        assert library.collection("a") is opened[0]
        again = library.collection("b")
        assert again is not opened[1]
        assert find(again, "anything", Principal("ann"), SearchOptions()) == []
