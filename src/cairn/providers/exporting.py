"""A model as a GGUF file, with its tokenizer and chat template, for llama.cpp and what is built on it."""

from pathlib import Path

from cairn.data import Tokenizer
from cairn.data.gguf_tokenizer_keys import gguf_tokenizer_keys
from cairn.models import DecoderConfig
from cairn.models.generation import read_json
from cairn.models.gguf_export import GgufType, export_gguf
from cairn.registry import Artifact, Registry


def export_model(registry: Registry, ref: str, path: Path, weights: GgufType = "q8_0") -> Artifact:
    """Write the model that `ref` names to `path`; the artifact it was made from."""
    artifact = registry.get(ref)
    config = DecoderConfig.from_hf(read_json(artifact.folder / "config.json"))
    keys = gguf_tokenizer_keys(Tokenizer.load(artifact.folder), config.vocab_size)
    export_gguf(artifact.folder, path, weights, {"general.name": ref.partition(":")[0], **keys})
    return artifact
