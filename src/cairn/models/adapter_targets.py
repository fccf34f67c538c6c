"""What an adapter may change in a base, by the names that PEFT gives its tensors.

Matrices go by the names that files give the base's own tensors (`tensor_names`), so every family's own names
work: `q_proj`, `qkv_proj`, `c_attn`, `experts.3.w1`. transformers 5 keeps the experts of a layer in two
parameters of one module; PEFT adapts these by `target_parameters` and nests a wrapper for each around the
module, so that their tensors are called `experts` and, within it, `experts.base_layer`: which is which says
the list alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cairn.models.config import DecoderConfig
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import Layout, Piece, layouts

_ADAPTABLE = re.compile(
    r"layers\.\d+\.(attention\.(qkv|output)\.weight|mlp\.(shared\.)?(inner|output)(\.weight)?)"
)
_WRAPPED = ".base_layer"


@dataclass(frozen=True, slots=True)
class Target:
    """Rows of a matrix that a module of a checkpoint is, or of one matrix for each expert of a layer."""

    name: str
    """What ranks and alphas of its own go by."""
    matrices: tuple[str, ...]
    """A parameter's name; of an expert with its number after it."""
    start: int
    stop: int
    num_inputs: int


def adapter_targets(config: DecoderConfig, target_parameters: Sequence[str]) -> dict[str, Target]:
    """What can be adapted, by the names of modules as an adapter's tensors have them."""
    targets: dict[str, Target] = {}
    joined: dict[str, list[Target]] = {}
    for parameter, shape in parameter_shapes(config).items():
        if not _ADAPTABLE.fullmatch(parameter):
            continue
        for layout in layouts(config, parameter, shape):
            for piece in layout:
                target = _target(parameter, shape, piece)
                if len(shape) == 3 and not piece.index:
                    joined.setdefault(piece.name.rpartition(".")[0], []).append(target)
                else:
                    targets[target.name] = target
    for module, both in joined.items():
        wanted = [target for target in both if _is_among(target.name, target_parameters)]
        for depth, target in enumerate(reversed(wanted)):
            targets[module + _WRAPPED * depth] = target
    return targets


def matrix_targets(
    shapes: Mapping[str, tuple[int, ...]], ways: Mapping[str, Iterable[Layout]]
) -> dict[str, Target]:
    """What can be adapted in a network of these parameters, as files may hold them, without experts."""
    adaptable = [name for name in shapes if _ADAPTABLE.fullmatch(name)]
    found = [
        _target(name, shapes[name], piece) for name in adaptable for layout in ways[name] for piece in layout
    ]
    return {target.name: target for target in found}


def _target(parameter: str, shape: tuple[int, ...], piece: Piece) -> Target:
    name, index = piece.name.removesuffix(".weight"), piece.index
    num_rows, num_inputs = shape[-2:]
    matrices: tuple[str, ...] = (parameter,)
    if len(shape) == 3:
        experts = [index[0]] if index else range(shape[0])
        matrices = tuple(f"{parameter}.{expert}" for expert in experts)
        index = index[1:]
    rows = index[0] if index else slice(0, num_rows)
    assert isinstance(rows, slice), "matrices are cut by rows"
    return Target(name, matrices, rows.start, rows.stop, num_inputs)


def _is_among(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
