"""What the engine asks of CUDA itself: work recorded once and started with one call; numbers on their way.

The only part of the engine that cannot run on a CPU. What is recorded are kernels with the addresses they
were started with, so whoever has work captured keeps its inputs and outputs in tensors that stay in place.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from cairn.engine.runner import IntArray

_log = logging.getLogger(__name__)

Work = Callable[[], None]
Capture = Callable[[Work], Work]


def arriving(tokens: Tensor) -> Callable[[], IntArray]:
    """Start to bring token ids [n] to the host; the call that waits for them."""
    if tokens.device.type == "cpu":
        return tokens.numpy
    host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
    host.copy_(tokens, non_blocking=True)
    event = torch.cuda.Event()
    event.record()

    def wait() -> IntArray:
        event.synchronize()
        found: IntArray = host.numpy()
        return found

    return wait


class GraphCapture:
    """A `Capture` for work that has run before. All graphs share one pool of memory: one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self.num_graphs = 0

    def __call__(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        # Other threads load models and adapters meanwhile; what they do is not in this graph.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        self.num_graphs += 1
        _log.info("recorded a graph of a decode step, %d so far", self.num_graphs)
        replay: Work = graph.replay
        return replay
