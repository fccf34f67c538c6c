"""How fast a run is, and how fast it could be: model FLOPs against the measured matmul peak."""

import resource
import time
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import torch

from cairn.compute import ModelShape
from cairn.compute.flops import training_flops

_PROBE_SIZE = 1024
_PROBE_RUNS = 4


def batch_flops(shape: ModelShape, cu_seqlens: Sequence[int]) -> float:
    """Model FLOPs of forward and backward over packed documents; recomputation is work, but not counted."""
    lengths = [end - start for start, end in pairwise(cu_seqlens)]
    return sum(length * training_flops(shape, length) for length in lengths if length)


@cache
def matmul_peak(dtype: torch.dtype, device: torch.device, num_threads: int) -> float:
    """FLOP/s of a square matrix product with torch's current threads, the best of a few; measured once."""
    # Where the type is emulated a small product tells enough, and a large one takes seconds.
    rate = _matmul_rate(_PROBE_SIZE // 8, 1, dtype, device)
    return max(rate, _matmul_rate(_PROBE_SIZE, _PROBE_RUNS, dtype, device)) if rate > 5e9 else rate


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory this process (CPU) or its tensors (GPU) ever held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _matmul_rate(size: int, runs: int, dtype: torch.dtype, device: torch.device) -> float:
    left = torch.ones(size, size, dtype=dtype, device=device)
    right = torch.ones(size, size, dtype=dtype, device=device)
    (left @ right)[0, 0].item()
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
