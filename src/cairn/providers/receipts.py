"""Sampling and messages as they are written into a receipt, and read back; and who may read its prompt."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from cairn.core.chat import Message, SamplingParams
from cairn.core.grammar import Grammar
from cairn.registry import Database, Receipt
from cairn.retrieval.reading import given_passages

_SAMPLING = tuple(each.name for each in fields(SamplingParams))


def message_json(message: Message) -> dict[str, Any]:
    """A message as JSON."""
    found: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        found["tool_calls"] = [asdict(call) for call in message.tool_calls]
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    return found


def sampling_json(sampling: SamplingParams) -> dict[str, Any]:
    """Sampling as JSON."""
    return {name: getattr(sampling, name) for name in _SAMPLING} | {
        "grammar": asdict(sampling.grammar) if sampling.grammar is not None else None,
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


def is_whole(database: Database, receipt: Receipt, labels: frozenset[str] | None) -> bool:
    """Whether every passage that a prompt was made of is there and open to the labels; None opens all."""
    return given_passages(database, receipt.request.get("sources", ()), labels) is not None


def shown(database: Database, receipt: Receipt, labels: frozenset[str] | None) -> Receipt:
    """The receipt as it may be shown: without its prompt where a passage is gone or closed."""
    if is_whole(database, receipt, labels):
        return receipt
    return replace(receipt, prompt_token_ids=[])
