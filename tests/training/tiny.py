"""A model and data small enough that a training run takes a second: bytes of a fixed text as tokens."""

import random
from pathlib import Path
from typing import Any

from cairn.data import PackedDataset, write_shards
from cairn.models import Decoder, DecoderConfig
from cairn.training import TrainConfig

WORDS = (
    *("a", "stone", "laid", "on", "another", "marks", "the", "way", "for", "whoever", "walks", "behind"),
    *("when", "path", "is", "lost", "look", "next", "heap", "and", "go", "until", "you", "are", "home"),
)


def text(num_words: int, seed: int = 0) -> bytes:
    """Words drawn from a small list: little entropy, so that a tiny model learns it."""
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS) for _ in range(num_words)).encode()


def dataset(
    folder: Path, *, seed: int = 0, num_documents: int = 48, length: int | None = None
) -> PackedDataset:
    """Byte-level documents of 10 to 60 words, or of exactly `length` tokens."""
    chooser = random.Random(seed)
    sizes = [chooser.randint(10, 60) for _ in range(num_documents)]
    documents = [text(size, seed * 1000 + place) for place, size in enumerate(sizes)]
    if length is not None:
        documents = [text(length, seed * 1000 + place)[:length] for place in range(num_documents)]
    write_shards(((list(document), None, len(document)) for document in documents), folder, vocab_size=256)
    return PackedDataset.open(folder)


def masked_dataset(folder: Path, *, num_documents: int = 24) -> PackedDataset:
    """Conversations in spirit: the first half of each document is not trained on."""
    documents = [text(12, place) for place in range(num_documents)]
    examples = ((list(d), [2 * i >= len(d) for i in range(len(d))], len(d)) for d in documents)
    write_shards(examples, folder, vocab_size=256)
    return PackedDataset.open(folder)


def model(*, seed: int = 0, **values: Any) -> Decoder:
    """A two-layer Llama of 32 channels over bytes."""
    sizes = {
        "model_type": "llama",
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
    }
    decoder = Decoder(DecoderConfig.from_hf({**sizes, **values}))
    decoder.init_weights(seed)
    return decoder


def config(**values: Any) -> TrainConfig:
    """Settings of a short run in float32 on one thread, every step logged."""
    base = {
        "batch_tokens": 512,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "log_every": 1,
        "dtype": "float32",
        "threads": 1,
        "loss_chunk_tokens": 100,
        "checkpoint_every_seconds": None,
    }
    length = {} if {"tokens", "epochs"} & set(values) else {"steps": 8}
    return TrainConfig(**{**base, **length, **values})
