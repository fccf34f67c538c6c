"""Encoders as artifacts: what they are, whether they can be served, and how one gets into memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from cairn.core.errors import InvalidRequestError, UnsupportedModelError
from cairn.core.progress import Progress
from cairn.data import Tokenizer, check_fits
from cairn.data.text_encoder import TextEncoder
from cairn.engine.config import Weights
from cairn.engine.encoder_weights import pack_encoder
from cairn.engine.native_encoder import NativeEncoder
from cairn.engine.weight_reader import WeightFormat
from cairn.models.encoder_config import EncoderConfig
from cairn.models.encoder_reader import read_encoder_config
from cairn.models.encoder_tensors import map_encoder, plan_encoder
from cairn.providers.encoders import LocalClassifier, LocalEmbedder
from cairn.providers.residency import Loadable
from cairn.providers.runners import packed_folder
from cairn.providers.sizes import Size
from cairn.registry import Artifact, Registry

ModelTask = Literal["text", "embedding", "classification"]
AnyEncoder = LocalEmbedder | LocalClassifier
_KINDS: dict[str, type[AnyEncoder]] = {"embedding": LocalEmbedder, "classification": LocalClassifier}
_WEIGHT_BYTES: dict[WeightFormat, int] = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 1}


def task_of(artifact: Artifact) -> ModelTask:
    """What a model does: an encoder's artifact says it, all others write text."""
    return cast("ModelTask", artifact.metadata.get("task", "text"))


def check_encoder(folder: Path) -> dict[str, Any]:
    """What an encoder's checkpoint is, for the catalogue; an error when it cannot be served."""
    config = read_encoder_config(folder)
    _kind_of(config)
    plan_encoder(config, map_encoder(config, folder), folder)
    tokenizer = Tokenizer.load(folder)
    check_fits(tokenizer, config.vocab_size)
    TextEncoder(tokenizer, config.max_tokens)
    return {
        "task": config.head.task,
        "family": config.family,
        "num_params": config.num_params,
        "max_position": config.max_tokens,
        "vocab_size": config.vocab_size,
        "dimensions": config.out_width,
    }


def encoder_weights(weights: Weights) -> WeightFormat:
    """How an encoder's weights are kept: bfloat16 unless told; int4 would move its vectors too far.

    fp8 is a GPU's, and encoders are computed on the CPU.
    """
    if weights == "auto":
        return "bfloat16"
    return "int8" if weights == "fp8" or weights == "int4" else weights


def open_encoder(
    folder: Path,
    *,
    weights: WeightFormat = "bfloat16",
    packed: Path | None = None,
    num_threads: int | None = None,
    name: str = "",
    artifact_digest: str = "",
    max_waiting: int = 256,
) -> AnyEncoder:
    """The embedder or classifier in a checkpoint folder, as its config says; `close` ends it."""
    kind = _kind_of(read_encoder_config(folder))
    encoder = NativeEncoder(folder, weights=weights, packed=packed, num_threads=num_threads)
    tokenizer = Tokenizer.load(folder)
    return kind(encoder, tokenizer, name=name, artifact_digest=artifact_digest, max_waiting=max_waiting)


def _kind_of(config: EncoderConfig) -> type[AnyEncoder]:
    if config.head.task in _KINDS:
        return _KINDS[config.head.task]
    raise UnsupportedModelError(
        "this encoder labels single tokens, which is not served",
        remedy="choose one that embeds or classifies whole texts",
    )


def load_encoder(
    registry: Registry,
    ref: str,
    *,
    name: str | None = None,
    weights: Weights = "auto",
    num_threads: int | None = None,
    max_waiting: int = 256,
    progress: Progress | None = None,
) -> AnyEncoder:
    """Load the encoder that `ref` names; `close` ends it."""
    artifact = registry.get(ref)
    if task_of(artifact) not in _KINDS:
        raise InvalidRequestError(
            f"{ref!r} writes text, it is no encoder", remedy="choose an encoder", param="model"
        )
    kept = encoder_weights(weights)
    packed = packed_folder(registry, artifact, kept, pack_encoder, progress)
    return open_encoder(
        artifact.folder,
        weights=kept,
        packed=packed,
        num_threads=num_threads,
        name=name or ref,
        artifact_digest=artifact.digest,
        max_waiting=max_waiting,
    )


def loadable_encoder(
    registry: Registry, artifact: Artifact, *, name: str, weights: Weights, max_waiting: int
) -> Loadable[AnyEncoder]:
    """An encoder for a `Residency`."""

    def load(_cache_bytes: int, progress: Progress) -> AnyEncoder:
        return load_encoder(
            registry, artifact.digest, name=name, weights=weights, max_waiting=max_waiting, progress=progress
        )

    num_params = int(artifact.metadata["num_params"])
    return Loadable(name, lambda: Size(num_params * _WEIGHT_BYTES[encoder_weights(weights)]), load)


def modules_of(folder: Path) -> Sequence[Path]:
    """The folders within a checkpoint that sentence-transformers keeps modules in."""
    return [path.parent for path in sorted(folder.glob("[0-9]*_*/config.json"))]
