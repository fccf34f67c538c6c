"""compute: what the machine can do, and what a model will ask of it.

The device probe and the measured machine profile, FLOP and memory formulas over a
`ModelShape`, and `plan`, which turns both into a prediction. Importing it needs no torch;
measuring a profile does.
"""

from cairn.compute.device import Device, Gpu, probe_device
from cairn.compute.memory import TrainingMemory, kv_cache_bytes, training_memory, weight_bytes
from cairn.compute.planning import TrainingPlan, plan
from cairn.compute.profile import MachineProfile, machine_profile
from cairn.compute.shape import ModelShape

__all__ = [
    "Device",
    "Gpu",
    "MachineProfile",
    "ModelShape",
    "TrainingMemory",
    "TrainingPlan",
    "kv_cache_bytes",
    "machine_profile",
    "plan",
    "probe_device",
    "training_memory",
    "weight_bytes",
]
