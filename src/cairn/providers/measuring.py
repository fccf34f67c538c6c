"""Memory, measured: what a model will take, told from its files, and what there is for all of them."""

import math
from importlib import import_module

from cairn.compute import kv_cache_bytes
from cairn.compute.device import anonymous_memory, available_memory
from cairn.engine import EngineConfig
from cairn.models import DecoderConfig
from cairn.models.generation import read_json
from cairn.models.parameters import parameter_shapes
from cairn.providers.runners import Choice, Format, choose_runner, has_gpu
from cairn.providers.sizes import Size
from cairn.registry import Artifact

_MEMORY_SHARE = 0.8
"""Of the memory there is, the part that models may take unless told; the rest is for the page cache, other
programs, and what a step computes with."""
_LEAST_TOKENS = 2048
"""A cache for fewer tokens (or for less than the context) is not worth loading a model for."""
_WEIGHT_BYTES: dict[Format, float] = {
    "float32": 4,
    "bfloat16": 2,
    "fp8": 1.01,
    "int8": 1.01,
    "int4": 288 / 512,
}
"""Of a matrix; fp8 and int8 have a scale a row, int4 one for 32 weights (native/layout.h)."""


def memory_for_models(limit: int | None = None) -> int:
    """Bytes that all loaded models together may take: a share of what would be free without them.

    `limit` replaces the share, but not the measurement: memory that is not there cannot be given.
    """
    if has_gpu():
        cuda = import_module("torch").cuda
        free = int(cuda.mem_get_info()[0]) + int(cuda.memory_reserved())
    else:
        free = available_memory() + anonymous_memory()
    return int(free * _MEMORY_SHARE) if limit is None else min(limit, free)


def size_of_model(artifact: Artifact, config: EngineConfig, draft: Artifact | None = None) -> Size:
    """What an artifact, with the draft model beside it, takes as the engine would load it here."""
    parts = [_part(each, config) for each in (artifact, draft) if each is not None]
    weights = sum(num_bytes for num_bytes, _, _ in parts)
    if config.kv_cache_bytes is not None:
        return Size(weights, config.kv_cache_bytes, config.kv_cache_bytes, config.kv_cache_bytes)
    decoder = parts[0][1]
    context = min(decoder.max_position, config.max_model_len or decoder.max_position)

    def cache(num_tokens: int) -> int:
        rounded = -(-num_tokens // config.block_size) * config.block_size
        return sum(kv_cache_bytes(each.shape(), rounded, dtype) for _, each, dtype in parts)

    full = cache(context)
    return Size(weights, cache(min(context, _LEAST_TOKENS)), full, config.max_num_seqs * full)


def _part(artifact: Artifact, config: EngineConfig) -> tuple[int, DecoderConfig, str]:
    """Bytes of a network's weights, the network, and the number format of its cache."""
    choice = choose_runner(artifact, config.weights)
    decoder = DecoderConfig.from_hf(read_json(artifact.folder / "config.json"))
    return _weight_bytes(decoder, choice), decoder, "float32" if choice.weights == "float32" else "bfloat16"


def _weight_bytes(decoder: DecoderConfig, choice: Choice) -> int:
    shapes = parameter_shapes(decoder)
    matrices = sum(math.prod(shape) for shape in shapes.values() if len(shape) > 1)
    vectors = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 1)
    if choice.runner == "torch" and choice.device == "cpu":
        matrices += decoder.vocab_size * decoder.hidden_size  # TorchRunner lays the head out apart
    return int(matrices * _WEIGHT_BYTES[choice.weights]) + 4 * vectors
