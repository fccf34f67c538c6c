"""How the makers of a model recommend to sample from it: `general.sampling.*` of GGUF.

Only what Cairn's sampler has is read and written; llama.cpp's mirostat, xtc, order of samplers and number of
tokens a penalty looks back at are left out. Source: llama-arch.cpp of ggml-org/llama.cpp.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cairn.core import UnsupportedModelError
from cairn.models.generation import GenerationDefaults

_PREFIX = "general.sampling."
_KEYS = {
    "temp": ("temperature", 0.0, 100.0),
    "top_k": ("top_k", 0, (1 << 31) - 1),
    "top_p": ("top_p", 1e-6, 1.0),
    "min_p": ("min_p", 0.0, 1.0),
    "penalty_repeat": ("repetition_penalty", 1e-6, 100.0),
}
"""GGUF's key to generation_config.json's, and the range that can be sampled with."""


def read_sampling(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values as generation_config.json has them; empty where it has none."""
    found: dict[str, Any] = {}
    for key, (name, least, most) in _KEYS.items():
        value = metadata.get(_PREFIX + key)
        if value is None:
            continue
        is_number = isinstance(value, int) or (isinstance(value, float) and key != "top_k")
        if isinstance(value, bool) or not is_number or not value <= most:
            raise _wrong(key, value, least, most)
        if value <= 0 and key in ("temp", "top_k"):
            value = 0  # llama.cpp's way to say off
        if not least <= value:
            raise _wrong(key, value, least, most)
        # The file has it in single precision: 0.95, not 0.949999988.
        found[name] = value if key == "top_k" else float(str(np.float32(value)))
    return found | {"do_sample": found.get("temperature") != 0} if found else {}


def sampling_keys(defaults: GenerationDefaults) -> dict[str, Any]:
    """The key-values for what a checkpoint's makers recommend."""
    values = {key: (getattr(defaults, name), least, most) for key, (name, least, most) in _KEYS.items()}
    return {
        _PREFIX + key: value
        for key, (value, least, most) in values.items()
        if value is not None and least <= value <= most
    }


def _wrong(key: str, value: Any, least: float, most: float) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{_PREFIX}{key} is {value!r}, allowed: {least:g} to {most:g}",
        remedy="convert the model again with a current llama.cpp",
    )
