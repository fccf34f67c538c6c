"""Which safetensors files a checkpoint folder holds. Pickles (.bin, .pt) are never opened."""

from pathlib import Path

from cairn.core import CairnError, IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.generation import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FETCH = "fetch the file again; it was not copied whole"


def weight_paths(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single one, or the shards its index names."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder} is no folder", remedy="give the folder that holds config.json")
    if (folder / INDEX).exists():
        names = read_json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise IntegrityError(f"{folder / INDEX} has no weight_map", remedy=_FETCH)
        return [_shard(folder, name) for name in sorted({str(name) for name in names.values()})]
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    raise _no_weights(folder)


def _shard(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise NotFoundError(
            f"{INDEX} names {name!r}, which is not in {folder}", remedy="fetch the missing shard"
        )
    return path


def _no_weights(folder: Path) -> CairnError:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        return UnsupportedModelError(
            f"{folder} holds its weights as Python pickles ({', '.join(pickles[:3])}), which can run code",
            remedy="convert them to safetensors with transformers' save_pretrained on a machine you can lose",
        )
    return NotFoundError(f"{folder} holds no {SINGLE} and no {INDEX}", remedy="fetch the weights")
