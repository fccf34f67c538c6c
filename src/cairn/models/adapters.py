"""Low-rank adapters (LoRA, Hu et al. 2021) in PEFT's layout: adapter_config.json, adapter_model.safetensors.

An adapter changes a matrix W [out, in] of its base to W + scale * B A, with A [rank, in] and B [out, rank].
Which matrix a tensor belongs to is found by its name (`adapter_targets`). Names, shapes and options are
checked in full before a number is read; what would be computed differently than PEFT does is refused. Not
covered: routers, norms, embeddings and the head.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cairn.core import IntegrityError, NotFoundError, UnsupportedModelError
from cairn.core.digests import digest_file, digest_json
from cairn.models.adapter_targets import Target, adapter_targets
from cairn.models.config import DecoderConfig
from cairn.models.generation import read_json
from cairn.models.mapped_weights import MappedTensor, map_file
from cairn.models.weight_plan import FLOATS, some_names

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

Array = NDArray[np.float32]
T = TypeVar("T")

_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_JOINED_EXPERTS = re.compile(r"(.*\.)?(gate_up_proj|down_proj)")
"""The parameters that hold all experts of a layer."""
_PLAIN_INIT = (None, True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and others change it."""
_REFUSED = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "layer_replication",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
_MERGE = "merge it into its base with PEFT's merge_and_unload and import the result"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in PEFT's layout."""
    return (folder / CONFIG_NAME).is_file()


@dataclass(frozen=True, slots=True)
class LowRank:
    """The rows `start` to `stop` of a matrix change by b a."""

    start: int
    stop: int
    a: Array
    """[rank, in]"""
    b: Array
    """[stop - start, rank]; the adapter's scale is in it."""


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter's matrices by the parameter they change, for one base; of an expert `parameter.number`."""

    low_rank: Mapping[str, tuple[LowRank, ...]]
    """In order of their rows, which do not overlap."""
    digest: str
    """Of its files: equal digests give equal answers."""


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """What adapter_config.json says that changes the numbers."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    is_rank_stabilised: bool
    target_parameters: tuple[str, ...]
    """Which parameters of all experts it changes."""
    base: str
    """Name of the base model, as its trainer knew it; may be empty."""

    def rank_of(self, module: str) -> int:
        """Rank of a module's matrices."""
        return _matching(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """alpha / rank, or alpha / sqrt(rank) when rank-stabilised (Kalajdzievski 2023)."""
        rank = self.rank_of(module)
        alpha = _matching(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_options(folder: Path) -> AdapterOptions:
    """The options of an adapter; `UnsupportedModelError` for what is not a plain LoRA."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise NotFoundError(f"{folder} holds no {CONFIG_NAME}", remedy="give the folder that PEFT saved")
    values = read_json(path)
    if values.get("peft_type") != "LORA":
        raise _unsupported(path, "peft_type", values.get("peft_type"), "LORA")
    if values.get("bias", "none") != "none":
        raise _unsupported(path, "bias", values["bias"], "none")
    for name in _REFUSED:
        if values.get(name):
            raise _unsupported(path, name, values[name], "nothing")
    if values.get("init_lora_weights") not in _PLAIN_INIT:
        raise UnsupportedModelError(
            f"{path}: init_lora_weights {values['init_lora_weights']!r} also changed the base model",
            remedy="save it as a plain LoRA: save_pretrained's path_initial_model_for_weight_conversion",
        )
    rank, alpha = values.get("r"), values.get("lora_alpha")
    return AdapterOptions(
        rank=_rank(path, "r", rank),
        alpha=_alpha(path, "lora_alpha", alpha),
        rank_pattern={key: _rank(path, key, value) for key, value in _pattern(path, values, "rank_pattern")},
        alpha_pattern={
            key: _alpha(path, key, value) for key, value in _pattern(path, values, "alpha_pattern")
        },
        is_rank_stabilised=bool(values.get("use_rslora")),
        target_parameters=_target_parameters(path, values.get("target_parameters") or []),
        base=str(values.get("base_model_name_or_path") or ""),
    )


def read_adapter(folder: Path, config: DecoderConfig) -> AdapterWeights:
    """The adapter in a folder for a base of this config; `IntegrityError` naming all that does not fit."""
    return read_low_rank(folder, adapter_targets(config, read_options(folder).target_parameters))


def read_low_rank(folder: Path, targets: Mapping[str, Target], apart: Collection[str] = ()) -> AdapterWeights:
    """The adapter in a folder for these matrices; tensors named in `apart` are somebody else's."""
    options, path = read_options(folder), folder / WEIGHTS_NAME
    if not path.is_file():
        raise NotFoundError(
            f"{folder} holds no {WEIGHTS_NAME}", remedy="save it with PEFT's safe_serialization, its default"
        )
    stored = {name: tensor for name, tensor in map_file(path).items() if name not in apart}
    pairs, problems = _pairs(stored, options, targets)
    if problems or not pairs:
        raise IntegrityError(
            f"the adapter in {folder} does not fit its base: {some_names(problems) or 'it changes nothing'}",
            remedy="give the base it was trained on; norms, routers, embeddings and heads cannot be adapted",
        )
    found: dict[str, list[LowRank]] = {}
    for module in pairs:
        target = targets[module]
        scale = np.float32(options.scale_of(target.name))
        b = _read(path, f"{module}.lora_B", stored[_name(module, "B")]) * scale
        a = _read(path, f"{module}.lora_A", stored[_name(module, "A")])
        for matrix, part in zip(target.matrices, _parts(target, a, b), strict=True):
            found.setdefault(matrix, []).append(part)
    for parameter, parts in found.items():
        parts.sort(key=lambda part: part.start)
        if any(one.stop > other.start for one, other in pairwise(parts)):
            raise IntegrityError(f"{path} changes {parameter} twice", remedy="save it again with PEFT")
    digest = digest_json([digest_file(folder / name) for name in (CONFIG_NAME, WEIGHTS_NAME)])
    return AdapterWeights({name: tuple(parts) for name, parts in found.items()}, digest)


def _parts(target: Target, a: Array, b: Array) -> Iterable[LowRank]:
    """A module's pair for each of its matrices.

    PEFT joins the A's of experts one below the other, and B's columns by rank and then by expert.
    """
    num = len(target.matrices)
    columns = b.reshape(len(b), -1, num)
    for index, rows in enumerate(a.reshape(num, -1, target.num_inputs)):
        yield LowRank(target.start, target.stop, rows, np.ascontiguousarray(columns[:, :, index]))


def _pairs(
    stored: Mapping[str, MappedTensor], options: AdapterOptions, targets: Mapping[str, Target]
) -> tuple[list[str], list[str]]:
    """The modules that the tensors adapt, and what is wrong with them."""
    modules: dict[str, set[str]] = {}
    problems: list[str] = []
    for name, tensor in stored.items():
        match = _TENSOR.fullmatch(name)
        target = targets.get(match[1]) if match else None
        if match is None or target is None:
            problems.append(f"{name} belongs to no matrix that can be adapted")
            continue
        rank = options.rank_of(target.name) * len(target.matrices)
        expected = (rank, target.num_inputs) if match[2] == "A" else (target.stop - target.start, rank)
        if tensor.dtype not in FLOATS:
            problems.append(f"{name} is {tensor.dtype}, allowed: {', '.join(sorted(FLOATS))}")
        elif tensor.shape != expected:
            problems.append(f"{name} is {list(tensor.shape)}, expected {list(expected)}")
        modules.setdefault(match[1], set()).add(match[2])
    for module, sides in modules.items():
        problems += [f"{_name(module, side)} is missing" for side in sorted({"A", "B"} - sides)]
    return list(modules), problems


def _name(module: str, side: str) -> str:
    return f"base_model.model.{module}.lora_{side}.weight"


def _read(path: Path, name: str, tensor: MappedTensor) -> Array:
    values = tensor.read()
    if not np.isfinite(values).all():
        raise IntegrityError(
            f"{path} holds NaN or infinity: {name}",
            remedy="the training that made it diverged; take an earlier one",
        )
    return values


def _matching(pattern: Mapping[str, T], module: str, default: T) -> T:
    """The first entry whose key ends the module's name, as PEFT finds it."""
    for key, value in pattern.items():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return value
    return default


def _target_parameters(path: Path, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _malformed(path, "target_parameters", names, "a list of names")
    if others := [name for name in names if not _JOINED_EXPERTS.fullmatch(name)]:
        raise _unsupported(path, "target_parameters", others, "gate_up_proj and down_proj of experts")
    return tuple(names)


def _pattern(path: Path, values: Mapping[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    pattern = values.get(name) or {}
    if not isinstance(pattern, dict):
        raise _malformed(path, name, pattern, "an object")
    for key in pattern:
        try:
            re.compile(rf"(.*\.)?({key})")
        except re.error as error:
            raise _malformed(path, name, key, f"regular expressions ({error})") from None
    return pattern.items()


def _rank(path: Path, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _malformed(path, name, value, "a whole number above 0")
    return value


def _alpha(path: Path, name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _malformed(path, name, value, "a number")
    return float(value)


def _malformed(path: Path, name: str, got: Any, allowed: str) -> IntegrityError:
    return IntegrityError(f"{path}: {name} is {got!r}, allowed: {allowed}", remedy="save it again with PEFT")


def _unsupported(path: Path, name: str, got: Any, allowed: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{path}: {name} is {got!r}, allowed: {allowed}",
        remedy=_MERGE,
    )
