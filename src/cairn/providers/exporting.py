"""A model as a GGUF file, for llama.cpp and what is built on it; an adapter as the folder that PEFT opens."""

import shutil
from pathlib import Path

from cairn.core.errors import ConflictError
from cairn.data import Tokenizer
from cairn.data.gguf_tokenizer_keys import gguf_tokenizer_keys
from cairn.models import DecoderConfig
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME
from cairn.models.generation import read_json
from cairn.models.gguf_export import GgufType, export_gguf
from cairn.providers.loading import ADAPTER
from cairn.registry import Artifact, Registry


def export_model(registry: Registry, ref: str, path: Path, weights: GgufType = "q8_0") -> Artifact:
    """Write the model or adapter that `ref` names to `path`; the artifact it was made from."""
    artifact = registry.get(ref)
    if artifact.kind == ADAPTER:
        if path.is_file():
            raise ConflictError(
                f"{path} is a file, {ref} is an adapter and becomes a folder", remedy="choose another path"
            )
        path.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            shutil.copyfile(artifact.folder / name, path / name)
        return artifact
    config = DecoderConfig.from_hf(read_json(artifact.folder / "config.json"))
    keys = gguf_tokenizer_keys(Tokenizer.load(artifact.folder), config.vocab_size)
    export_gguf(artifact.folder, path, weights, {"general.name": ref.partition(":")[0], **keys})
    return artifact
