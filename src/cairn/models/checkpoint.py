"""Checkpoints in the Hugging Face layout: config.json with safetensors, one file or shards with an index.

`load_decoder` builds the network without memory, checks every name and shape, then fills one parameter at a
time from the mapped file in the dtype asked for, so that memory peaks at the model itself. Every tensor
must be used and every parameter filled. `save_decoder` writes what `transformers` opens.
"""

from pathlib import Path

import torch
from torch import Tensor

from cairn.core import IntegrityError, NotFoundError, StorageError, UnsupportedModelError
from cairn.core.file_writing import write_json
from cairn.models.config import DecoderConfig
from cairn.models.decoder import Decoder
from cairn.models.generation import read_json
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import HEAD, Layout, embedding_names, layouts
from cairn.models.weight_files import DTYPE_NAMES, StoredTensor, open_weights, write_weights
from cairn.models.weight_paths import INDEX, SINGLE
from cairn.models.weight_plan import FLOATS, plan_weights, some_names


def load_config(folder: Path) -> DecoderConfig:
    """The config of a checkpoint folder."""
    if not (folder / "config.json").exists():
        raise NotFoundError(f"{folder} holds no config.json", remedy="give the folder of a checkpoint")
    return DecoderConfig.from_hf(read_json(folder / "config.json"))


def load_decoder(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    check_finite: bool = False,
) -> Decoder:
    """The network of a checkpoint folder; `check_finite` refuses weights that hold NaN or infinity."""
    folder = Path(folder)
    config = load_config(folder)
    with torch.device("meta"):
        model = Decoder(config)
    with open_weights(folder) as stored:
        plan = plan_weights(config, parameter_shapes(config), stored, folder)
        state = {
            name: _fill(parameter.shape, plan[name], stored, dtype, device)
            for name, parameter in model.named_parameters()
        }
        _check_tied_head(config, stored, folder)
    if check_finite:
        _check_finite(state, folder)
    model.load_state_dict(state, assign=True)
    return model


def _fill(
    shape: torch.Size,
    layout: Layout,
    stored: dict[str, StoredTensor],
    dtype: torch.dtype,
    device: str | torch.device,
) -> Tensor:
    parameter = torch.empty(shape, dtype=dtype, device=device)
    for piece in layout:
        tensor = stored[piece.name].read()
        part = parameter[piece.index] if piece.index else parameter
        part.copy_(tensor.t() if piece.transposed else tensor)
    return parameter


def _check_tied_head(config: DecoderConfig, stored: dict[str, StoredTensor], folder: Path) -> None:
    """A head stored beside a tied embedding must be that embedding."""
    if not config.tie_embeddings or HEAD not in stored:
        return
    name = next(name for name in embedding_names(config) if name in stored)
    if not torch.equal(stored[HEAD].read(), stored[name].read()):
        raise IntegrityError(
            f"config.json in {folder} ties the head to the embedding, but {HEAD} differs from it",
            remedy="set tie_word_embeddings to false in config.json",
        )


def _check_finite(state: dict[str, Tensor], folder: Path) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise IntegrityError(
            f"weights in {folder} hold NaN or infinity: {some_names(broken)}",
            remedy="the training that made them diverged; take an earlier checkpoint",
        )


def save_decoder(model: Decoder, folder: Path, *, max_shard_bytes: int = 5_000_000_000) -> None:
    """Write config.json and the weights; above `max_shard_bytes` they are split and indexed."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error}", remedy="choose another folder") from None
    shards = _shards(_named_tensors(model), max_shard_bytes)
    names = [f"model-{index:05}-of-{len(shards):05}.safetensors" for index in range(1, len(shards) + 1)]
    names = [SINGLE] if len(shards) == 1 else names
    for name, tensors in zip(names, shards, strict=True):
        write_weights(folder / name, tensors)
    if len(shards) > 1:
        weight_map = {tensor: name for name, part in zip(names, shards, strict=True) for tensor, _ in part}
        total = sum(_num_bytes(tensor) for part in shards for _, tensor in part)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        names.append(INDEX)
    for old in [*folder.glob("model*.safetensors"), folder / INDEX]:
        if old.name not in names:
            old.unlink(missing_ok=True)
    dtype = str(model.embedding.dtype).removeprefix("torch.")
    write_json(folder / "config.json", {**model.config.to_hf(), "dtype": dtype})


def _named_tensors(model: Decoder) -> list[tuple[str, Tensor]]:
    """The tensors of the file as views into the parameters."""
    named: list[tuple[str, Tensor]] = []
    for name, parameter in model.named_parameters():
        if DTYPE_NAMES.get(parameter.dtype) not in FLOATS:
            raise UnsupportedModelError(
                f"{name} is {parameter.dtype}, which is not saved",
                remedy="convert the model to a float dtype first",
            )
        for piece in next(layouts(model.config, name, tuple(parameter.shape))):
            part = parameter[piece.index] if piece.index else parameter
            named.append((piece.name, (part.t() if piece.transposed else part).detach()))
    return named


def _shards(tensors: list[tuple[str, Tensor]], max_bytes: int) -> list[list[tuple[str, Tensor]]]:
    """Filled in order, none above `max_bytes` unless one tensor alone is."""
    shards: list[list[tuple[str, Tensor]]] = [[]]
    size = 0
    for name, tensor in tensors:
        if shards[-1] and size + _num_bytes(tensor) > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, tensor))
        size += _num_bytes(tensor)
    return shards


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
