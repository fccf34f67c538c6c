"""From the key-values of a GGUF file to a config.json, and back.

Architectures llama, qwen2, qwen3, gemma, gemma2 and gemma3, and the mixtures of experts qwen2moe,
qwen3moe and llama with experts (Mixtral). What llama.cpp fixes in its code rather than in the file (which
layers of Gemma see only a window, how its scores are scaled) is fixed here in the same way; a model that
departs from it is not written. Llama 3's rope scaling is not among the keys but a tensor of factors, from
which its numbers are found again. Source: llama.cpp's src/models/*.cpp and convert_hf_to_gguf.py.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cairn.core import UnsupportedModelError
from cairn.models.config import DecoderConfig
from cairn.models.gguf import GgufFile
from cairn.models.gguf_names import EMBEDDING, HEAD, ROPE_FREQS
from cairn.models.hf_values import FULL, SLIDING
from cairn.models.rope_frequencies import frequencies_of
from cairn.models.specs import RopeSpec

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
"""llama.cpp's architecture to ours."""
MIXTRAL = "mixtral"
"""What an architecture llama with experts is."""
SUMS_TO_ONE = {MIXTRAL: True, "qwen2_moe": False, "qwen3_moe": True}
"""Whether the weights of a token's experts are made to sum to one, which llama.cpp fixes by architecture."""
PATTERNS = {"gemma2": 2, "gemma3": 6}
"""Every n-th layer sees all; the others a window."""
LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""The sizes of Gemma whose scores are scaled by hidden size per head, not by the head's."""
_LLAMA3_CONTEXT = 8192
_LARGEST = 1e38
"""Single precision holds up to this."""


class GgufValues:
    """The key-values of one architecture, checked by type."""

    def __init__(self, path: Path, metadata: Mapping[str, Any], architecture: str) -> None:
        self._path, self._metadata, self._prefix = path, metadata, architecture + "."

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; where there is one for each layer, all must be equal."""
        value = self.get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if type(value) is not int:
            raise self.wrong(key, value, "a whole number, the same for every layer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise self.wrong(key, value, "a number")
        # The file has it in single precision: 1e-6, not 9.99999997e-07.
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a text")
        return value

    def __contains__(self, key: str) -> bool:
        return self._prefix + key in self._metadata

    def get(self, key: str, default: Any = None) -> Any:
        return self._metadata.get(self._prefix + key, default)

    def wrong(self, key: str, value: Any, allowed: str) -> UnsupportedModelError:
        got = "missing" if value is None else repr(value)
        return UnsupportedModelError(
            f"{self._path}: {self._prefix}{key} is {got}, allowed: {allowed}",
            remedy="convert the model again with a current llama.cpp",
        )


def read_config(file: GgufFile) -> DecoderConfig:
    """What network a file holds; `UnsupportedModelError` for one that Cairn does not run."""
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in FAMILIES:
        raise UnsupportedModelError(
            f"{file.path} holds a model of the architecture {architecture!r}, which is not read from GGUF",
            remedy=f"allowed: {', '.join(FAMILIES)}; others by their Hugging Face checkpoint",
        )
    values = GgufValues(file.path, file.metadata, architecture)
    if EMBEDDING not in file.tensors:
        raise UnsupportedModelError(
            f"{file.path} holds no {EMBEDDING}", remedy="take a file of a whole text model"
        )
    hidden, heads = values.integer("embedding_length"), values.integer("attention.head_count")
    head_dim = values.integer("attention.key_length", hidden // max(heads, 1))
    is_mixture = "expert_count" in values
    for key in ("attention.value_length", "rope.dimension_count"):
        if values.integer(key, head_dim) != head_dim:
            raise values.wrong(key, values.get(key), f"{head_dim}, as the keys' length")
    shared = {
        "model_type": FAMILIES[architecture],
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "hidden_size": hidden,
        "intermediate_size": values.integer("feed_forward_length", 0 if is_mixture else None),
        "num_hidden_layers": values.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": values.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": values.integer("context_length"),
        "rms_norm_eps": values.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": HEAD not in file.tensors,
        "rope_parameters": _read_rope(values, file, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        "use_sliding_window": False,
        "bos_token_id": file.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.metadata.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": file.metadata.get("tokenizer.ggml.padding_token_id"),
    }
    shared |= _read_gemma(values, architecture, shared)
    return DecoderConfig.from_hf(shared | _read_experts(values, file, architecture))


def _read_experts(values: GgufValues, file: GgufFile, architecture: str) -> dict[str, Any]:
    """The keys of mixtures of experts alone."""
    count = values.integer("expert_count", 0)
    family = MIXTRAL if architecture == "llama" and count else FAMILIES[architecture]
    if family not in SUMS_TO_ONE:
        if count:
            raise values.wrong("expert_count", count, f"0 for {architecture}; experts by the checkpoint")
        return {}
    # All of them, so that no small file can claim thousands of layers of thousands of experts.
    layers = range(values.integer("block_count"))
    experts = (file.tensors.get(f"blk.{index}.ffn_down_exps.weight") for index in layers)
    if any(tensor is None or tensor.shape[0] != count for tensor in experts):
        raise values.wrong("expert_count", count, "as many as the ffn_down_exps of every layer holds")
    if values.number("expert_weights_scale", 0.0) not in (0.0, 1.0):
        raise values.wrong("expert_weights_scale", values.get("expert_weights_scale"), "1")
    used = values.integer("expert_used_count")
    whole = values.integer("feed_forward_length", 0)
    width = (
        whole if family == MIXTRAL else values.integer("expert_feed_forward_length", whole // max(used, 1))
    )
    return {
        "model_type": family,
        "num_local_experts": count,
        "num_experts": count,
        "num_experts_per_tok": used,
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": (
            values.integer("expert_shared_feed_forward_length", whole) if family == "qwen2_moe" else 0
        ),
        "norm_topk_prob": SUMS_TO_ONE[family],
        "qkv_bias": "blk.0.attn_q.bias" in file.tensors,
    }


def _read_gemma(values: GgufValues, architecture: str, shared: dict[str, Any]) -> dict[str, Any]:
    """The keys of Gemma 2 and 3 alone."""
    if architecture not in PATTERNS:
        return {}
    num_layers, window = shared["num_hidden_layers"], values.integer("attention.sliding_window", 0)
    window = window or (4096 if architecture == "gemma2" else 0)
    is_local = _is_local(values, architecture, num_layers) if window else [False] * num_layers
    is_27b = num_layers == LAYERS_OF_27B[architecture]
    full = shared["rope_parameters"]
    local = {"rope_type": "default", "rope_theta": values.number("rope.freq_base_swa", 10_000.0)}
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    is_second = architecture == "gemma2"
    return {
        "query_pre_attn_scalar": (
            shared["hidden_size"] // max(shared["num_attention_heads"], 1) if is_27b else shared["head_dim"]
        ),
        "sliding_window": window or shared["max_position_embeddings"],
        "layer_types": [SLIDING if local else FULL for local in is_local],
        "rope_parameters": full if is_second else {FULL: full, SLIDING: local},
        "attn_logit_softcapping": (
            values.number("attn_logit_softcapping", caps["attn_logit_softcapping"]) if is_second else None
        ),
        "final_logit_softcapping": (
            values.number("final_logit_softcapping", 30.0 if is_second else 0.0) or None
        ),
    }


def _is_local(values: GgufValues, architecture: str, num_layers: int) -> list[bool]:
    """Which layers see a window, by llama.cpp's rule or the file's own list."""
    pattern = values.get("attention.sliding_window_pattern", PATTERNS[architecture])
    if isinstance(pattern, np.ndarray) and len(pattern) >= num_layers:
        return [bool(each) for each in pattern[:num_layers]]
    if type(pattern) is not int or pattern < 0:
        raise values.wrong("attention.sliding_window_pattern", pattern, "a whole number, or one flag a layer")
    return [pattern == 0 or index % pattern < pattern - 1 for index in range(num_layers)]


def _read_rope(values: GgufValues, file: GgufFile, head_dim: int) -> dict[str, Any]:
    """`rope_parameters` of the layers that see all."""
    theta = values.number("rope.freq_base", 10_000.0)
    if theta <= 1:
        raise values.wrong("rope.freq_base", theta, "a number above 1")
    factor = values.number("rope.scaling.factor", values.number("rope.scale_linear", 1.0)) or 1.0
    kind = values.text("rope.scaling.type", "linear" if factor != 1.0 else "none")
    original = values.integer("rope.scaling.original_context_length", 0)
    if kind not in ("none", "linear", "yarn"):
        raise values.wrong("rope.scaling.type", kind, "none, linear or yarn")
    for key in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor"):
        if values.number(f"rope.scaling.{key}", 1.0) != 1.0:
            raise values.wrong(f"rope.scaling.{key}", values.get(f"rope.scaling.{key}"), "1")
    if ROPE_FREQS in file.tensors:
        factors = file.tensors[ROPE_FREQS].read().reshape(-1)
        return _llama3(values, factors, RopeSpec(theta=theta, rotary_dim=head_dim), original)
    if kind == "none" or factor == 1.0:
        return {"rope_type": "default", "rope_theta": theta}
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    return {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": factor,
        "original_max_position_embeddings": original or values.integer("context_length"),
        "beta_fast": values.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": values.number("rope.scaling.yarn_beta_slow", 1.0),
    }


def _llama3(
    values: GgufValues, factors: NDArray[np.float32], plain: RopeSpec, original: int
) -> dict[str, Any]:
    """Llama 3's numbers, of which the file has only what each frequency is divided by."""
    if len(factors) != plain.rotary_dim // 2 or not np.isfinite(factors).all() or (factors < 1).any():
        raise values.wrong(ROPE_FREQS, factors[:8], f"{plain.rotary_dim // 2} factors of 1 or more")
    if (factors == 1).all():
        return {"rope_type": "default", "rope_theta": plain.theta}
    highest = float(factors.max())
    for context in _contexts(factors, frequencies_of(plain), original):
        spec = RopeSpec(
            theta=plain.theta,
            rotary_dim=plain.rotary_dim,
            scaling="llama3",
            factor=float(str(np.float32(highest))),
            original_max_position=context,
        )
        if np.allclose(rope_factors(spec), factors, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "rope_theta": plain.theta,
                "factor": spec.factor,
                "low_freq_factor": spec.low_freq_factor,
                "high_freq_factor": spec.high_freq_factor,
                "original_max_position_embeddings": context,
            }
    raise values.wrong(ROPE_FREQS, factors[:8], "the factors of Llama 3's rope scaling")


def _contexts(factors: NDArray[np.float32], frequencies: NDArray[np.float32], original: int) -> list[int]:
    """Context lengths that Llama 3 may have had before stretching: stated, usual, or fitting the ramp."""
    between = (factors > 1) & (factors < factors.max())
    smooth = (1 / factors[between] - 1 / factors.max()) / (1 - 1 / factors.max())
    fitted = (smooth * 3 + 1) * 2 * math.pi / frequencies[between]
    guesses = [original, _LLAMA3_CONTEXT, *(round(float(each)) for each in fitted)]
    guesses += [1 << bits for bits in range(4, 20)]
    return [guess for guess in dict.fromkeys(guesses) if guess > 0]


def rope_factors(spec: RopeSpec) -> NDArray[np.float32]:
    """What each frequency is divided by, [rotary_dim / 2]."""
    plain = RopeSpec(theta=spec.theta, rotary_dim=spec.rotary_dim)
    factors: NDArray[np.float32] = frequencies_of(plain) / frequencies_of(spec)
    return factors
