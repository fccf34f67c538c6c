"""How fast this machine reads memory, and how fast the native engine's products can be: the two roofs.

Reading is all threads through memory of their own that no cache holds; products are of weights that the cache
does hold with a block of tokens, a multiply-add counted as two operations. Best of several short runs.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

_RUNS = 5
_READ_BYTES = 128 << 20
"""A thread's; on many cores less, but never what their caches might hold."""
_READ_BYTES_OF_ALL, _LEAST_READ_BYTES = 1 << 30, 32 << 20
_OUTPUTS, _INPUTS, _TOKENS = 512, 1024, 128
_PRODUCTS = 8
"""Of one run, so that starting it counts little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What bounds every step here, with all threads and with one."""

    num_threads: int
    read_gbps: float
    read_gbps_of_one: float
    gflops: dict[str, float]
    """Of products, by the weights' format."""
    gflops_of_one: dict[str, float]


def measure_ceilings(num_threads: int, formats: Sequence[str]) -> Ceilings:
    """Measure this machine now; some hundred milliseconds a format."""
    return Ceilings(
        num_threads=num_threads,
        read_gbps=read_bandwidth(num_threads) / 1e9,
        read_gbps_of_one=read_bandwidth(1) / 1e9,
        gflops={name: product_rate(name, num_threads) / 1e9 for name in formats},
        gflops_of_one={name: product_rate(name, 1) / 1e9 for name in formats},
    )


def read_bandwidth(num_threads: int) -> float:
    """Bytes a second that so many threads read from memory together."""
    each = max(_LEAST_READ_BYTES, min(_READ_BYTES, _READ_BYTES_OF_ALL // num_threads))

    def reader() -> Callable[[], object]:
        numbers = np.ones(each // 4, np.int32)
        return lambda: numbers.max()

    return num_threads * each / _best_seconds(num_threads, reader)


def product_rate(weights: str, num_threads: int) -> float:
    """Operations a second of the native products with weights of a format."""
    native = importlib.import_module("cairn._native")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((_OUTPUTS, _INPUTS), np.float32)
    rows = rng.standard_normal((_TOKENS, _INPUTS), np.float32)

    def multiplier() -> Callable[[], object]:
        matrix, out = native.pack(values, weights), np.empty((_TOKENS, _OUTPUTS), np.float32)

        def multiply() -> None:
            for _ in range(_PRODUCTS):
                native.multiply(matrix, rows, out)

        return multiply

    operations = 2.0 * _OUTPUTS * _INPUTS * _TOKENS * _PRODUCTS * num_threads
    return operations / _best_seconds(num_threads, multiplier)


def _best_seconds(num_threads: int, make: Callable[[], Callable[[], object]]) -> float:
    """Shortest time in which every thread did its work once; each makes its own, so its memory is near it."""
    with ThreadPoolExecutor(num_threads) as pool:
        jobs = [pool.submit(make) for _ in range(num_threads)]
        works = [job.result() for job in jobs]

        def together() -> float:
            started = time.perf_counter()
            for job in [pool.submit(work) for work in works]:
                job.result()
            return time.perf_counter() - started

        together()
        return min(together() for _ in range(_RUNS))
