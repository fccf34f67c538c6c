"""Where a recipe trains on this machine: the device, and the type its `dtype = "auto"` stands for.

The resolved type is part of a stage's key, because it changes the weights.
"""

from functools import cache

from cairn.compute import Device, probe_device
from cairn.training import TrainConfig
from cairn.training.config import FREE_TO_CHANGE


@cache
def this_device() -> Device:
    """The machine, probed once a process."""
    return probe_device()


def torch_device() -> str:
    """`cuda` when there is a GPU that torch can use, else `cpu`."""
    if not this_device().gpus:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolved(config: TrainConfig) -> TrainConfig:
    """The config with its type made definite."""
    if config.dtype != "auto":
        return config
    device = this_device()
    dtype = "bfloat16" if device.gpus or device.has_bf16 else "float32"
    return config.model_copy(update={"dtype": dtype})


def result_config(config: TrainConfig) -> dict[str, object]:
    """What of a training config decides the weights, for a stage's key; pace and logging are left out."""
    return resolved(config).model_dump(mode="json", exclude=set(FREE_TO_CHANGE))
