"""Reading values of a config.json: required or defaulted, checked by type, in old forms and new.

A missing or mistyped key is an `UnsupportedModelError` that names it. `rope` understands transformers 5's
`rope_parameters` (flat, or nested by layer type) and the older `rope_theta` with `rope_scaling`.
"""

from collections.abc import Mapping
from typing import Any, cast, get_args

from cairn.core import UnsupportedModelError
from cairn.models.specs import RopeScaling, RopeSpec

FULL = "full_attention"
SLIDING = "sliding_attention"


class HfValues:
    """A config.json being read. An explicit null counts as absent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "an integer")
        return value

    def integer_or_none(self, key: str, default: int | None = None) -> int | None:
        """An integer, or None where the file says null; `default` only where it says nothing."""
        if key in self._values and self._values[key] is None:
            return None
        return self.integer(key, default) if key in self._values else default

    def number(self, key: str, default: float | None = None) -> float:
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(value)

    def number_or_none(self, key: str, default: float | None = None) -> float | None:
        if key in self._values and self._values[key] is None:
            return None
        return self.number(key, default) if key in self._values else default

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

    def rope(self, head_dim: int, theta: float, *, layer_type: str | None = None) -> RopeSpec:
        """The rotary embedding, `theta` being the family's default; of one layer type where they differ."""
        parameters = self._rope_parameters(layer_type)
        scaling = parameters.get("rope_type") or parameters.get("type") or "default"
        if scaling not in get_args(RopeScaling):
            raise UnsupportedModelError(
                f"rope scaling {scaling!r} is not supported, allowed: {', '.join(get_args(RopeScaling))}",
                remedy="choose a checkpoint with one of these",
            )
        share = parameters.get("partial_rotary_factor", self.number("partial_rotary_factor", 1.0))
        given = HfValues(parameters)
        original = self._original_positions(given) if scaling in ("llama3", "yarn") else None
        stretch = (
            self.integer("max_position_embeddings") / original if scaling == "yarn" and original else None
        )
        return RopeSpec(
            theta=given.number("rope_theta", self.number("rope_theta", theta)),
            rotary_dim=int(head_dim * share),
            scaling=cast("RopeScaling", scaling),
            factor=given.number("factor", stretch) if scaling != "default" else 1.0,
            original_max_position=original,
            low_freq_factor=given.number("low_freq_factor", 1.0),
            high_freq_factor=given.number("high_freq_factor", 4.0),
            beta_fast=given.number("beta_fast", 32.0),
            beta_slow=given.number("beta_slow", 1.0),
            attention_factor=given.number_or_none("attention_factor"),
            mscale=given.number_or_none("mscale"),
            mscale_all_dim=given.number_or_none("mscale_all_dim"),
            truncate=given.flag("truncate", True),
        )

    def _rope_parameters(self, layer_type: str | None) -> dict[str, Any]:
        parameters = self._values.get("rope_scaling") or self._values.get("rope_parameters") or {}
        if not isinstance(parameters, Mapping):
            raise self._wrong("rope_parameters", "an object")
        if layer_type is not None and layer_type in parameters:
            parameters = parameters[layer_type] or {}
        elif FULL in parameters:
            parameters = parameters[FULL] or {}
        return dict(parameters)

    def _original_positions(self, given: "HfValues") -> int:
        """The context before stretching; the outer key wins where both are there, as in transformers."""
        whole = self.integer("max_position_embeddings")
        inner = given.integer("original_max_position_embeddings", whole)
        return self.integer("original_max_position_embeddings", inner)

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
