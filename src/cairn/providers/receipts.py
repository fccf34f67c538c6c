"""Sampling as it is written into a receipt, and read back."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cairn.core.chat import SamplingParams
from cairn.core.grammar import Grammar


def sampling_json(sampling: SamplingParams) -> dict[str, Any]:
    """Sampling as JSON."""
    return asdict(replace(sampling, logit_bias={})) | {
        "logit_bias": {str(token_id): bias for token_id, bias in sampling.logit_bias.items()},
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
    }


def sampling_from_json(values: Mapping[str, Any]) -> SamplingParams:
    """The inverse of `sampling_json`."""
    exact: dict[str, Any] = {
        "logit_bias": {int(token_id): bias for token_id, bias in values["logit_bias"].items()},
        "stop": tuple(values["stop"]),
        "stop_token_ids": tuple(values["stop_token_ids"]),
    }
    if values.get("grammar"):
        exact["grammar"] = Grammar(**values["grammar"])
    return SamplingParams(**{**values, **exact})
