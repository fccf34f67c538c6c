"""The device probe: cores, memory, instruction sets and GPUs, read from the system without torch.

What counts is what this process may use: the CPU affinity mask and the container's limits
are applied. Linux is covered in full; elsewhere the instruction sets stay unknown.
"""

import ctypes
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from cairn.core import digest_json

_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver reports it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What this machine offers to this process."""

    processor: str
    num_cores: int
    memory_bytes: int
    features: tuple[str, ...]
    gpus: tuple[Gpu, ...] = ()

    @property
    def has_bf16(self) -> bool:
        """Whether the CPU multiplies bfloat16 in hardware; without it bf16 is far slower than float32."""
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(self.features))

    @property
    def digest(self) -> str:
        """Identity of the hardware, by which measurements of it are kept."""
        return digest_json(asdict(self))


def probe_device(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Device:
    """The device this process runs on."""
    info = _read(proc / "cpuinfo")
    flags = _field(info, "flags") or _field(info, "Features")
    return Device(
        processor=_field(info, "model name") or platform.processor() or platform.machine(),
        num_cores=_num_cores(cgroup),
        memory_bytes=_memory_bytes(proc, cgroup),
        features=tuple(name for name in _FEATURES if name in flags.split()),
        gpus=_gpus(),
    )


def _num_cores(cgroup: Path) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(cgroup / "cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def _memory_bytes(proc: Path, cgroup: Path) -> int:
    total = _field(_read(proc / "meminfo"), "MemTotal").split()
    installed = int(total[0]) * 1024 if total else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(cgroup / "memory.max").strip()
    return min(installed, int(limit)) if limit.isdigit() else installed


def _gpus() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = (line.rpartition(",") for line in listing.splitlines() if "," in line)
    return tuple(Gpu(name.strip(), int(mebibytes) << 20) for name, _, mebibytes in rows)


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator and key.strip() == name:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes this process could still get without swapping, from the machine and within its container."""
    kilobytes = _field(_read(proc / "meminfo"), "MemAvailable").split()
    assert kilobytes, "MemAvailable is in every Linux since 3.14"
    free = int(kilobytes[0]) * 1024
    limit, current = (_read(cgroup / f"memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and current.isdigit():
        # A container's files in the page cache count as its memory, but go when it needs room.
        words = _read(cgroup / "memory.stat").split()
        stat = dict(zip(words[::2], words[1::2], strict=True))
        cached = sum(int(stat.get(f"{kind}_file", 0)) for kind in ("active", "inactive"))
        free = min(free, int(limit) - int(current) + cached)
    return max(free, 0)


def anonymous_memory(proc: Path = Path("/proc")) -> int:
    """Bytes of memory that this process has filled and that no file backs."""
    kilobytes = _field(_read(proc / "self" / "status"), "RssAnon").split()
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def return_freed_memory() -> None:
    """Give the system what this process has freed, now; the C library would keep some of it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)
