"""engine: text inference, token ids in and token ids out.

Requests become sequences; the Scheduler decides who computes in a step, the BlockManager accounts
for the paged KV cache, a ModelRunner touches the device, the Sampler picks tokens. `Engine` is one
synchronous step of all that, `AsyncEngine` the thread and the streams around it. Text, templates
and stop strings stay outside.

`NativeRunner` computes on a CPU, in C++; `TorchRunner` is the reference, and the GPU's path. Importing
the room loads no torch; `TorchRunner` does when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cairn.engine.async_engine import AsyncEngine, TokenStream
from cairn.engine.block_manager import BlockManager
from cairn.engine.config import EngineConfig, ShareConfig
from cairn.engine.constraint import GrammarCompiler, Matcher
from cairn.engine.engine import Engine, EngineError, EngineStats
from cairn.engine.fair_queue import TenantStats
from cairn.engine.guidance import GuidanceCompiler
from cairn.engine.native_runner import NativeRunner
from cairn.engine.runner import Logits, ModelInput, ModelRunner
from cairn.engine.sampler import Sampler
from cairn.engine.scheduler import ScheduledBatch, Scheduler
from cairn.engine.sequence import (
    FailedOutput,
    PromptLogprob,
    PromptOutput,
    Request,
    Sequence,
    StepOutput,
    Timing,
    TokenOutput,
)

if TYPE_CHECKING:
    from cairn.engine.torch_runner import TorchRunner

__all__ = [
    "AsyncEngine",
    "BlockManager",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineStats",
    "FailedOutput",
    "GrammarCompiler",
    "GuidanceCompiler",
    "Logits",
    "Matcher",
    "ModelInput",
    "ModelRunner",
    "NativeRunner",
    "PromptLogprob",
    "PromptOutput",
    "Request",
    "Sampler",
    "ScheduledBatch",
    "Scheduler",
    "Sequence",
    "ShareConfig",
    "StepOutput",
    "TenantStats",
    "Timing",
    "TokenOutput",
    "TokenStream",
    "TorchRunner",
]


def __getattr__(name: str) -> Any:
    if name != "TorchRunner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("cairn.engine.torch_runner").TorchRunner
