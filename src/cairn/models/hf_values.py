"""Reading values of a config.json: required or defaulted, checked by type, in old forms and new.

A missing key, a value of the wrong type, and a number that no model can have are each an
`UnsupportedModelError` that names the key. `rope` understands transformers 5's
`rope_parameters` (flat, or nested by layer type) and the older `rope_theta` with `rope_scaling`.
"""

import math
from collections.abc import Mapping
from typing import Any, cast, get_args

from cairn.core import UnsupportedModelError
from cairn.models.specs import RopeScaling, RopeSpec

FULL = "full_attention"
SLIDING = "sliding_attention"
_LARGEST = 1 << 40
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def look_up(key: str, value: Any, allowed: Mapping[str, str]) -> str:
    """What a value of a config.json is called here; `UnsupportedModelError` if not in the table."""
    if not isinstance(value, str) or value not in allowed:
        raise UnsupportedModelError(
            f"config.json: {key} is {value!r}, allowed: {', '.join(allowed)}",
            remedy="choose a checkpoint with one of these",
        )
    return allowed[value]


class HfValues:
    """A config.json being read. An explicit null counts as absent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None, *, least: int = 0, most: int = _LARGEST) -> int:
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, f"an integer from {least} to {most}")
        return value

    def integer_or_none(self, key: str, default: int | None = None) -> int | None:
        """An integer, or None where the file says null; `default` only where it says nothing."""
        if key in self._values and self._values[key] is None:
            return None
        return self.integer(key, default) if key in self._values else default

    def number(self, key: str, default: float | None = None, *, above: float = -math.inf) -> float:
        """A finite number; `above` is excluded."""
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
            raise self._wrong(key, "a number" if above == -math.inf else f"a number above {above:g}")
        return float(value)

    def number_or_none(self, key: str, default: float | None = None) -> float | None:
        if key in self._values and self._values[key] is None:
            return None
        return self.number(key, default) if key in self._values else default

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object; empty where there is none."""
        value = self._values.get(key) or {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._present(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        value = self._values.get(key) or []
        if not isinstance(value, list | tuple) or not all(isinstance(item, int) for item in value):
            raise self._wrong(key, "a list of integers")
        return tuple(value)

    def layer_types(self, default: list[str]) -> list[str]:
        """`layer_types`, one of full or sliding attention for each layer."""
        types = self._values.get("layer_types") or default
        if not isinstance(types, list | tuple) or len(types) < len(default):
            raise self._wrong("layer_types", f"a list of {len(default)} layer types")
        for kind in types[: len(default)]:
            if kind not in (FULL, SLIDING):
                raise UnsupportedModelError(
                    f"layer_types holds {kind!r}, allowed: {FULL}, {SLIDING}",
                    remedy="this model mixes in layers that Cairn does not run; choose another",
                )
        return [str(kind) for kind in types[: len(default)]]

    def refuse(self, key: str, *allowed: Any) -> None:
        """`UnsupportedModelError` unless the key is absent or has an allowed value."""
        value = self._values.get(key)
        if value is not None and value not in allowed:
            raise UnsupportedModelError(
                f"config.json sets {key} to {value!r}, which Cairn does not run",
                remedy=f"{key} may be {' or '.join(map(repr, allowed))}; choose a checkpoint without it",
            )

    def activation(self, key: str, default: str) -> str:
        """The activation of an MLP, as `Architecture` names it."""
        return look_up(key, self._values.get(key) or default, _ACTIVATIONS)

    def rope(self, head_dim: int, theta: float, *, layer_type: str | None = None) -> RopeSpec:
        """The rotary embedding, `theta` being the family's default; of one layer type where they differ."""
        parameters = self._rope_parameters(layer_type)
        scaling = parameters.get("rope_type") or parameters.get("type") or "default"
        if scaling not in get_args(RopeScaling):
            raise UnsupportedModelError(
                f"rope scaling {scaling!r} is not supported, allowed: {', '.join(get_args(RopeScaling))}",
                remedy="choose a checkpoint with one of these",
            )
        given = HfValues(parameters)
        share = given.number("partial_rotary_factor", self.number("partial_rotary_factor", 1.0))
        original = self._original_positions(given) if scaling in ("llama3", "yarn") else None
        stretch = (
            self.integer("max_position_embeddings") / original if scaling == "yarn" and original else None
        )
        return RopeSpec(
            theta=given.number("rope_theta", self.number("rope_theta", theta, above=1), above=1),
            rotary_dim=int(head_dim * share),
            scaling=cast("RopeScaling", scaling),
            factor=given.number("factor", stretch, above=0) if scaling != "default" else 1.0,
            original_max_position=original,
            low_freq_factor=given.number("low_freq_factor", 1.0, above=0),
            high_freq_factor=given.number("high_freq_factor", 4.0, above=0),
            beta_fast=given.number("beta_fast", 32.0, above=0),
            beta_slow=given.number("beta_slow", 1.0, above=0),
            attention_factor=given.number_or_none("attention_factor"),
            mscale=given.number_or_none("mscale"),
            mscale_all_dim=given.number_or_none("mscale_all_dim"),
            truncate=given.flag("truncate", True),
        )

    def _rope_parameters(self, layer_type: str | None) -> dict[str, Any]:
        parameters = self.mapping("rope_scaling") or self.mapping("rope_parameters")
        for kind in (layer_type, FULL):
            if kind is not None and kind in parameters:
                return dict(HfValues(parameters).mapping(kind))
        return dict(parameters)

    def _original_positions(self, given: "HfValues") -> int:
        """The context before stretching; the outer key wins where both are there, as in transformers."""
        key = "original_max_position_embeddings"
        inner = given.integer(key, self.integer("max_position_embeddings"), least=1)
        return self.integer(key, inner, least=1)

    def _present(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        if value is not None:
            return value
        if default is None:
            raise UnsupportedModelError(
                f"config.json lacks {key!r}", remedy="fetch config.json again, or add the key"
            )
        return default

    def _wrong(self, key: str, allowed: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"config.json: {key} is {self._values.get(key)!r}, allowed: {allowed}",
            remedy="mend config.json or fetch it again",
        )
