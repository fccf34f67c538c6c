"""Which runner computes a model, in what format, from which artifact."""

from pathlib import Path

import pytest

from cairn.core import StorageError
from cairn.providers import runners
from cairn.providers.runners import make_runner
from cairn.registry import Registry
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_model import tiny_artifact

pytestmark = needs_native


def test_a_large_model_is_packed_once_for_each_format(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_PACKED_FROM_BYTES", 0)
    artifact = tiny_artifact(registry)
    for weights in ("int4", "int8", "int4", "float32"):
        runner, said = make_runner(registry, artifact, weights)
        assert said["name"] == "native"
        assert said["dtype"] == weights
        assert runner.vocab_size > 0
    packed = registry.artifacts("packed")
    assert sorted(each.metadata["weights"] for each in packed) == ["int4", "int8"]
    assert all(each.parents == (artifact.digest,) for each in packed)


def test_a_small_model_is_not_packed(registry: Registry) -> None:
    make_runner(registry, tiny_artifact(registry), "int4")
    assert not registry.artifacts("packed")


def test_without_room_for_the_packed_weights_it_serves_all_the_same(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, weights: str, target: Path, progress: object) -> None:
        raise StorageError("the disk is full", remedy="free some space")

    monkeypatch.setattr(runners, "_PACKED_FROM_BYTES", 0)
    monkeypatch.setattr(runners, "pack_checkpoint", full)
    _, said = make_runner(registry, tiny_artifact(registry), "int8")
    assert said["dtype"] == "int8"
    assert not registry.artifacts("packed")
