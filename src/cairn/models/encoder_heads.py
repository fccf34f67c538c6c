"""Heads that adapt an encoder to another task: low-rank changes of its matrices and perhaps a last layer.

A head's folder is an adapter in PEFT's layout (adapter_config.json, adapter_model.safetensors; a last layer
is `base_model.model.classifier`) with head.json beside it: the task, the base it was trained on (by the
digest of its weights), the longest text, and the numbers that turn what the network says into what is told.
Needs no torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cairn.core import IntegrityError
from cairn.core.digests import digest_file
from cairn.models.adapter_targets import matrix_targets
from cairn.models.adapters import WEIGHTS_NAME, Array, LowRank, read_low_rank
from cairn.models.encoder_config import EncoderConfig, EncoderHead
from cairn.models.encoder_tensors import encoder_layouts, encoder_shapes, map_encoder
from cairn.models.generation import read_json
from cairn.models.hf_values import HfValues
from cairn.models.mapped_weights import MappedTensor, map_file

HEAD_NAME = "head.json"
BASE_WEIGHTS = "model.safetensors"
OUTPUT = "base_model.model.classifier"
TOKEN_WEIGHTS = "token_weights"
"""How telling each token of a query is, [vocabulary]."""
_OUTPUTS = (f"{OUTPUT}.weight", f"{OUTPUT}.bias")

HeadTask = Literal["reading", "reranking"]
HEAD_TASKS: Mapping[str, EncoderHead] = {
    "reading": EncoderHead(task="token_classification", pooling="tokens", labels=("start", "end")),
    "reranking": EncoderHead(task="embedding", pooling="tokens"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What head.json says."""

    task: HeadTask
    base: str
    """Name of the encoder it was trained on."""
    base_digest: str
    """`sha256:...` of that encoder's weight file."""
    max_tokens: int
    values: Mapping[str, Any]
    """What the task needs besides the network."""

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "base": self.base,
            "base_digest": self.base_digest,
            "max_tokens": self.max_tokens,
            **self.values,
        }

    def config_for(self, base: EncoderConfig) -> EncoderConfig:
        """The base with this head in the place of its own."""
        longest = base.num_positions - base.position_offset
        return replace(base, head=HEAD_TASKS[self.task], max_tokens=min(self.max_tokens, longest), prompt="")


def is_head(folder: Path) -> bool:
    """Whether a folder holds a head."""
    return (folder / HEAD_NAME).is_file()


def read_head_spec(folder: Path) -> HeadSpec:
    """A head's folder; `IntegrityError` for what it does not say."""
    values = read_json(folder / HEAD_NAME)
    hf = HfValues(values)
    known = ("task", "base", "base_digest", "max_tokens")
    if values.get("task") not in HEAD_TASKS or not isinstance(values.get("base_digest"), str):
        raise IntegrityError(
            f"{folder / HEAD_NAME} names the task {values.get('task')!r}, allowed: {', '.join(HEAD_TASKS)}",
            remedy="install Cairn again, or build the head again",
        )
    return HeadSpec(
        task=values["task"],
        base=str(values.get("base", "")),
        base_digest=values["base_digest"],
        max_tokens=hf.integer("max_tokens", least=16),
        values={name: value for name, value in values.items() if name not in known},
    )


def map_adapted(
    config: EncoderConfig, base: Path, head: Path
) -> tuple[dict[str, MappedTensor], Mapping[str, tuple[LowRank, ...]]]:
    """The tensors of a base with a head's last layer, and what the head changes of the base's matrices."""
    spec = read_head_spec(head)
    if (found := digest_file(base / BASE_WEIGHTS)) != spec.base_digest:
        raise IntegrityError(
            f"the head in {head} was trained on {spec.base} ({spec.base_digest}), this is {found}",
            remedy=f"give it {spec.base}",
        )
    stored = map_encoder(config, base)
    targets = matrix_targets(encoder_shapes(config), encoder_layouts(config))
    adapter = read_low_rank(head, targets, apart=(*_OUTPUTS, TOKEN_WEIGHTS))
    tensors = map_file(head / WEIGHTS_NAME)
    prefix = len("base_model.model.")
    return stored | {name[prefix:]: tensors[name] for name in _OUTPUTS if name in tensors}, adapter.low_rank


def read_token_weights(head: Path) -> Array:
    """How telling each token is."""
    tensors = map_file(head / WEIGHTS_NAME)
    if TOKEN_WEIGHTS not in tensors:
        raise IntegrityError(f"{head / WEIGHTS_NAME} holds no {TOKEN_WEIGHTS}", remedy="build the head again")
    return tensors[TOKEN_WEIGHTS].read()


def changed(values: Array, parts: Iterable[LowRank]) -> Array:
    """A matrix with its low-rank changes, in float32."""
    values = values.copy()
    for part in parts:
        values[part.start : part.stop] += part.b @ part.a
    return values
