"""Defaults for generation that travel with a checkpoint: end tokens and sampling values.

Read from generation_config.json, then config.json, as transformers does. No torch is needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core import IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """What the model's makers recommend; None: nothing said."""

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def read_generation_defaults(folder: Path) -> GenerationDefaults:
    """The defaults of a checkpoint folder; empty ones where it says nothing."""
    config = read_json(folder / "config.json")
    values = {**config, **_without_none(read_json(folder / "generation_config.json"))}
    numbers = {
        name: _number(values.get(name)) for name in ("temperature", "top_p", "min_p", "repetition_penalty")
    }
    top_k = values.get("top_k")
    return GenerationDefaults(
        eos_token_ids=token_ids(values.get("eos_token_id")),
        bos_token_id=_one(values.get("bos_token_id")),
        pad_token_id=_one(values.get("pad_token_id")),
        top_k=top_k if isinstance(top_k, int) else None,
        **numbers,
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when the file is absent, `IntegrityError` when it is not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not JSON: {error}", remedy="fetch the file again") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} holds no JSON object", remedy="fetch the file again")
    return value


def token_ids(value: Any) -> tuple[int, ...]:
    """A token id, a list of them, or nothing, as a tuple."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(item for item in values if isinstance(item, int))


def _one(value: Any) -> int | None:
    return next(iter(token_ids(value)), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
