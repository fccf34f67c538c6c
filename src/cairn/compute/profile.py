"""The machine profile: matmul rate, memory bandwidth and disk rate, measured once and kept.

`machine_profile` measures on first use (a few seconds) and reads `machine.json` in the home
folder afterwards, until the hardware or the torch version changes. Rates are the best of
several short runs. On a busy machine the matmul rate is estimated from the processor time of one
thread, because threads that wait for each other say more of the others; such a profile is not kept.
"""

import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from cairn.compute.device import Device, probe_device
from cairn.core import Config, MissingExtraError, Settings, StorageError

_WIDTHS = (256, 512, 1024)
_ROWS = 1024
_COPY_BYTES = 64 << 20
_SECONDS_EACH = 0.25
_BUSY_LOAD = 0.75
"""Load average per core from which a measurement says more of the others than of the machine."""
_SCALING = 0.8
"""What a further thread adds to products of matrices, in threads; measured on two cores: 0.7 to 1.2."""
_EMULATED_FLOPS = 1e9
"""A product of a few rows slower than this is not done in hardware."""


class MachineProfile(Config):
    """Measured rates of one machine."""

    device: str = Field(description="digest of the device that was measured")
    torch: str = Field(description="torch version that was measured")
    num_threads: int = Field(description="threads the measurements used")
    matmul_gflops: dict[str, dict[int, float]] = Field(
        description="GFLOP/s by dtype and by the width of the product (1024 rows, width x 4 width)"
    )
    memory_gbps: float = Field(description="GB/s of copying, read plus write")
    measured_at: float = Field(description="Unix time of the measurement")

    def gflops(self, dtype: str, width: int) -> float:
        """GFLOP/s of products of about this width: the nearest measured one."""
        rates = self.matmul_gflops[dtype]
        return rates[min(rates, key=lambda measured: abs(np.log(measured / max(width, 1))))]


def machine_profile(settings: Settings, *, device: Device | None = None) -> MachineProfile:
    """The kept profile of this machine, measured when there is none that fits."""
    device = device or probe_device()
    path = settings.home / "machine.json"
    kept = _load(path)
    if kept and kept.device == device.digest and kept.torch == _torch_version():
        return kept
    others_compute = is_busy(device)
    profile = measure_profile(device, is_busy=others_compute)
    if not others_compute:
        _save(profile, path)
    return profile


def is_busy(device: Device) -> bool:
    """Whether other programs take so much of the machine that a measurement would show them."""
    return os.getloadavg()[0] > _BUSY_LOAD * device.num_cores


def measure_profile(device: Device, *, is_busy: bool = False) -> MachineProfile:
    """Measure this machine now."""
    threads, rates = _matmul_rates(is_busy=is_busy)
    return MachineProfile(
        device=device.digest,
        torch=_torch_version(),
        num_threads=threads,
        matmul_gflops=rates,
        memory_gbps=_memory_rate(),
        measured_at=time.time(),
    )


def _matmul_rates(*, is_busy: bool) -> tuple[int, dict[str, dict[int, float]]]:
    try:
        import torch  # noqa: PLC0415 - optional, and only needed to measure
    except ImportError:
        raise MissingExtraError("measuring this machine", "train") from None
    place = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    is_estimated = is_busy and place == "cpu"
    clock = time.process_time if is_estimated else time.perf_counter

    def rate(dtype: torch.dtype, width: int) -> float:
        right = torch.ones(width, 4 * width, dtype=dtype, device=place)

        def multiply(rows: torch.Tensor) -> float:
            (rows @ right).sum().item()
            return 2.0 * rows.shape[0] * width * 4 * width

        # A few rows first: where the type is emulated, a whole product would take seconds.
        few = torch.ones(8, width, dtype=dtype, device=place)
        first = multiply(few) / _best(lambda: multiply(few), _SECONDS_EACH / 10, clock)
        if first < _EMULATED_FLOPS:
            return first / 1e9
        many = torch.ones(_ROWS, width, dtype=dtype, device=place)
        return multiply(many) / _best(lambda: multiply(many), _SECONDS_EACH, clock) / 1e9

    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    torch.set_num_threads(1 if is_estimated else threads)
    try:
        rates = {name: {width: rate(dtype, width) for width in _WIDTHS} for name, dtype in dtypes.items()}
    finally:
        torch.set_num_threads(threads)
    scale = 1 + _SCALING * (threads - 1) if is_estimated else 1.0
    return threads, {
        name: {width: scale * each for width, each in row.items()} for name, row in rates.items()
    }


def _memory_rate() -> float:
    source = np.ones(_COPY_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    return 2 * _COPY_BYTES / _best(lambda: np.copyto(target, source), _SECONDS_EACH) / 1e9


def _best(run: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Shortest of the runs that fit in about `seconds`, after one to warm up."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        started = clock()
        run()
        best = min(best, clock() - started)
        if time.perf_counter() >= end:
            return best


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _load(path: Path) -> MachineProfile | None:
    try:
        return MachineProfile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _save(profile: MachineProfile, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(profile.model_dump_json(indent=2))
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="free some space") from None
