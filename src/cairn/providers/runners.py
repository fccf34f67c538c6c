"""Who computes a model here: the native engine on a CPU, torch on a GPU and for what the native one lacks.

The weights' format is part of what made an answer, so a receipt records it and a replay asks for it again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from cairn import __version__
from cairn.compute import probe_device
from cairn.core.digests import short
from cairn.core.errors import MissingExtraError, StorageError, UnsupportedModelError
from cairn.core.progress import Progress
from cairn.engine import ModelRunner
from cairn.engine.config import Weights
from cairn.engine.native_runner import NativeRunner, can_run
from cairn.engine.native_weights import pack_checkpoint
from cairn.engine.packed_weights import LAYOUT
from cairn.engine.weight_reader import WeightFormat
from cairn.models import DecoderConfig
from cairn.models.generation import read_json
from cairn.registry import Artifact, Registry
from cairn.registry.locks import hold

_PACKED_FROM_BYTES = 64_000_000
"""Smaller checkpoints are packed at every start: they would only clutter the lineage."""
_FLOAT32_BYTES = 2_000_000_000
"""Checkpoints up to this size are computed in float32 on a CPU unless their weights are bfloat16 already."""


Format = Literal["float32", "bfloat16", "fp8", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The runner of a model, and the format of its weights there."""

    runner: Literal["native", "torch"]
    device: Literal["cpu", "cuda"]
    weights: Format


def choose_runner(artifact: Artifact, weights: Weights = "auto") -> Choice:
    """The best there is here for a model; `UnsupportedModelError` for a format that needs another runner."""
    values = read_json(artifact.folder / "config.json")
    if weights != "int8" and has_gpu():
        return Choice("torch", "cuda", "bfloat16" if weights == "auto" else weights)
    if weights == "fp8":
        raise UnsupportedModelError(
            "weights in fp8 need a GPU that torch can use, and there is none here",
            remedy="`cairn doctor` says what torch sees; or choose int8",
        )
    if can_run(DecoderConfig.from_hf(values)):
        stored = values.get("dtype") or values.get("torch_dtype")
        return Choice("native", "cpu", _small(artifact, stored) if weights == "auto" else weights)
    if weights in ("int8", "int4"):
        raise UnsupportedModelError(
            f"weights in {weights} need the native engine, which does not run here",
            remedy="`cairn doctor` says why; or leave weights at auto",
        )
    return Choice("torch", "cpu", _small(artifact) if weights == "auto" else weights)


def make_runner(
    registry: Registry, artifact: Artifact, weights: Weights = "auto", progress: Progress | None = None
) -> tuple[ModelRunner, Mapping[str, Any]]:
    """The network on the best device there is, and what a receipt says about it."""
    choice = choose_runner(artifact, weights)
    if choice.runner == "torch":
        return _torch_runner(artifact, choice)
    assert choice.weights != "fp8", "the native engine has no fp8"
    return _native_runner(registry, artifact, choice.weights, progress)


@cache
def has_gpu() -> bool:
    """Whether torch is here and has a GPU to use; torch is only loaded where the machine has one."""
    if find_spec("torch") is None or not probe_device().gpus:
        return False
    return bool(import_module("torch").cuda.is_available())


def _small(artifact: Artifact, stored: Any = None) -> WeightFormat:
    """float32 for what fits in it well; bfloat16 where nothing is lost by it, or much memory saved."""
    is_small = sum(entry.size for entry in artifact.files) <= _FLOAT32_BYTES
    return "float32" if is_small and stored != "bfloat16" else "bfloat16"


def _native_runner(
    registry: Registry, artifact: Artifact, weights: WeightFormat, progress: Progress | None
) -> tuple[ModelRunner, Mapping[str, Any]]:
    packed = packed_folder(registry, artifact, weights, pack_checkpoint, progress)
    runner = NativeRunner(artifact.folder, weights=weights, packed=packed)
    versions = {"cairn": __version__}
    description = {"name": "native", "dtype": weights, "cache": runner.cache, "device": "cpu"}
    return runner, {**description, "kernels": runner.kernels, "versions": versions}


def packed_folder(
    registry: Registry,
    artifact: Artifact,
    weights: WeightFormat,
    pack: Callable[[Path, WeightFormat, Path, Progress | None], None],
    progress: Progress | None,
) -> Path | None:
    """The artifact's matrices as the native core reads them, an artifact of their own; made the first time.

    None for what packs in no time, for float32, which would only take as much disk again, and on a full disk.
    """
    if artifact.size < _PACKED_FROM_BYTES or weights == "float32":
        return None
    wanted = {"weights": weights, "layout": LAYOUT}
    if found := _find_packed(registry, artifact, wanted):
        return found
    # Of several processes that start at once, one packs and the others wait for it.
    lock = hold(registry.settings.home / f"packing-{short(artifact.digest)}.lock")
    try:
        if found := _find_packed(registry, artifact, wanted):
            return found
        with registry.create("packed", parents=[artifact.digest], metadata=wanted) as writer:
            pack(artifact.folder, weights, writer.folder, progress)
    except StorageError:
        return None
    finally:
        lock.release()
    return writer.artifact.folder


def _find_packed(registry: Registry, artifact: Artifact, wanted: Mapping[str, Any]) -> Path | None:
    for found in registry.artifacts("packed"):
        if found.parents == (artifact.digest,) and found.metadata == wanted:
            return registry.get(found.digest).folder
    return None


def _torch_runner(artifact: Artifact, choice: Choice) -> tuple[ModelRunner, Mapping[str, Any]]:
    if find_spec("torch") is None:
        raise MissingExtraError("serving this model without the native engine", "train")
    torch = import_module("torch")
    is_rounded = choice.weights in ("fp8", "int4")
    values = read_json(artifact.folder / "config.json")
    # What is rounded is rounded from the numbers of the checkpoint, bfloat16 or wider.
    stored = "bfloat16" if (values.get("dtype") or values.get("torch_dtype")) == "bfloat16" else "float32"
    model = import_module("cairn.models").load_decoder(
        artifact.folder,
        dtype=getattr(torch, stored if is_rounded else choice.weights),
        device=choice.device,
    )
    kind = import_module("cairn.engine").TorchRunner
    if is_rounded:
        runner = kind(model, dtype=torch.bfloat16, weights=choice.weights, tiled=True)
    else:
        runner = kind(model)
    versions = {"cairn": __version__, "torch": str(torch.__version__)}
    dtype = choice.weights if is_rounded else runner.dtype
    return runner, {"name": "torch", "dtype": dtype, "device": choice.device, "versions": versions}
