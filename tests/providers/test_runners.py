"""Which runner computes a model, in what format, from which artifact."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cairn.core import StorageError, UnsupportedModelError
from cairn.core.progress import Silent, Task
from cairn.engine.config import Weights
from cairn.providers import runners
from cairn.providers.runners import Choice, choose_runner, make_runner
from cairn.providers.watched import Watched
from cairn.registry import Registry
from tests.conftest import PATIENCE
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


def test_two_processes_pack_at_once(registry: Registry) -> None:
    artifact = tiny_artifact(registry)
    code = (
        "import sys\nfrom cairn.providers import runners\nfrom cairn.registry import Registry\n"
        "runners._PACKED_FROM_BYTES = 0\nsys.stdin.readline()\n"
        "with Registry.open() as registry:\n"
        f"    runners.make_runner(registry, registry.get({artifact.digest!r}), 'int8')\n"
    )
    env = {**os.environ, "CAIRN_HOME": str(registry.settings.home)}
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=env) for _ in range(3)]
    for process in started:
        process.communicate("go\n", timeout=PATIENCE)
    assert [process.returncode for process in started] == [0, 0, 0]
    (packed,) = registry.artifacts("packed")
    registry.verify(packed.digest)
    assert not list(registry.settings.home.glob("packing-*"))


def test_packing_says_how_far_it_is(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_PACKED_FROM_BYTES", 0)
    said: list[str] = []

    class Listening(Watched):
        @contextmanager
        def task(self, label: str, total: float | None = None) -> Iterator[Task]:
            with super().task(label, total) as task:
                yield task
                said.append(self.text)

    make_runner(registry, tiny_artifact(registry), "int4", Listening(Silent()))
    assert said == ["packing the weights as int4: 100%, 0 s left"]


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


def test_fp8_without_a_gpu_is_refused(registry: Registry) -> None:
    with pytest.raises(UnsupportedModelError, match="fp8 need a GPU"):
        make_runner(registry, tiny_artifact(registry), "fp8")


@pytest.mark.parametrize("weights", ["auto", "float32", "bfloat16", "fp8", "int4"])
def test_with_a_gpu_torch_is_chosen(
    weights: Weights, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "has_gpu", lambda: True)
    artifact = tiny_artifact(registry)
    choice = choose_runner(artifact, weights)
    assert (choice.runner, choice.device) == ("torch", "cuda")
    assert choice.weights == ("bfloat16" if weights == "auto" else weights)
    assert choose_runner(artifact, "int8").runner == "native"


@pytest.mark.parametrize("weights", ["fp8", "int4"])
def test_rounded_weights_on_torch_are_told_in_the_receipt(weights: Weights, registry: Registry) -> None:
    """The same code that a GPU's runner is made with, on the CPU."""
    assert weights in ("fp8", "int4")
    runner, said = runners._torch_runner(tiny_artifact(registry), Choice("torch", "cpu", weights))
    assert (said["name"], said["dtype"], said["device"]) == ("torch", weights, "cpu")
    assert runner.vocab_size > 0
