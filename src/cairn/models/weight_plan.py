"""Which tensors of a checkpoint fill which parameters; what does not fit is refused, by name.

Shapes and names only: what the tensors are read into, and by which library, is the caller's.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from cairn.core import IntegrityError
from cairn.models.config import DecoderConfig
from cairn.models.tensor_names import HEAD, Index, Layout, Piece, is_buffer, layouts

FLOATS = {"F64", "F32", "BF16", "F16"}


class Stored(Protocol):
    """A tensor of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """As safetensors calls it."""
        ...


def plan_weights(
    config: DecoderConfig,
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Stored],
    folder: Path,
) -> dict[str, Layout]:
    """The pieces that fill each parameter; `IntegrityError` naming all that does not fit."""

    def is_extra(name: str) -> bool:
        return is_buffer(name) or (config.tie_embeddings and name == HEAD)

    ways = {name: layouts(config, name, shape) for name, shape in shapes.items()}
    return fit(ways, shapes, stored, folder, is_extra)


def fit(
    ways: Mapping[str, Iterable[Layout]],
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Stored],
    folder: Path,
    is_extra: Callable[[str], bool],
) -> dict[str, Layout]:
    """Of each parameter's `ways` the one that the folder's tensors fill; what `is_extra` may be left."""
    plan = {
        name: max(layouts, key=lambda way: sum(piece.name in stored for piece in way) / len(way))
        for name, layouts in ways.items()
    }
    pieces = {piece.name: (piece, name) for name, layout in plan.items() for piece in layout}
    missing = [name for name in pieces if name not in stored]
    unexpected = [name for name in stored if name not in pieces and not is_extra(name)]
    misshapen = [
        problem
        for name, (piece, parameter) in pieces.items()
        if name in stored and (problem := _misfit(piece, shapes[parameter], stored[name]))
    ]
    if missing or unexpected or misshapen:
        raise _misfit_error(folder, missing, unexpected, misshapen)
    return plan


def _misfit(piece: Piece, shape: tuple[int, ...], tensor: Stored) -> str:
    expected = part_shape(shape, piece.index)
    expected = expected[::-1] if piece.transposed else expected
    if tensor.dtype not in FLOATS:
        return f"{piece.name} is {tensor.dtype}, allowed: {', '.join(sorted(FLOATS))}"
    return (
        "" if expected == tensor.shape else f"{piece.name} is {list(tensor.shape)}, expected {list(expected)}"
    )


def part_shape(shape: tuple[int, ...], index: Index) -> tuple[int, ...]:
    """Shape of the part of a parameter that a piece fills."""
    kept = [len(range(size)[at]) for size, at in zip(shape, index, strict=False) if isinstance(at, slice)]
    return (*kept, *shape[len(index) :])


def _misfit_error(
    folder: Path, missing: list[str], unexpected: list[str], misshapen: list[str]
) -> IntegrityError:
    lists = {"missing": missing, "unexpected": unexpected, "wrong": misshapen}
    parts = [f"{label}: {some_names(names)}" for label, names in lists.items() if names]
    remedy = "config.json and the weights must come from the same checkpoint; fetch both again"
    if missing == [HEAD]:
        remedy = "if the head is the embedding, set tie_word_embeddings to true in config.json"
    return IntegrityError(
        f"the weights in {folder} do not fit config.json; " + "; ".join(parts), remedy=remedy
    )


def some_names(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
