"""providers: who answers. The local engine with its tokenizer and chat template, behind one protocol.

`LocalProvider` is the `ChatProvider` of an artifact: messages to token ids, engine, text again, stop
strings, tool calls, usage and a receipt that replays. Importing this room needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cairn.providers.loading import load_local_provider
    from cairn.providers.local import LocalProvider
    from cairn.providers.protocol import CompletionRequest, PromptEcho
    from cairn.providers.replay import Replay

_HOMES = {
    "CompletionRequest": "protocol",
    "LocalProvider": "local",
    "PromptEcho": "protocol",
    "Replay": "replay",
    "load_local_provider": "loading",
}

__all__ = ["CompletionRequest", "LocalProvider", "PromptEcho", "Replay", "load_local_provider"]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: loading a model needs far more than speaking of one."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
