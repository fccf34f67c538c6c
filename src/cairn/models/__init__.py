"""models: networks and the checkpoints they come in.

One decoder transformer whose config is data: GPT-2, Llama, Mistral, Qwen, Gemma, OLMo 2, SmolLM3,
Phi-3, Mixtral and the Qwen mixtures of experts are tables, not subclasses. The Hugging Face layout
is read and written both ways. Importing the room (and `DecoderConfig`) costs no torch; the network
and the checkpoint functions load it when they are first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cairn.models.config import DecoderConfig
from cairn.models.generation import GenerationDefaults, read_generation_defaults
from cairn.models.specs import AttentionSpec, ExpertsSpec, LayerSpec, RopeSpec

if TYPE_CHECKING:
    from cairn.models.attention import Attention, PackedAttention
    from cairn.models.checkpoint import load_decoder, save_decoder
    from cairn.models.decoder import Decoder

_HOMES = {
    "Attention": "attention",
    "PackedAttention": "attention",
    "Decoder": "decoder",
    "load_decoder": "checkpoint",
    "save_decoder": "checkpoint",
}

__all__ = [
    "Attention",
    "AttentionSpec",
    "Decoder",
    "DecoderConfig",
    "ExpertsSpec",
    "GenerationDefaults",
    "LayerSpec",
    "PackedAttention",
    "RopeSpec",
    "load_decoder",
    "read_generation_defaults",
    "save_decoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
