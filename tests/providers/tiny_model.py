"""A real decoder of a few thousand random weights as an artifact, tokenizer and template included."""

from typing import Any

import torch

from cairn.core.digests import canonical_json
from cairn.models import Decoder, DecoderConfig, save_decoder
from cairn.registry import Artifact, Registry
from tests.providers.scripted import CONTEXT, tiny_tokenizer


def tiny_config(vocab_size: int, end: int) -> DecoderConfig:
    """A Llama of two narrow layers."""
    return DecoderConfig.from_hf(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": vocab_size,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "initializer_range": 0.4,
            "eos_token_id": end,
        }
    )


def tiny_artifact(
    registry: Registry, *, name: str = "tiny", seed: int = 1, generation: dict[str, Any] | None = None
) -> Artifact:
    """Store the model and give it a name. `generation` replaces generation_config.json."""
    torch.set_num_threads(
        1
    )  # products this small only wait for a second thread, long when the machine is busy
    tokenizer = tiny_tokenizer()
    end, document_end = tokenizer.token_id("<|im_end|>"), tokenizer.eos_token_id
    assert end is not None
    model = Decoder(tiny_config(tokenizer.vocab_size, end))
    model.init_weights(seed)
    with registry.create("model", metadata={"seed": seed}) as writer:
        tokenizer.save(writer.folder)
        save_decoder(model, writer.folder)
        values = {"eos_token_id": [end, document_end]} if generation is None else generation
        (writer.folder / "generation_config.json").write_bytes(canonical_json(values))
        (writer.folder / "card.md").write_text("# Tiny\n\nRandom weights.\n")
    registry.set_alias(name, writer.artifact.digest)
    return writer.artifact
